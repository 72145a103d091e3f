"""`outlast pool set`: what people may change of a pool while it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from outlast.cli.context import options, parse_span, print_json, say


def set_(
    ctx: typer.Context,
    timing: Annotated[
        str | None,
        typer.Option(metavar="PRESET", help="How soon a silent host counts as dead."),
    ] = None,
    moves_at_once: Annotated[
        int | None, typer.Option(help="Live migrations a host sends, and takes, at a time.")
    ] = None,
    move_rate: Annotated[
        int | None, typer.Option(metavar="MIB", help="MiB a second of each; 0 is no limit.")
    ] = None,
    move_connections: Annotated[
        int | None, typer.Option(help="Connections of each: more for fast networks, up to 16.")
    ] = None,
    cpu: Annotated[
        str | None,
        typer.Option(
            help="Which processor VMs see: what all hosts have (baseline), their host's own "
            "(host), or auto: baseline when all hosts have KVM."
        ),
    ] = None,
    admission: Annotated[
        str | None,
        typer.Option(help="Starts after which a host may not fail any more: off, warn, refuse."),
    ] = None,
    balance: Annotated[
        str | None,
        typer.Option(help="auto: even out the pool by live migrations; off: by hand only."),
    ] = None,
    balance_moves: Annotated[
        int | None, typer.Option(metavar="N", help="So many of them an hour at most.")
    ] = None,
    vcpu_ratio: Annotated[
        float | None, typer.Option(help="Virtual processors that a processor may carry.")
    ] = None,
    memory_ratio: Annotated[
        float | None, typer.Option(help="1: memory is never promised twice; 1.2: a fifth is.")
    ] = None,
    witness: Annotated[
        str | None,
        typer.Option(
            metavar="IP[,IP]",
            help="What hosts ping, such as the gateway: who reaches it stays when a pool splits.",
        ),
    ] = None,
    join: Annotated[
        str | None, typer.Option(help="Who may join: with a 'token', or 'anyone'.")
    ] = None,
    restarts: Annotated[
        int | None, typer.Option(help="So many restarts of one VM, then it stays down ...")
    ] = None,
    restart_window: Annotated[
        str | None, typer.Option(metavar="SPAN", help="... within this time: 10m, 1h.")
    ] = None,
) -> None:
    """Change the pool's settings, at once and on all hosts; without options: show them.

    \b
    Examples:
      outlast pool set
      outlast pool set --moves-at-once 4 --move-rate 500
      outlast pool set --cpu host
      outlast pool set --timing tolerant
      outlast pool set --witness 192.168.1.1,192.168.1.254
      outlast pool set --balance auto --balance-moves 10
    """
    from outlast.wire.shapes import PoolChange, make

    chosen = options(ctx)
    client = chosen.client()
    window_s = round(parse_span(restart_window)) if restart_window else None
    given = {
        "timing": timing,
        "moves_at_once": moves_at_once, "move_mib_s": move_rate, "cpu_mode": cpu, "join": join,
        "admission": admission, "vcpu_ratio": vcpu_ratio, "memory_ratio": memory_ratio,
        "move_connections": move_connections, "restart_limit": restarts,
        "restart_window_s": window_s, "balance": balance, "balance_moves_h": balance_moves,
        "witness": witness,
    }  # fmt: skip
    wanted = {name: value for name, value in given.items() if value is not None}
    if wanted:
        done = client.pool_set(make(PoolChange, **wanted))
        print_json(done) if chosen.json else say(done.sentence)
        return
    known = client.status().settings
    if chosen.json:
        print_json(known)
        return
    for name, value in known.model_dump().items():
        say(f"{name:18} {value}" if value != "" else f"{name:18} -")
