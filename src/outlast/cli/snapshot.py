"""`outlast vm snapshot ...`: what a VM's disks held at a moment."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from outlast.cli.completing import Vm
from outlast.cli.context import options, print_json, say, stdout

app = typer.Typer(
    no_args_is_help=True,
    help="Keep what a VM's disks hold now, and go back to it later. For qcow2 disks.",
)

Name = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="The snapshot's name.")]


@app.command()
def create(
    ctx: typer.Context,
    vm: Vm,
    name: Name,
    quiesce: Annotated[
        str,
        typer.Option(
            metavar="auto|yes|no",
            help="Bring its file systems to rest through the guest agent: if there is one, "
            "always (else refuse), or not.",
        ),
    ] = "auto",
) -> None:
    """Keep what its disks hold now. It may run meanwhile; its memory is not kept.

    \b
    Examples:
      outlast vm snapshot create web before-upgrade
      outlast vm snapshot create db nightly --quiesce yes
    """
    from outlast.wire.disk_client import DiskClient
    from outlast.wire.disks import SnapshotWish
    from outlast.wire.shapes import make

    chosen = options(ctx)
    wish = make(SnapshotWish, name=name, quiesce=quiesce)
    done = DiskClient(chosen.client()).snapshot(vm, wish)
    print_json(done) if chosen.json else say(done.sentence)


@app.command("list")
def list_(ctx: typer.Context, vm: Vm) -> None:
    """Its snapshots, oldest first."""
    from rich.table import Table

    from outlast.wire.disk_client import DiskClient

    chosen = options(ctx)
    found = DiskClient(chosen.client()).snapshots(vm)
    if chosen.json:
        print_json(found)
        return
    if not found:
        say(f"{vm} has no snapshots")
        return
    table = Table("SNAPSHOT", "TAKEN", "", box=None)
    for one in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.taken_wall_s))
        table.add_row(one.name, when, "" if one.whole else "not on all of its disks")
    stdout().print(table)


@app.command()
def revert(ctx: typer.Context, vm: Vm, name: Name) -> None:
    """Go back to a snapshot; what was written since is lost. The VM must be stopped.

    \b
    Example:
      outlast vm stop web && outlast vm snapshot revert web before-upgrade
    """
    from outlast.wire.disk_client import DiskClient

    chosen = options(ctx)
    done = DiskClient(chosen.client()).revert(vm, name)
    print_json(done) if chosen.json else say(done.sentence)


@app.command()
def remove(ctx: typer.Context, vm: Vm, name: Name) -> None:
    """Forget a snapshot; its room is used again by the disk. What the disk holds now stays."""
    from outlast.wire.disk_client import DiskClient

    chosen = options(ctx)
    done = DiskClient(chosen.client()).forget(vm, name)
    print_json(done) if chosen.json else say(done.sentence)
