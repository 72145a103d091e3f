"""`outlast vm backup|restore|export`: VMs to folders and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.completing import Vm
from outlast.cli.context import options, print_json, say
from outlast.cli.image import RATE, Limit, On, PoolDir, rate_of
from outlast.cli.pool_files import folder_on, pool_dir_of
from outlast.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from outlast.cli.waiting import Tell
    from outlast.images.backups import Saved
    from outlast.images.pace import Progress
    from outlast.wire.client import AgentClient
    from outlast.wire.disk_client import DiskClient
    from outlast.wire.disks import BackupStatus
    from outlast.wire.shapes import VmWish


def backup(
    ctx: typer.Context,
    vm: Vm,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Outside the pool's storage.")],
    keep: Annotated[int, typer.Option(help="Delete older backups of it but the newest N.")] = 0,
    quiesce: Annotated[
        str, typer.Option(metavar="auto|yes|no", help="As for 'vm snapshot create'.")
    ] = "auto",
    limit: Limit = RATE,
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
    wish = make(
        BackupWish, folder=str(folder.absolute()), keep=keep, quiesce=quiesce,
        rate_bytes_s=rate_of(limit),
    )  # fmt: skip
    disks = DiskClient(chosen.client())
    disks.backup(vm, wish)
    with telling(chosen.json) as tell:
        done = _wait(disks, vm, tell)
    if chosen.json:
        print_json(done)
        return
    rest = "" if done.quiesced else ", as after a power cut (no guest agent answered)"
    say(f"{done.sentence}{rest}")
    for path in done.removed:
        say(f"  {path} is deleted")


def restore(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="One backup: where vm.json is.")],
    as_: Annotated[str, typer.Option("--as", metavar="NAME", help="Of the new VM.")] = "",
    on: On = "",
    limit: Limit = RATE,
    pool: PoolDir = None,
) -> None:
    """Make a new VM of a backup. The VM it was made of is not touched.

    \b
    It has the sizes and the hardware of the old one, without its host's devices; qcow2 disks, and
    new addresses of its network cards. Example:
      outlast vm restore /mnt/backup/db-20261125T030000Z --as db-restored
    """
    from outlast.cli.waiting import telling
    from outlast.images.backups import read
    from outlast.images.library import percent_of

    chosen = options(ctx)
    saved = read(folder.absolute())
    with telling(chosen.json) as tell:
        done = _restore(
            chosen.client(), pool_dir_of(pool), saved, as_ or saved.vm,
            (folder_on(on, pool), rate_of(limit)), percent_of(tell),
        )  # fmt: skip
    if chosen.json:
        print_json(done)
    else:
        say(f"{done.sentence} from a backup of {saved.vm}; start it: outlast vm start {done.name}")


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
    target = target.absolute()
    if format_ not in FORMATS:
        raise InvalidInput(f"the format {format_!r} is not known", hint=", ".join(FORMATS))
    if target.exists():
        raise Conflict(f"{target} exists already", hint="take another name")
    rate = rate_of(limit)
    disks = DiskClient(chosen.client())
    disks.backup(vm, make(BackupWish, folder=str(target.parent), rate_bytes_s=rate), here=True)
    with telling(chosen.json) as tell:
        copied = Path(_wait(disks, vm, tell).folder)
        try:
            made = copy_all(read(copied).files, target, format_, rate, percent_of(tell))
        finally:
            discard(copied)
    if chosen.json:
        print_json({"vm": vm, "files": [str(path) for path in made]})
    else:
        say(f"{vm} is in {', '.join(str(path) for path in made)}")


def _wait(disks: DiskClient, vm: str, tell: Tell) -> BackupStatus:
    from outlast.cli.waiting import follow

    return follow(lambda: disks.backup_status(vm), lambda: disks.give_up(vm), tell)


def _restore(
    client: AgentClient,
    pool_dir: Path,
    saved: Saved,
    name: str,
    how: tuple[Path | None, int],
    progress: Progress,
) -> VmWish:
    from outlast.images.clones import Source, Wanted, is_seed
    from outlast.images.making import make_vm
    from outlast.storage.names import check_name
    from outlast.wire.hardware import HardwareWish
    from outlast.wire.shapes import VmCreate, make

    check_name(name, "VM name")
    record, spec = saved.record, saved.record.spec

    def create(paths: list[str]) -> VmWish:
        wish = make(
            VmCreate, name=name, memory=spec.memory_mib << 20, vcpus=spec.vcpus,
            use_existing=True, networks=list(spec.networks), machine=spec.machine,
            disks=[
                {"path": path, "bus": disk.bus}
                for path, disk in zip(paths, saved.disks, strict=True)
            ],
            kernel=spec.kernel, initrd=spec.initrd, cmdline=spec.cmdline, ha=record.ha,
            on_shutdown=record.on_shutdown, hardware=HardwareWish.like(spec),
        )  # fmt: skip
        return client.create(wish)

    sizes = tuple(disk.virtual_bytes for disk in saved.disks)
    seeds = [number for number, disk in enumerate(spec.disks) if is_seed(disk.path)]
    source = Source(saved.files, sizes, lambda: None, seed=seeds[0] if seeds else -1)
    folder, rate = how
    wanted = Wanted(linked=False, rate_bytes_s=rate, folder=folder)
    return make_vm(pool_dir, name, source, wanted, create, progress)
