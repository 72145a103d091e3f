"""`outlast host remove`: a host is no host any more; its VMs move away first."""

from __future__ import annotations

from typing import Annotated

import typer

from outlast.cli.completing import hosts
from outlast.cli.context import options, print_json, say
from outlast.errors import NotFound, PoolTrouble

EMPTY_S = 3600.0


def remove(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The host's name.", autocompletion=hosts)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for each part.")] = EMPTY_S,
) -> None:
    """Take a host out of the pool for good: move its VMs away, let it leave, free its slot.

    A host that is dead is removed at once. Another machine may join with its name then.
    The machine itself stays on, runs no VMs, and keeps its certificates until they are revoked.

    \b
    Example:
      outlast host remove b && outlast pool revoke b --pool /srv/pool
    """
    from outlast.cli import maintaining

    chosen = options(ctx)
    client = chosen.client()
    status = client.status()
    found = maintaining.host_of(status, name)
    if found is None:
        raise NotFound(f"there is no host '{name}' in this pool", hint="see 'outlast host list'")
    member = found.state == "member"
    lines = maintaining.plan_of(client, status, name) if member else [found.sentence]
    maintaining.ask(chosen, lines, f"Remove {name} from the pool for good?", yes=yes)
    if member:
        client.maintain(name, "it leaves the pool")
        left = maintaining.wait_empty(client, name, timeout, quiet=chosen.json)
        if left:
            names = ", ".join(vm.name for vm in left)
            raise PoolTrouble(f"{name} stays: {names} cannot move", hint="see 'outlast vm list'")
        client.leave(name)
        maintaining.wait_off(client, name, timeout, quiet=chosen.json)
    done = client.remove_host(name)
    if chosen.json:
        print_json(done)
        return
    say(done.sentence)
    say(f"its certificates are good until 'outlast pool revoke {name} --pool DIR'")
