"""Copies of a VM's disks, whole and as of one moment, while it runs or stands still.

Rules:
1. Who may touch the disks is as for snapshots: the QEMU of a running VM here, or the holder of a
   stopped one's lease. The copy is slow on purpose.
2. Copies are qcow2 files that refer to nothing else: disk-0.qcow2, disk-1.qcow2 and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from outlast.agent.jobs import Job
from outlast.agent.service import Service, existing
from outlast.agent.snapshots import quieted
from outlast.errors import Conflict, InvalidInput, StorageTrouble
from outlast.images import qemu_img
from outlast.images.library import check_room
from outlast.images.look import backing_of
from outlast.images.pace import QemuCopy, turn
from outlast.model import Disk, VmRecord
from outlast.wire.disks import JobStatus, Quiesce

S = TypeVar("S", bound=JobStatus)
Only = Callable[[Disk], bool]
POLL_S = 0.3


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied. running: while it ran; quiesced: its file systems were at rest."""

    record: VmRecord
    running: bool
    quiesced: bool


def copy_disks(
    service: Service, job: Job[S], vm: str, made: Path, why: str, *, live: bool, quiesce: Quiesce,
    rate: int, only: Only = lambda _: True,
) -> Copied:  # fmt: skip
    """Into the folder `made`; the job tells how far it is, and is broken off there.

    why: what a stopped VM waits for meanwhile, like "a backup". only: which disks.
    Raises NotFound, Conflict, InvalidInput, StorageTrouble, PoolTrouble, GivenUp, OSError.
    """
    if live:
        return _running(service, job, vm, made, quiesce, rate, only)
    return _still(service, job, vm, made, why, rate, only)


def check_disks(record: VmRecord) -> None:
    """Raises Conflict when there are none, InvalidInput when not all can be read here."""
    name = record.spec.name
    if not record.spec.disks:
        raise Conflict(f"'{name}' has no disks, so there is nothing to copy")
    if any(disk.kind == "rbd" for disk in record.spec.disks):
        raise InvalidInput(
            f"{name} has disks on RBD, which are not copied from here",
            hint="rbd snap create, or rbd export",
        )


def _running(
    service: Service, job: Job[S], vm: str, made: Path, quiesce: Quiesce, rate: int, only: Only
) -> Copied:
    record = existing(service, vm)
    check_disks(record)
    paths = [disk.path for disk in filter(only, record.spec.disks)]
    check_room(made, sum(map(_taken, paths)))
    targets = {path: str(made / f"disk-{n}.qcow2") for n, path in enumerate(paths)}
    gently = QemuCopy(rate, lambda bytes_s: service.disks.limit(vm, bytes_s))
    with quieted(service, vm, quiesce) as still:
        copy = service.disks.backup(vm, targets, gently.first_bytes_s)
    while not copy.wait(POLL_S):
        now = copy.progress()
        gently.look(now.done_bytes)
        job.tell(
            sentence=f"copying the disks of {vm} while it runs",
            done_bytes=now.done_bytes, total_bytes=now.total_bytes,
        )  # fmt: skip
        if job.given_up.is_set():
            copy.abort()
    job.check()
    if copy.trouble:
        raise StorageTrouble(f"the disks of {vm} were not copied: {copy.trouble}")
    return Copied(record, True, still)


def _still(
    service: Service, job: Job[S], vm: str, made: Path, why: str, rate: int, only: Only
) -> Copied:  # fmt: skip
    # first the turn: while it is waited for, the VM may be started
    with turn(lambda s: job.tell(sentence=s)), service.borrow(vm, why) as borrowed:
        record = borrowed.record
        check_disks(record)
        disks = list(filter(only, record.spec.disks))
        sizes = [qemu_img.needed_bytes(Path(disk.path), disk.format) for disk in disks]
        check_room(made, sum(sizes))
        for number, disk in enumerate(disks):
            before = sum(sizes[:number])

            def percent(value: float, before: int = before, size: int = sizes[number]) -> None:
                done = before + round(size * value / 100)
                job.tell(
                    sentence=f"copying the disks of {vm}", done_bytes=done, total_bytes=sum(sizes)
                )
                job.check()

            qemu_img.convert(
                Path(disk.path), disk.format, made / f"disk-{number}.qcow2", "qcow2",
                rate, percent, borrowed.leave(),
            )  # fmt: skip
    return Copied(record, False, True)


def _taken(path: str) -> int:
    """What a disk takes on the storage, with what it lies over. Raises OSError."""
    file = Path(path)
    base = backing_of(file)
    return sum(p.stat().st_blocks * 512 for p in [file, *([file.parent / base] if base else [])])
