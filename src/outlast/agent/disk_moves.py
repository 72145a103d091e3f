"""A disk goes to another storage repository, while its VM runs or stands still.

Rules:
1. The VM's record says which file is the disk; nothing else does. What is under way stands in it
   first (`disk_move`), so that whoever finds the two files later knows which one is nobody's.
2. While the VM runs, its QEMU mirrors the disk. When both files are level the VM is held, QEMU
   changes over, the record is written, and only when that is known does the VM go on. So whenever
   this host dies, the file that the record names has every write that was acknowledged.
3. The disk of a stopped VM is copied under its lease (disk_work.py).
4. What was broken off, by an agent's death too, is settled by the host that holds the lease, or by
   the master when nobody does: QEMU's word decides for a VM that runs, the record for others.
5. Snapshots inside a disk would not come along, so a disk that has some does not move.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from outlast.agent.jobs import Job, Jobs
from outlast.agent.service import Service, existing
from outlast.agent.snapshots import runs_here
from outlast.agent.wishes import Wishes
from outlast.errors import Conflict, HypervisorTrouble, InvalidInput, OutlastError, StorageTrouble
from outlast.images import look, qemu_img
from outlast.images.library import check_room
from outlast.images.pace import QemuCopy, turn
from outlast.model import Disk, DiskMove, Lease, VmRecord
from outlast.mounts.registry import repositories
from outlast.pool.facts import Facts
from outlast.wire.disks import DiskMoveStatus, DiskMoveWish

POLL_S, LEVEL_S = 0.2, 20.0
IMAGES = "images"
BUSY = "disk-move"


class DiskMoves:
    """Of one host. `begin` returns at once; `look` settles what was broken off."""

    def __init__(self, service: Service, wishes: Wishes) -> None:
        self._service, self._wishes = service, wishes
        self._jobs: Jobs[DiskMoveStatus] = Jobs("move of a disk")
        self.status, self.give_up = self._jobs.status, self._jobs.give_up

    def begin(self, vm: str, wish: DiskMoveWish) -> DiskMoveStatus:
        """Raises NotFound, Conflict, InvalidInput, StorageTrouble, PoolTrouble."""
        record = existing(self._service, vm)
        disk, move = self._planned(record, wish)
        live = runs_here(self._service, vm)
        first = DiskMoveStatus(
            vm=vm, state="running", sentence=f"{Path(disk.path).name} begins to move"
        )
        act = self._live if live else self._still

        def work(job: Job[DiskMoveStatus]) -> None:
            with self._service.occupied(BUSY, vm):
                act(job, disk, move, wish.rate_bytes_s)

        return self._jobs.begin(vm, first, work, Path(move.new))

    def look(self) -> None:
        """Settle what nobody is at work on any more; what cannot be settled now is tried again."""
        facts = self._service.picture.facts
        if facts is None or not (facts.registers_ready and facts.local_ready):
            return
        for vm, held in facts.vms.items():
            left = held.value.disk_move is not None and not held.value.deleted
            if not left:
                continue
            with contextlib.suppress(OutlastError, OSError), self._service.occupied(BUSY, vm):
                self._settle(vm, facts)

    # ---- before it begins

    def _planned(self, record: VmRecord, wish: DiskMoveWish) -> tuple[Disk, DiskMove]:
        vm = record.spec.name
        if wish.disk > len(record.spec.disks):
            raise InvalidInput(f"'{vm}' has {len(record.spec.disks)} disks, no disk {wish.disk}")
        disk = record.spec.disks[wish.disk - 1]
        if record.move is not None and not record.move.failed:
            raise Conflict(f"'{vm}' is about to move to another host", hint="wait for its arrival")
        if record.disk_move is not None:
            raise Conflict(f"a disk of '{vm}' is on its way already", hint="try again in a moment")
        if disk.repository == wish.to:
            raise Conflict(f"{disk.path} is there already")
        if disk.format == "qcow2" and qemu_img.info_of_vm(disk.path).get("snapshots"):
            raise Conflict(
                f"{disk.path} has snapshots, which would not come along",
                hint=f"outlast vm snapshot list {vm}; outlast vm snapshot remove {vm} NAME",
            )
        new = folder_of(self._service, wish.to) / Path(disk.path).name
        if os.path.lexists(new):
            raise Conflict(f"there is a file {new} already", hint="move it away first")
        base = look.backing_of(Path(disk.path))
        taken = [Path(disk.path), *([Path(disk.path).parent / base] if base else [])]
        check_room(new.parent, sum(path.stat().st_blocks * 512 for path in taken))
        return disk, DiskMove(disk.path, str(new), wish.to)

    # ---- in the thread

    def _live(
        self, job: Job[DiskMoveStatus], disk: Disk, move: DiskMove, rate_bytes_s: int
    ) -> None:
        vm, disks = job.status.vm, self._service.disks
        gently = QemuCopy(rate_bytes_s, lambda bytes_s: disks.limit(vm, bytes_s))
        self._intend(vm, move)
        try:
            _make(disk, move)
            self._service.admit_writes(vm)
            disks.mirror(vm, move.old, move.new, disk.format, gently.first_bytes_s)
            self._follow(job, move, gently)
            with self._standing(vm):
                disks.hold(vm)
                self._wait_level(vm, move)
                disks.pivot(vm, move.old, move.new)
                self._name(vm, move)
                disks.go_on(vm)
        finally:
            with self._standing(vm):
                self._settle_running(vm)
        self._done(job, move)

    def _still(
        self, job: Job[DiskMoveStatus], disk: Disk, move: DiskMove, rate_bytes_s: int
    ) -> None:
        vm = job.status.vm
        why = f"a disk moves to {move.repository or 'the pool itself'}"

        def percent(value: float) -> None:
            job.tell(
                sentence=f"copying {move.old}", done_bytes=round(value * 100), total_bytes=10000
            )
            job.check()

        with turn(lambda said: job.tell(sentence=said)), self._service.borrow(vm, why) as borrowed:
            self._intend(vm, move)
            try:
                _make(disk, move)
                qemu_img.convert(
                    Path(move.old), disk.format, Path(move.new), disk.format, rate_bytes_s,
                    percent, borrowed.leave(), made=True,
                )  # fmt: skip
                self._name(vm, move)
            finally:
                self._clean(vm)
        self._done(job, move)

    def _done(self, job: Job[DiskMoveStatus], move: DiskMove) -> None:
        where = f"the storage {move.repository}" if move.repository else "the pool's own storage"
        said = f"{Path(move.new).name} is in {where} now"
        job.tell(state="done", path=move.new, sentence=said)

    def _follow(self, job: Job[DiskMoveStatus], move: DiskMove, gently: QemuCopy) -> None:
        """Until both files are level once. Raises GivenUp, HypervisorTrouble, NotFound."""
        vm = job.status.vm
        while True:
            gently.look()
            now = self._service.disks.mirrored(vm, move.old)
            if now is None:
                raise HypervisorTrouble(f"the copy of {move.old} broke off; is {move.new} full?")
            if now.level:
                return
            job.tell(
                sentence=f"copying {move.old} while {vm} runs",
                done_bytes=now.done_bytes, total_bytes=now.total_bytes,
            )  # fmt: skip
            if job.given_up.wait(POLL_S):
                job.check()

    @contextlib.contextmanager
    def _standing(self, vm: str) -> Iterator[None]:
        """The VM may be held meanwhile: nobody moves it or lets it go on. Raises Conflict."""
        with self._service.occupied("move", vm), self._service.occupied("held", vm):
            yield

    def _wait_level(self, vm: str, move: DiskMove) -> None:
        until = time.monotonic() + LEVEL_S
        while time.monotonic() < until:
            now = self._service.disks.mirrored(vm, move.old)
            if now is not None and now.level:
                return
            time.sleep(POLL_S / 10)
        raise HypervisorTrouble(f"{move.new} did not become level within {LEVEL_S:g} s")

    # ---- the record

    def _intend(self, vm: str, move: DiskMove) -> None:
        def edit(record: VmRecord) -> VmRecord:
            if record.disk_move not in {None, move}:
                raise Conflict(f"a disk of '{vm}' is on its way already")
            if all(disk.path != move.old for disk in record.spec.disks):
                raise Conflict(f"'{vm}' does not have the disk {move.old} any more")
            return replace(record, disk_move=move)

        self._change(vm, edit)

    def _name(self, vm: str, move: DiskMove) -> None:
        """The new file is the disk from now on; certain when this returns."""

        def edit(record: VmRecord) -> VmRecord:
            disks = tuple(
                replace(disk, path=move.new, repository=move.repository)
                if disk.path == move.old else disk
                for disk in record.spec.disks
            )  # fmt: skip
            return replace(record, spec=replace(record.spec, disks=disks))

        self._change(vm, edit)

    def _change(self, vm: str, edit: Callable[[VmRecord], VmRecord]) -> None:
        self._wishes.change(vm, edit, "", "")

    # ---- what is left of it

    def _settle(self, vm: str, facts: Facts) -> None:
        held = facts.leases.get(vm)
        lease = held.value if held else Lease(vm)
        if facts.holds(lease):
            local = facts.local.get(vm)
            if local is not None and not local.incoming and lease.move is None:
                with self._standing(vm):
                    self._settle_running(vm)
        elif not lease.held and facts.view is not None and facts.view.master == facts.me.slot:
            with self._service.borrow(vm, "what is left of the move of a disk"):
                self._clean(vm)

    def _settle_running(self, vm: str) -> None:
        """Rule 4, for a VM that this host runs; harmless when all is well."""
        move, disks = existing(self._service, vm).disk_move, self._service.disks
        if move is None:
            return
        if move.old in disks.files(vm):
            disks.give_up(vm, move.old)
        files = disks.files(vm)  # a change-over that was late has happened by now, or never will
        if move.new in files and move.old not in files:
            self._name(vm, move)
        disks.go_on(vm)
        self._clean(vm)

    def _clean(self, vm: str) -> None:
        """Delete the file that is nobody's, then forget the move."""
        record = existing(self._service, vm)
        move = record.disk_move
        if move is None:
            return
        named = {disk.path for disk in record.spec.disks}
        for path in {move.old, move.new} - named:
            _check_there(self._service, path)
            Path(path).unlink(missing_ok=True)
        self._change(vm, lambda now: replace(now, disk_move=None))


def _make(disk: Disk, move: DiskMove) -> None:
    """The new file, empty and as large as the disk. Raises Conflict, StorageTrouble, OSError."""
    target = Path(move.new)
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise Conflict(f"there is a file {target} already") from None
    if disk.format == "qcow2":
        qemu_img.create(target, int(qemu_img.info_of_vm(disk.path)["virtual-size"]))
    else:
        os.truncate(target, Path(disk.path).stat().st_size)
    qemu_img.sync(target)
    qemu_img.sync(target.parent)


def folder_of(service: Service, repository: str) -> Path:
    """Where disks are in a repository. Raises InvalidInput, StorageTrouble when it is away."""
    if not repository:
        return Path(service.pool_dir) / IMAGES
    known = {one.name: one for one in service.agreed(repositories)}
    if repository not in known:
        raise InvalidInput(
            f"there is no storage '{repository}' in this pool", hint="outlast storage list"
        )
    _check_there(service, known[repository].path)
    return Path(known[repository].path)


def _check_there(service: Service, path: str) -> None:
    """Raises StorageTrouble when the repository that a path lies in does not answer here."""
    facts = service.picture.facts
    for one in service.agreed(repositories):
        if Path(path).is_relative_to(one.path):
            why = facts.without(one.name) if facts else "this host knows too little now"
            if why:
                raise StorageTrouble(why)
