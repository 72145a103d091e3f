"""Disks of VMs in a pool without a shared file system: block devices, and images of Ceph (RBD).

Rules:
1. A file would be on one host only, so none is taken. The same path must be the same device on
   every host (a volume of LVM on a shared LUN, a multipath name); that is for people to see to.
2. Nothing is made here, and nothing is removed: that is the storage's own business.
3. A device that this host uses itself (mounted, part of an array, swap) is never taken.

How RBD is reached stands in each host's /etc/ceph; see hypervisor/libvirt_ceph.py.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from outlast.errors import Conflict
from outlast.model import Disk
from outlast.wire.shapes import BadField, DiskWish

RBD = re.compile(r"rbd:[A-Za-z0-9][A-Za-z0-9._-]{0,99}/[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def plan_device(wish: DiskWish, field: str, *, use_existing: bool) -> Disk:
    """The disk of a new VM. Raises BadField, Conflict."""
    disk = Disk(wish.path, "raw", wish.bus)
    if disk.kind == "file" or (disk.kind == "rbd" and not RBD.fullmatch(disk.path)):
        raise BadField(
            f"{field}: this pool has no shared file system, so a disk is a device or an RBD image",
            hint="--disk /dev/GROUP/VOLUME or --disk rbd:POOL/IMAGE, with --use-existing",
            field=field,
        )
    if wish.size is not None:
        raise BadField(
            f"{field}: {disk.path} cannot be made here", hint="make it first, leave the size out",
            field=field,
        )  # fmt: skip
    if not use_existing:
        raise Conflict(
            f"the disk {disk.path} exists already",
            hint="--use-existing takes it as it is, with what is on it",
        )
    if disk.kind == "block":
        _check_block(disk.path, field)
    return disk


def _check_block(path: str, field: str) -> None:
    """Raises BadField when this is no device that a VM may have."""
    try:
        if ".." in Path(path).parts or not stat.S_ISBLK(Path(path).stat().st_mode):
            raise BadField(f"{field}: {path} is no block device", field=field)
        os.close(os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise BadField(
                f"{field}: this host uses {path} itself", hint="see lsblk; take another",
                field=field,
            ) from None  # fmt: skip
        raise BadField(f"{field}: {path}: {error.strerror}", field=field) from None
