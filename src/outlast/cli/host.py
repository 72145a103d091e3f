"""`outlast host ...`: machines that run VMs."""

from __future__ import annotations

import getpass
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.completing import hosts
from outlast.cli.context import Options, options, parse_span, print_json, say, stdout, warn
from outlast.cli.etcd import PKI, Pki, Urls, access_of
from outlast.cli.watching import Watch, watching
from outlast.errors import InvalidInput, PoolTrouble

if TYPE_CHECKING:
    from outlast.equipment import JoinToken

app = typer.Typer(no_args_is_help=True, help="Join machines to a pool and look at them.")

WAIT_S = 120.0
EMPTY_S = 3600.0


@app.command()
def join(
    ctx: typer.Context,
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="The pool's directory, mounted here; with --etcd of this host alone.",
        ),
    ],
    name: Annotated[str, typer.Option(help="Default: this machine's host name.")] = "",
    address: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IP[:PORT]",
            help="For heartbeats; one for each network. Default: that of the default route.",
        ),
    ] = None,
    api_address: Annotated[
        str, typer.Option(metavar="IP[:PORT]", help="For the API. Default: the first address.")
    ] = "",
    migration_address: Annotated[
        str, typer.Option(metavar="IP", help="For VMs that move here. Default: the first address.")
    ] = "",
    no_vms: Annotated[
        bool, typer.Option("--no-vms", help="Run none here: a dedicated master.")
    ] = False,
    reset: Annotated[
        str, typer.Option(help="How it is reset if it must be: auto, watchdog, sysrq, none.")
    ] = "auto",
    watchdog_device: Annotated[str, typer.Option(help="The watchdog.")] = "/dev/watchdog",
    accelerator: Annotated[str, typer.Option(help="auto, kvm or tcg.")] = "auto",
    libvirt_uri: Annotated[str, typer.Option(help="This host's libvirt.")] = "qemu:///system",
    qemu: Annotated[str, typer.Option(help="The emulator.")] = "/usr/bin/qemu-system-x86_64",
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="What VMs may use, like 60GiB. Default: all.")
    ] = "",
    vcpus: Annotated[int, typer.Option(min=0, help="The same of processors; 0 is all.")] = 0,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With a token; '-' is stdin. Default: you are asked."),
    ] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="First what 'outlast host prepare' does.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is a member.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = WAIT_S,
    etcd: Urls = None,
    etcd_pki: Pki = PKI,
    pool: Annotated[str, typer.Option(help="Which, when etcd holds several.")] = "",
) -> None:
    """Make this machine a host of the pool in DIR.

    From the second host on this takes a token: 'outlast host token' on a host makes one.

    \b
    Examples:
      outlast host join /srv/pool --prepare
      outlast host join /srv/pool --name a --address 10.0.0.5 --address 10.1.0.5
      outlast host join /srv/pool --no-vms
      outlast host join /var/lib/outlast/pool --etcd https://10.0.0.1:2379
    """
    from outlast.cli import joining, machine, preparing, this_host
    from outlast.cli.waiting import telling, wait_for_host
    from outlast.wire.sizes import MIB, parse_size

    chosen = options(ctx)
    wish = joining.Wish(
        directory, name, tuple(address or ()), api_address, no_vms, reset, watchdog_device,
        accelerator, libvirt_uri, qemu, parse_size(memory) // MIB if memory else 0, vcpus,
        token_file, access_of(etcd, etcd_pki, pool) if etcd else None, migration_address,
    )  # fmt: skip
    if prepare:
        for line in preparing.carry_out(preparing.plan()):
            warn(f"note: {line}")
    with telling(chosen.json) as tell:
        made, settings, warnings = joining.join(wish, this_host.places(), tell)
    for line in [*warnings, *machine.libvirt_settings()]:
        warn(line)
    if machine.libvirt_settings():
        warn("'outlast host prepare' does that")
    if not chosen.json:
        say(f"{made.host} has joined pool {settings.name} as slot {made.slot}")
    not_started = machine.start_services()
    if not_started:
        warn(f"note: {not_started}")
    if wait:
        with telling(chosen.json) as tell:
            status = wait_for_host(chosen.client(), made.host, timeout, tell)
        if not chosen.json:
            say(f"{made.host} is a member; view {status.view}, master {status.master}")
    if chosen.json:
        print_json(
            {"host": made.host, "slot": made.slot, "generation": made.generation,
             "uuid": made.uuid, "pool": settings.name, "member": wait}
        )  # fmt: skip


@app.command()
def token(
    ctx: typer.Context,
    pool_dir: Annotated[
        Path | None,
        typer.Option("--pool", metavar="DIR", help="Its directory. Default: this host's pool."),
    ] = None,
    name: Annotated[str, typer.Option(help="Good for a host of this name only.")] = "",
    span: Annotated[str, typer.Option("--for", help="Good for so long: 30m, 1h, 2d.")] = "1h",
    list_all: Annotated[bool, typer.Option("--list", help="The tokens there are.")] = False,
    revoke: Annotated[str, typer.Option(metavar="ID", help="Take one back.")] = "",
) -> None:
    """A token that lets one machine join the pool, once. It is a secret until it was used.

    \b
    Examples:
      outlast host token                   then 'outlast host join DIR' over there asks for it
      outlast host token --name d --for 2d
      outlast host token --list
      outlast host token --revoke 3f2a90b1
    """
    from outlast.cli import this_host, tokens

    chosen = options(ctx)
    pool, register = this_host.opened(pool_dir, this_host.places())
    if list_all:
        _list_tokens(chosen, tokens.known(register))
    elif revoke:
        gone = tokens.revoke(register, revoke)
        print_json({"revoked": gone.id}) if chosen.json else say(f"token {gone.id} is worthless")
    else:
        by = os.environ.get("SUDO_USER") or getpass.getuser()
        made, until = tokens.issue(pool, register, name, by, round(parse_span(span)))
        if chosen.json:
            print_json({"token": str(made), "id": made.id, "until_wall_s": until})
            return
        say(str(made))
        warn(f"good once, for {span}; over there: outlast host join {pool.root}")


def _list_tokens(chosen: Options, known: list[JoinToken]) -> None:
    if chosen.json:
        shown = ({k: v for k, v in asdict(t).items() if k != "secret_hash"} for t in known)
        print_json({"tokens": list(shown)})
        return
    for one in known:
        until = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.until_wall_s))
        over = "over" if one.until_wall_s <= time.time() else f"good until {until}"
        state = f"used by {one.used_by}" if one.used_by else over
        say(f"{one.id}  {state:28} made by {one.by}{f', for {one.host}' if one.host else ''}")
    if not known:
        say("there are no tokens")


HostName = Annotated[str, typer.Argument(help="The host's name.", autocompletion=hosts)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command()
def maintain(
    ctx: typer.Context,
    name: HostName,
    why: Annotated[str, typer.Option(help="Said wherever the host is shown.")] = "",
    yes: Yes = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is empty.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = EMPTY_S,
) -> None:
    """Move all VMs away while they run, and let the host run none until 'host resume'.

    \b
    Examples:
      outlast host maintain b --why "more memory"
      outlast host maintain b --yes --timeout 600
    """
    from outlast.cli import maintaining
    from outlast.cli.moving import told

    chosen = options(ctx)
    client = chosen.client()
    lines = maintaining.plan_of(client, client.status(), name)
    maintaining.ask(chosen, lines, f"Put {name} into maintenance?", yes=yes)
    done = client.maintain(name, why)
    if not wait:
        print_json(done) if chosen.json else say(done.sentence)
        return
    left = maintaining.wait_empty(client, name, timeout, quiet=chosen.json)
    if chosen.json:
        print_json({"host": name, "left": [vm.model_dump() for vm in left]})
    elif not left:
        say(f"{name} is in maintenance and runs no VMs")
    for vm in left:
        warn(told(vm))
    if left:
        raise PoolTrouble(
            f"{len(left)} VMs stay on {name}", hint="they are tried again when there is room"
        )


@app.command()
def resume(
    ctx: typer.Context,
    name: HostName,
    bring_back: Annotated[
        bool, typer.Option("--bring-back", help="Move back what moved away for it.")
    ] = False,
) -> None:
    """End a host's maintenance: it takes VMs again.

    \b
    Example:
      outlast host resume b --bring-back
    """
    chosen = options(ctx)
    done = chosen.client().serve(name, bring_back=bring_back)
    print_json(done) if chosen.json else say(done.sentence)


@app.command("power-off")
def power_off(
    ctx: typer.Context,
    name: HostName,
    migrate: Annotated[
        str,
        typer.Option(metavar="all|VM,VM", help="Move these away first; 'all' is maintenance."),
    ] = "",
    stop: Annotated[
        bool, typer.Option("--stop", help="Shut its VMs down first, for good.")
    ] = False,
    yes: Yes = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for each part.")] = EMPTY_S,
) -> None:
    """Switch a host off. VMs that were not moved start elsewhere at once.

    Nobody waits for the host's silence: it says on the storage that it leaves.

    \b
    Examples:
      outlast host power-off b --migrate all
      outlast host power-off b --migrate db,web
      outlast host power-off b --stop
    """
    from outlast.cli import maintaining
    from outlast.cli.moving import wait_for_moves, wished
    from outlast.cli.waiting import telling, wait_for_vms

    chosen = options(ctx)
    client = chosen.client()
    if migrate and stop:
        raise InvalidInput("either --migrate or --stop", hint="outlast host power-off --help")
    status = client.status()
    here = [vm for vm in status.vms if vm.host == name]
    if migrate == "all":
        lines = maintaining.plan_of(client, status, name)
    else:
        chosen_ones = set(migrate.split(",")) if migrate else set()
        what = "is shut down" if stop else "starts elsewhere"
        lines = [f"  {vm.name} {'moves' if vm.name in chosen_ones else what}" for vm in here] or [
            f"{name} runs no VMs"
        ]
    maintaining.ask(chosen, lines, f"Switch {name} off?", yes=yes)
    if migrate == "all":
        client.maintain(name, "it is switched off")
        left = maintaining.wait_empty(client, name, timeout, quiet=chosen.json)
        if left:
            names = ", ".join(vm.name for vm in left)
            raise PoolTrouble(f"{name} stays on: {names} cannot move", hint="see 'outlast vm list'")
    elif migrate:
        there, _ = wished(client, migrate.split(","))
        wait_for_moves(client, there, timeout, quiet=chosen.json)
    elif stop and here:
        for vm in here:
            client.stop(vm.name)
        with telling(chosen.json) as tell:
            states = frozenset({"stopped"})
            wait_for_vms(client, [vm.name for vm in here], states, timeout, tell)
    done = client.power_off(name)
    maintaining.wait_off(client, name, timeout, quiet=chosen.json)
    print_json(done) if chosen.json else say(f"{name} has left the pool and is switched off")


@app.command("power-on")
def power_on(
    ctx: typer.Context,
    name: HostName,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is a member.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 600.0,
) -> None:
    """Wake a host that is off, over the network (Wake-on-LAN, which its BIOS must allow).

    \b
    Example:
      outlast host power-on b
    """
    from outlast.cli import maintaining

    chosen = options(ctx)
    client = chosen.client()
    done = client.power_on(name)
    if wait and done.changed:
        maintaining.wait_on(client, name, timeout, quiet=chosen.json)
        done = done.model_copy(update={"sentence": f"{name} is on and a member again"})
    print_json(done) if chosen.json else say(done.sentence)


@app.command()
def renew(ctx: typer.Context) -> None:
    """New certificates for this machine, while everything runs. The old ones stay good.

    \b
    Example, after a key may have leaked:
      outlast host renew && outlast pool revoke b --pool /srv/pool --but-newest
    """
    from outlast.cli import this_host

    chosen = options(ctx)
    host, warnings = this_host.renew(this_host.places())
    for line in warnings:
        warn(line)
    if chosen.json:
        print_json({"host": host, "renewed": True})
    else:
        say(f"{host} has new certificates; its agent takes them within seconds")


@app.command("list")
def list_(ctx: typer.Context, watch: Watch = False) -> None:
    """All hosts, their states, and who hears whom."""
    from outlast.cli.render import hosts_table

    chosen = options(ctx)
    client = chosen.client()
    if watch:
        watching(chosen, client.status, lambda found: hosts_table(found.hosts))
    status = client.status()
    if chosen.json:
        print_json(status.hosts)
        return
    if status.hosts:
        stdout().print(hosts_table(status.hosts))
    if status.trouble:
        warn(f"trouble: {status.trouble}")


@app.command()
def why(
    ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="The host.")]
) -> None:
    """Why a host is a member, silent, or out: the notes that led to it, with their causes."""
    from outlast.cli.render import why_lines

    chosen = options(ctx)
    answer = chosen.client().why_host(name)
    if chosen.json:
        print_json(answer)
        return
    for line in why_lines(answer):
        say(line)
