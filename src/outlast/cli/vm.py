"""`outlast vm ...`: VMs, by what they shall do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli import (
    adopting,
    backup,
    consoles,
    disk_moving,
    hardware,
    placing,
    scheduling,
    snapshot,
)
from outlast.cli.completing import vms
from outlast.cli.context import Options, options, print_error, print_json, say, stdout
from outlast.cli.image import On
from outlast.cli.watching import Watch, watching
from outlast.errors import OutlastError

if TYPE_CHECKING:
    from outlast.wire.client import AgentClient
    from outlast.wire.shapes import VmStatus, VmWish

app = typer.Typer(no_args_is_help=True, help="Create, start, stop, watch and delete VMs.")

START_S, STOP_S, KILL_S, MOVE_S = 120.0, 180.0, 60.0, 3600.0

Name = Annotated[str, typer.Argument(help="The VM's name.", autocompletion=vms)]
Names = Annotated[list[str], typer.Argument(help="One or more VMs.", autocompletion=vms)]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="a-z, 0-9 and -, at most 63.")],
    memory: Annotated[str, typer.Option(help="Like 512MiB or 4GiB.")],
    vcpus: Annotated[int, typer.Option(help="Processors.")] = 1,
    disk: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIZE|PATH|PATH=SIZE",
            help="A new disk of SIZE (images/NAME.raw), one of SIZE at PATH, or, with "
            "--use-existing, the file at PATH. A PATH that ends with .qcow2 is a disk that can "
            "keep snapshots. Repeat for more.",
        ),
    ] = None,
    on: On = "",
    use_existing: Annotated[
        bool, typer.Option("--use-existing", help="Take disk files that exist already as they are.")
    ] = False,
    kernel: Annotated[str, typer.Option(help="Boot this kernel (a path in the pool).")] = "",
    initrd: Annotated[str, typer.Option(help="With this initrd.")] = "",
    cmdline: Annotated[str, typer.Option(help="And this command line.")] = "",
    serial_log: Annotated[
        str, typer.Option(help="Write the serial port to this file, like logs/NAME.log.")
    ] = "",
    network: Annotated[
        list[str] | None, typer.Option(metavar="BRIDGE", help="A network card on BRIDGE.")
    ] = None,
    no_ha: Annotated[
        bool, typer.Option("--no-ha", help="Do not restart it after it died by itself.")
    ] = False,
    on_shutdown: Annotated[
        str,
        typer.Option(metavar="stay|restart", help="After the system inside has shut down."),
    ] = "stay",
    prefer: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Run only on these hosts. Repeat for more."),
    ] = None,
    priority: placing.Priority = None,
    start_order: placing.Order = None,
    start_delay: placing.Delay = None,
    ready: placing.Ready = None,
    like: placing.Likes = None,
    group: placing.Groups = None,
    firmware: hardware.Firmware = "bios",
    tpm: hardware.Tpm = False,
    watchdog: hardware.Watchdog = "",
    guest_agent: hardware.Channel = False,
    graphics: hardware.Graphics = "vnc",
    device: hardware.Devices = None,
    vcpus_max: hardware.Most = 0,
    memory_max: hardware.MostMemory = "",
    cpu: hardware.Cpu = "",
    start: Annotated[bool, typer.Option("--start", help="Start it at once.")] = False,
    wait: Wait = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait with --start.")] = START_S,
) -> None:
    """Define a new VM and make its disks.

    \b
    Examples:
      outlast vm create web --memory 2GiB --vcpus 2 --disk 20GiB --start
      outlast vm create db --memory 8GiB --disk images/db.qcow2 --use-existing
      outlast vm create app --memory 4GiB --disk images/app.qcow2=9GiB --prefer a --prefer b
      outlast vm create big --memory 4GiB --disk 900GiB --on archive
      outlast vm create win --memory 8GiB --disk 80GiB --firmware uefi-secure --tpm
    """
    from outlast.wire.shapes import VmCreate, make

    chosen = options(ctx)
    wish = make(
        VmCreate,
        name=name,
        memory=memory,
        vcpus=vcpus,
        disks=[_disk(text) | {"repository": on} for text in disk or []],
        use_existing=use_existing,
        kernel=kernel,
        initrd=initrd,
        cmdline=cmdline,
        serial_log=serial_log,
        networks=network or [],
        ha=not no_ha,
        on_shutdown=on_shutdown,
        preferred=prefer or [],
        hardware=hardware.wish(
            firmware, tpm, watchdog, guest_agent, graphics, device, vcpus_max, memory_max, cpu
        ),
        placing=placing.change_of(
            priority, start_order, start_delay, None, like, group, ready=ready
        ),
    )
    client = chosen.client()
    done = client.create(wish)
    if start:
        if not chosen.json:
            say(done.sentence)
        act(chosen, [name], client.start, {"running"}, wait, timeout)
    elif chosen.json:
        print_json(done)
    else:
        say(f"{done.sentence}; start it with: outlast vm start {name}")


@app.command()
def start(
    ctx: typer.Context,
    names: Names,
    wait: Wait = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = START_S,
) -> None:
    """Start VMs; the pool chooses the host and says why.

    \b
    Examples:
      outlast vm start web db
      outlast vm start web --no-wait
    """
    chosen = options(ctx)
    act(chosen, names, chosen.client().start, {"running"}, wait, timeout)


@app.command()
def stop(
    ctx: typer.Context,
    names: Names,
    wait: Wait = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = STOP_S,
) -> None:
    """Ask the systems inside to shut down. One that never obeys is ended by 'vm kill'.

    \b
    Example:
      outlast vm stop web --timeout 60 || outlast vm kill web
    """
    chosen = options(ctx)
    act(chosen, names, chosen.client().stop, {"stopped"}, wait, timeout)


@app.command()
def kill(
    ctx: typer.Context,
    names: Names,
    wait: Wait = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = KILL_S,
) -> None:
    """End VMs at once, as if their plug was pulled."""
    chosen = options(ctx)
    act(chosen, names, chosen.client().kill, {"stopped"}, wait, timeout)


@app.command()
def migrate(
    ctx: typer.Context,
    names: Names,
    to: Annotated[
        str, typer.Option(metavar="HOST", help="Where to; without it the pool chooses.")
    ] = "",
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Take the wish back; a move under way is given up.")
    ] = False,
    wait: Wait = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = MOVE_S,
) -> None:
    """Move running VMs to another host while they run, encrypted.

    \b
    Examples:
      outlast vm migrate web --to b
      outlast vm migrate web db
      outlast vm migrate web --cancel
    """
    chosen = options(ctx)
    client = chosen.client()
    if cancel:
        act(chosen, names, client.stay, {"running"}, False, timeout)
        return
    from outlast.cli.moving import wait_for_moves, wished

    there, done = wished(client, names, to)
    if wait:
        _print_states(chosen, wait_for_moves(client, there, timeout, quiet=chosen.json))
    else:
        _print_wishes(chosen, done)


@app.command()
def ha(
    ctx: typer.Context,
    name: Name,
    state: Annotated[str, typer.Argument(metavar="on|off", help="What it shall be.")],
    why: Annotated[str, typer.Option(help="Shown wherever the VM is.")] = "",
    span: Annotated[
        str, typer.Option("--for", metavar="SPAN", help="On again after 30m, 2h, 1d.")
    ] = "",
) -> None:
    """Switch a VM's restart after failures off for a while, or on again.

    \b
    Examples:
      outlast vm ha db off --why "restoring a backup" --for 2h
      outlast vm ha db on
    """
    from outlast.cli.context import ha_switch

    chosen = options(ctx)
    _print_wishes(chosen, [chosen.client().vm_ha(name, ha_switch(state, why, span))])


@app.command("list")
def list_(ctx: typer.Context, watch: Watch = False) -> None:
    """All VMs, where they run, and why those that don't do not."""
    from outlast.cli.render import vms_table

    chosen = options(ctx)
    client = chosen.client()
    if watch:
        watching(chosen, client.status, lambda found: vms_table(found.vms, time.time()))
    vms = client.vms()
    if chosen.json:
        print_json(vms)
    elif vms:
        stdout().print(vms_table(vms, time.time()))
    else:
        say("no VMs yet; see 'outlast vm create --help'")


@app.command()
def show(ctx: typer.Context, name: Name, watch: Watch = False) -> None:
    """One VM, all that is known of it, and what happened to it lately."""
    from outlast.cli.render import vm_view

    chosen = options(ctx)
    client = chosen.client()
    if watch:
        watching(chosen, lambda: client.vm(name, recent=20), lambda vm: vm_view(vm, time.time()))
    vm = client.vm(name, recent=20)
    print_json(vm) if chosen.json else stdout().print(vm_view(vm, time.time()))


@app.command()
def why(ctx: typer.Context, name: Name) -> None:
    """Why a VM runs where it runs, or does not: the notes that led to it, with their causes."""
    from outlast.cli.render import why_lines

    chosen = options(ctx)
    answer = chosen.client().why_vm(name)
    if chosen.json:
        print_json(answer)
        return
    for line in why_lines(answer):
        say(line)


@app.command()
def delete(
    ctx: typer.Context,
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="End it first if it runs.")] = False,
    with_disks: Annotated[
        bool, typer.Option("--with-disks", help="Delete its disk files as well.")
    ] = False,
) -> None:
    """Forget a VM. Its disk files stay unless --with-disks is given."""
    chosen = options(ctx)
    _print_wishes(chosen, [chosen.client().delete(name, force=force, with_disks=with_disks)])


def _disk(text: str) -> dict[str, object]:
    """One --disk: SIZE, PATH or PATH=SIZE."""
    from outlast.wire.sizes import is_size, parse_size

    path, equals, size = text.rpartition("=")
    if equals and path and (is_size(size) or size.isdigit()):
        return {"path": path, "size": parse_size(size)}
    if is_size(text) or text.isdigit():
        return {"size": parse_size(text)}
    return {"path": text}


def act(
    chosen: Options, names: list[str], wish: Callable[[str], VmWish], states: set[str],
    wait: bool, timeout_s: float,
) -> None:  # fmt: skip
    """Wish for all of them, then wait for those whose wish was taken; the first error counts."""
    taken: list[VmWish] = []
    failed: list[OutlastError] = []
    names = list(dict.fromkeys(names))
    for name in names:
        try:
            taken.append(wish(name))
        except OutlastError as error:
            failed.append(error)
    for other in failed[1:]:
        print_error(other, chosen.json)
    try:
        if taken and wait:
            found = _wait(chosen, chosen.client(), [w.name for w in taken], states, timeout_s)
            _print_states(chosen, found)
        elif taken:
            _print_wishes(chosen, taken)
    except OutlastError as error:
        if failed:
            print_error(error, chosen.json)
        else:
            raise
    if failed:
        raise failed[0]


# the help names commands in this order, create first
app.command()(consoles.console)
app.command()(consoles.screen)
app.command("set")(placing.set_)
app.command("move-disk")(disk_moving.move_disk)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(backup.export)
app.command()(adopting.adopt)
app.add_typer(snapshot.app, name="snapshot")
app.add_typer(scheduling.app, name="schedule")


def _wait(
    chosen: Options, client: AgentClient, names: list[str], states: set[str], timeout_s: float
) -> list[VmStatus]:
    from outlast.cli.waiting import telling, wait_for_vms

    with telling(chosen.json) as tell:
        return wait_for_vms(client, names, frozenset(states), timeout_s, tell)


def _print_states(chosen: Options, vms: list[VmStatus]) -> None:
    if chosen.json:
        print_json(vms)
        return
    for vm in vms:
        say(f"{vm.name}: {vm.sentence}")


def _print_wishes(chosen: Options, wishes: list[VmWish]) -> None:
    if chosen.json:
        print_json(wishes)
        return
    for wish in wishes:
        say(wish.sentence)
