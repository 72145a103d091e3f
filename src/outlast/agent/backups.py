"""Backups of VMs while they run or stand still, one at a time for each VM (jobs.py).

Rules:
1. Who may touch the disks is as for snapshots: the QEMU of a running VM here, or the holder of a
   stopped one's lease. The copy is slow on purpose.
2. A backup is seen only when it is whole. Older ones go only after that.
3. One that was broken off by the agent's end leaves a hidden folder, which the next backup there
   clears away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from outlast.agent.jobs import Job, Jobs
from outlast.agent.service import Service, existing
from outlast.agent.snapshots import quieted, runs_here
from outlast.errors import Conflict, InvalidInput, NotFound, StorageTrouble
from outlast.images import backups, qemu_img, work
from outlast.images.library import check_room
from outlast.images.look import backing_of
from outlast.images.pace import turn
from outlast.model import VmRecord
from outlast.storage.names import check_name
from outlast.wire.disks import BackupStatus, BackupWish

POLL_S = 0.3


class Backups:
    """Of one host. `begin` returns at once."""

    def __init__(self, service: Service, wall: Callable[[], float] = time.time) -> None:
        self._service, self._wall = service, wall
        self._jobs: Jobs[BackupStatus] = Jobs("backup")
        self.status, self.give_up = self._jobs.status, self._jobs.give_up

    def begin(self, vm: str, wish: BackupWish) -> BackupStatus:
        """Raises NotFound, Conflict, InvalidInput, PoolTrouble; what comes later is in `status`."""
        check_name(vm, "VM name")
        record = existing(self._service, vm)
        folder = _checked(Path(wish.folder), self._service.pool_dir)
        live = runs_here(self._service, vm)
        if not record.spec.disks:
            raise Conflict(f"'{vm}' has no disks, so there is nothing to back up")
        first = BackupStatus(vm=vm, state="running", sentence=f"the backup of {vm} begins")
        return self._jobs.begin(vm, first, lambda job: self._run(job, folder, wish, live), folder)

    # ---- in the thread

    def _run(self, job: Job[BackupStatus], folder: Path, wish: BackupWish, live: bool) -> None:
        vm = job.status.vm
        name = backups.name_of(vm, self._wall())
        _clear(folder, vm)
        with work.workplace(folder, name) as place:
            (place / "made").mkdir()
            act = self._copy_live if live else self._copy_still
            act(job, vm, place / "made", wish)
            work.publish(place, folder / name)
        removed = [str(path) for path in backups.prune(folder, vm, wish.keep)]
        job.tell(
            state="done", folder=str(folder / name), removed=removed,
            sentence=f"{vm} is backed up in {folder / name} on {self._service.picture.me.host}",
        )  # fmt: skip

    def _copy_live(self, job: Job[BackupStatus], vm: str, made: Path, wish: BackupWish) -> None:
        record = _with_files(existing(self._service, vm))
        paths = [disk.path for disk in record.spec.disks]
        check_room(made, sum(map(_taken, paths)))
        targets = {path: str(made / f"disk-{n}.qcow2") for n, path in enumerate(paths)}
        with quieted(self._service, vm, wish.quiesce) as still:
            copy = self._service.disks.backup(vm, targets, wish.rate_bytes_s)
        while not copy.wait(POLL_S):
            now = copy.progress()
            job.tell(
                sentence=f"copying the disks of {vm} while it runs",
                done_bytes=now.done_bytes, total_bytes=now.total_bytes,
            )  # fmt: skip
            if job.given_up.is_set():
                copy.abort()
        job.check()
        if copy.trouble:
            raise StorageTrouble(f"the disks of {vm} were not copied: {copy.trouble}")
        job.tell(quiesced=still)
        self._describe(made, record, running=True, quiesced=still)

    def _copy_still(self, job: Job[BackupStatus], vm: str, made: Path, wish: BackupWish) -> None:
        # first the turn: while it is waited for, the VM may be started
        with turn(lambda s: job.tell(sentence=s)), self._service.borrow(vm, "a backup") as borrowed:
            record = _with_files(borrowed.record)
            sizes = [
                qemu_img.needed_bytes(Path(disk.path), disk.format) for disk in record.spec.disks
            ]
            check_room(made, sum(sizes))
            for number, disk in enumerate(record.spec.disks):
                before = sum(sizes[:number])

                def percent(value: float, before: int = before, size: int = sizes[number]) -> None:
                    done = before + round(size * value / 100)
                    job.tell(
                        sentence=f"copying the disks of {vm}",
                        done_bytes=done, total_bytes=sum(sizes),
                    )  # fmt: skip
                    job.check()

                qemu_img.convert(
                    Path(disk.path), disk.format, made / f"disk-{number}.qcow2", "qcow2",
                    wish.rate_bytes_s, percent, borrowed.leave(),
                )  # fmt: skip
        job.tell(quiesced=True)
        self._describe(made, record, running=False, quiesced=True)

    def _describe(self, made: Path, record: VmRecord, *, running: bool, quiesced: bool) -> None:
        host = self._service.picture.me.host
        backups.describe(made, record, self._wall(), host, running=running, quiesced=quiesced)


def _taken(path: str) -> int:
    """What a disk takes on the storage, with what it lies over. Raises OSError."""
    file = Path(path)
    base = backing_of(file)
    return sum(p.stat().st_blocks * 512 for p in [file, *([file.parent / base] if base else [])])


def _checked(folder: Path, pool_dir: str) -> Path:
    """Raises InvalidInput for what is no place for backups, NotFound."""
    if not folder.is_absolute():
        raise InvalidInput(f"{folder} is no absolute path")
    if not folder.is_dir():
        raise NotFound(
            f"there is no folder {folder} on this host", hint="is the backup storage mounted?"
        )
    if folder.resolve().is_relative_to(Path(pool_dir).resolve()):
        raise InvalidInput(
            f"{folder} is on the pool's own storage, and would be lost with it",
            hint="name a folder elsewhere",
        )
    return folder


def _clear(folder: Path, vm: str) -> None:
    """Take away what broken backups of this VM left there."""
    for left in work.leftovers(folder):
        if left.name.startswith(f"{vm}-") and not left.alive:
            work.forget(left)


def _with_files(record: VmRecord) -> VmRecord:
    """The record itself. Raises InvalidInput when not all of its disks can be read here."""
    if any(disk.kind == "rbd" for disk in record.spec.disks):
        raise InvalidInput(
            f"{record.spec.name} has disks on RBD, which are not backed up from here",
            hint="rbd snap create, or rbd export",
        )
    return record
