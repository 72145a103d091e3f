"""What is being done to a VM's snapshots: it stands in the VM's record until it is done.

A VM has several disks, each with a snapshot of its own inside, and each is written on its own. And
going back is not one step even for QEMU: ended in between, it leaves a disk whose further writes
could damage it, until it has gone back once more.

Rules:
1. It stands in the record before the first disk is touched, and is forgotten in one swap after the
   last one.
2. What was broken off: a snapshot that is not on all disks is taken back; forgetting one, or going
   back to it, is done again from its beginning. All of this may be done twice.
3. Whoever takes the disks of a stopped VM (disk_work.py) or starts it (hands.py) does that first,
   so nobody ever works on, or runs from, disks that are half of this and half of that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from outlast.errors import OutlastError, StorageTrouble
from outlast.images import qemu_img
from outlast.model import SnapshotAct, VmRecord
from outlast.pool.facts import Held
from outlast.storage.register import Outcome, Swap

MAKE, FORGET, REVERT = "make", "forget", "revert"
WORDS = {MAKE: "-c", FORGET: "-d", REVERT: "-a"}  # qemu-img's
Leave = Callable[[], tuple[str, ...]]


def disks_of(record: VmRecord) -> list[str]:
    """The disks that keep snapshots."""
    return [disk.path for disk in record.spec.disks if disk.format == "qcow2"]


def names_in(path: str) -> list[str]:
    """The snapshots in one disk. Raises InvalidInput when it cannot be read."""
    return [str(one.get("name")) for one in qemu_img.info_of_vm(path).get("snapshots") or []]


def having(paths: Sequence[str], name: str) -> list[str]:
    """Those of the disks that have this snapshot. Raises InvalidInput."""
    return [path for path in paths if name in names_in(path)]


def unwanted(act: SnapshotAct, paths: Sequence[str]) -> list[str]:
    """Those that have a snapshot which nobody shall see, by rule 2. Raises InvalidInput."""
    found = having(paths, act.name)
    stays = act.kind == REVERT or (act.kind == MAKE and len(found) == len(paths))
    return [] if stays else found


def finish(held: Held[VmRecord], write: Callable[[int, VmRecord], Swap], leave: Leave) -> VmRecord:
    """Rule 2, for a VM that is stopped and whose lease is ours; the record as it is then.

    Raises StorageTrouble, PoolTrouble, InvalidInput; then it is still to be done.
    """
    record = held.value
    act = record.snapshot_act
    if act is None:
        return record
    paths = disks_of(record)
    try:
        _finish(act, paths, leave)
    except OutlastError as trouble:
        trouble.sentence = (
            f"what was broken off over the snapshot '{act.name}' of '{record.spec.name}' cannot be"
            f" finished: {trouble.sentence}"
        )
        raise
    done = replace(record, snapshot_act=None)
    if write(held.version, done).outcome is not Outcome.OK:
        raise StorageTrouble(
            f"the record of '{record.spec.name}' was not written", hint="try again in a moment"
        )
    return done


def _finish(act: SnapshotAct, paths: Sequence[str], leave: Leave) -> None:
    again = act.kind == REVERT
    for path in having(paths, act.name) if again else unwanted(act, paths):
        qemu_img.snapshot(WORDS[REVERT if again else FORGET], act.name, path, leave())
    for path in paths:
        with contextlib.suppress(OutlastError):  # it is about room alone
            qemu_img.mend(path, leave())
