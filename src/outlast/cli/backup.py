"""`outlast vm backup|restore|export`: VMs to folders and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.completing import Vm
from outlast.cli.context import Options, options, print_json, say
from outlast.cli.image import RATE, Limit, On, rate_of
from outlast.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlast.cli.waiting import Tell
    from outlast.wire.disk_client import DiskClient
    from outlast.wire.disks import BackupStatus


Cancel = Annotated[bool, typer.Option("--cancel", help="Break off one that is under way.")]


def backup(
    ctx: typer.Context,
    vm: Vm,
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Outside the pool's storage.")
    ] = None,
    keep: Annotated[int, typer.Option(help="Delete older backups of it but the newest N.")] = 0,
    quiesce: Annotated[
        str, typer.Option(metavar="auto|yes|no", help="As for 'vm snapshot create'.")
    ] = "auto",
    limit: Limit = RATE,
    cancel: Cancel = False,
) -> None:
    """Copy a VM into a folder of the VM's host, while it runs or stands still.

    \b
    Each backup is a folder of its own that is seen when it is whole; Ctrl-C breaks it off. For one
    every night, from a timer or cron:
      outlast vm backup db /mnt/backup --keep 7 --quiesce yes
    """
    from outlast.cli.waiting import telling
    from outlast.wire.disk_client import DiskClient
    from outlast.wire.disks import BackupWish
    from outlast.wire.shapes import make

    chosen = options(ctx)
    disks = DiskClient(chosen.client())
    if cancel:
        ended = disks.give_up(vm)
        print_json(ended) if chosen.json else say(f"the backup of {vm} is broken off")
        return
    if folder is None:
        raise InvalidInput("where to?", hint="outlast vm backup --help")
    wish = make(
        BackupWish, folder=_there(chosen, folder), keep=keep, quiesce=quiesce,
        rate_bytes_s=rate_of(limit),
    )  # fmt: skip
    with telling(chosen.json) as tell:
        done = _follow(disks, vm, lambda: disks.backup(vm, wish), tell)
    if chosen.json:
        print_json(done)
        return
    rest = "" if done.quiesced else ", as after a power cut (no guest agent answered)"
    say(f"{done.sentence}{rest}")
    for path in done.removed:
        say(f"  {path} is deleted")


def restore(
    ctx: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="One backup: where vm.json is.")
    ] = Path(),
    as_: Annotated[
        str, typer.Option("--as", metavar="NAME", help="Of the new VM. Default: as the old one.")
    ] = "",
    on: On = "",
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Whose folder. Default: the one that answers.")
    ] = "",
    limit: Limit = RATE,
    cancel: Cancel = False,
) -> None:
    """Make a new VM of a backup. The VM it was made of is not touched.

    \b
    It has the sizes and the hardware of the old one, without its host's devices; qcow2 disks, and
    new addresses of its network cards. Ctrl-C breaks it off. Example:
      outlast vm restore /mnt/backup/db-20261125T030000Z --as db-restored
    """
    from outlast.cli.waiting import follow, telling
    from outlast.images.backups import vm_of
    from outlast.wire.backups import BackupClient, RestoreWish
    from outlast.wire.shapes import make

    chosen = options(ctx)
    name = as_ or vm_of(folder.name)
    if not name:
        raise InvalidInput(f"{folder} does not say of which VM it is", hint="--as names the new VM")
    backups = BackupClient(chosen.client())
    if cancel:
        ended = backups.restore_no_more(name, host)
        print_json(ended) if chosen.json else say(f"{name} is not made")
        return
    wish = make(RestoreWish, folder=_there(chosen, folder), storage=on, rate_bytes_s=rate_of(limit))
    with telling(chosen.json) as tell:
        done = follow(
            lambda: backups.restore(name, wish, host), lambda: backups.restoring(name, host),
            lambda: backups.restore_no_more(name, host), tell,
        )  # fmt: skip
    if chosen.json:
        print_json(done)
    else:
        say(f"{done.sentence}; start it: outlast vm start {name}")


def export(
    ctx: typer.Context,
    vm: Vm,
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Outside the pool's storage.")],
    format_: Annotated[
        str, typer.Option("--format", metavar="qcow2|raw|vmdk", help="Of the new file.")
    ] = "qcow2",
    limit: Limit = RATE,
) -> None:
    """Copy a VM's disks into files, for use elsewhere. Further disks become FILE-2 and so on.

    \b
    Run it on the VM's host. It needs room for the copy twice for a moment. Example:
      outlast vm export web /mnt/usb/web.vmdk --format vmdk
    """
    from outlast.cli.waiting import telling
    from outlast.images.backups import read
    from outlast.images.library import FORMATS, copy_all, percent_of
    from outlast.images.work import discard
    from outlast.wire.disk_client import DiskClient
    from outlast.wire.disks import BackupWish
    from outlast.wire.shapes import make

    chosen = options(ctx)
    if not chosen.here:
        raise InvalidInput(
            "an export is a file of the VM's host", hint="run it there, without --agent or a login"
        )
    target = target.absolute()
    if format_ not in FORMATS:
        raise InvalidInput(f"the format {format_!r} is not known", hint=", ".join(FORMATS))
    if target.exists():
        raise Conflict(f"{target} exists already", hint="take another name")
    rate = rate_of(limit)
    disks = DiskClient(chosen.client())
    wish = make(BackupWish, folder=str(target.parent), rate_bytes_s=rate)
    with telling(chosen.json) as tell:
        done = _follow(disks, vm, lambda: disks.backup(vm, wish, here=True), tell)
        copied = Path(done.folder)
        try:
            made = copy_all(read(copied).files, target, format_, rate, percent_of(tell))
        finally:
            discard(copied)
    if chosen.json:
        print_json({"vm": vm, "files": [str(path) for path in made]})
    else:
        say(f"{vm} is in {', '.join(str(path) for path in made)}")


def _follow(disks: DiskClient, vm: str, begin: Callable[[], object], tell: Tell) -> BackupStatus:
    from outlast.cli.waiting import follow

    return follow(begin, lambda: disks.backup_status(vm), lambda: disks.give_up(vm), tell)


def _there(chosen: Options, folder: Path) -> str:
    """A folder of a host: from elsewhere, nothing here says what a short name stands for."""
    return str(folder.absolute() if chosen.here else folder)
