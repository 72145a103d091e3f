"""`outlast vm move-disk`: a disk to another storage repository, while its VM runs."""

from __future__ import annotations

from typing import Annotated

import typer

from outlast.cli.completing import Vm
from outlast.cli.context import options, print_json, say
from outlast.cli.image import RATE, Limit, rate_of
from outlast.equipment import OWN_STORAGE


def move_disk(
    ctx: typer.Context,
    vm: Vm,
    to: Annotated[
        str,
        typer.Option(metavar="STORAGE", help=f"Where to; {OWN_STORAGE}: the pool's own storage."),
    ] = "",
    disk: Annotated[int, typer.Option(metavar="N", help="Its first, second, ... disk.")] = 1,
    limit: Limit = RATE,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Give up a move that is under way.")
    ] = False,
) -> None:
    """Move a VM's disk to another storage, while it runs or stands still.

    \b
    Broken off at any moment, the disk is where it was, or where it shall be, whole. The VM stands
    still for a moment when it changes over. Ctrl-C gives up. Examples:
      outlast vm move-disk db --to fast
      outlast vm move-disk db --disk 2 --to pool --limit 100MiB
    """
    from outlast.cli.waiting import follow, telling
    from outlast.errors import InvalidInput
    from outlast.wire.disk_client import DiskClient
    from outlast.wire.disks import DiskMoveWish
    from outlast.wire.shapes import make

    chosen = options(ctx)
    disks = DiskClient(chosen.client())
    if cancel:
        done = disks.give_disk_move_up(vm)
    elif not to:
        raise InvalidInput("where to?", hint="outlast storage list; outlast vm move-disk --help")
    else:
        where = "" if to == OWN_STORAGE else to
        wish = make(DiskMoveWish, to=where, disk=disk, rate_bytes_s=rate_of(limit))
        with telling(chosen.json) as tell:
            done = follow(
                lambda: disks.move_disk(vm, wish), lambda: disks.disk_move_status(vm),
                lambda: disks.give_disk_move_up(vm), tell,
            )  # fmt: skip
    print_json(done) if chosen.json else say(done.sentence)
