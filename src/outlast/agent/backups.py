"""Backups of VMs while they run or stand still, one at a time for each VM (jobs.py).

Rules:
1. A backup is seen only when it is whole. Older ones go only after that.
2. One that was broken off by the agent's end leaves a hidden folder, which the next backup there
   clears away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from outlast.agent.copying import check_disks, copy_disks
from outlast.agent.jobs import Job, Jobs
from outlast.agent.service import Service, existing
from outlast.agent.snapshots import runs_here
from outlast.errors import InvalidInput, NotFound
from outlast.images import backups, work
from outlast.storage.names import check_name
from outlast.wire.disks import BackupStatus, BackupWish


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
        check_disks(record)
        first = BackupStatus(vm=vm, state="running", sentence=f"the backup of {vm} begins")
        return self._jobs.begin(vm, first, lambda job: self._run(job, folder, wish, live), folder)

    # ---- in the thread

    def _run(self, job: Job[BackupStatus], folder: Path, wish: BackupWish, live: bool) -> None:
        vm = job.status.vm
        name = backups.name_of(vm, self._wall())
        _clear(folder, vm)
        with work.workplace(folder, name) as place:
            made = place / "made"
            made.mkdir()
            copied = copy_disks(
                self._service, job, vm, made, "a backup", live=live, quiesce=wish.quiesce,
                rate=wish.rate_bytes_s,
            )  # fmt: skip
            job.tell(quiesced=copied.quiesced)
            backups.describe(
                made, copied.record, self._wall(), self._service.picture.me.host,
                running=copied.running, quiesced=copied.quiesced,
            )  # fmt: skip
            work.publish(place, folder / name)
        removed = [str(path) for path in backups.prune(folder, vm, wish.keep)]
        job.tell(
            state="done", folder=str(folder / name), removed=removed,
            sentence=f"{vm} is backed up in {folder / name} on {self._service.picture.me.host}",
        )  # fmt: skip


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
