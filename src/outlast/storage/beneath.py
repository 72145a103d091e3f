"""What lies beneath a directory: its file system, and which timings that can carry.

Rule: a timing that the death of one host would end everywhere is refused, whoever wishes it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from outlast.errors import InvalidInput
from outlast.settings import S

# The shortest preset that outlasts an ordinary failover of the file system itself; those of NFS,
# OCFS2 and GlusterFS as measured, docs/operating/file-systems.md
FLOORS = {
    "nfs": "standard", "nfs4": "standard", "ocfs2": "tolerant", "gfs2": "tolerant",
    "fuse.glusterfs": "tolerant", "glusterfs": "tolerant", "ceph": "tolerant",
    "fuse.ceph": "tolerant", "cifs": "patient",
}  # fmt: skip
# For so long all hosts' beats stand still when one host dies: o2cb's own 60 s, and the recovery of
# its locks
_STANDSTILL_S = {"ocfs2": 70}


def standstill(fs_type: str, fence_ns: int) -> str:
    """Why a pool with this fence window cannot live on such a file system; "" = it can. Pure."""
    still_s = _STANDSTILL_S.get(fs_type, 0)
    if fence_ns > still_s * S:
        return ""
    return (
        f"on {fs_type} the writes of all hosts stand still for up to {still_s} s when one of them "
        f"dies, longer than the fence window of {fence_ns // S} s: all would end their VMs"
    )


def check_outlasts(directory: Path, fence_ns: int) -> None:
    """The same of what a directory lies on. Raises InvalidInput."""
    if directory.is_dir() and (why := standstill(mount_of(directory)[0], fence_ns)):
        raise InvalidInput(why, hint="take the timing 'tolerant', or a longer one")


def mount_of(path: Path) -> tuple[str, str]:
    """File system type of a path, and its mount point with options."""
    best = ("", "unknown", "unknown")
    device = os.stat(path).st_dev  # noqa: PTH116
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return best[1], best[2]
    for line in lines:
        point, fs_type, options = [*line.split(), "", "", "", ""][1:4]
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), point)  # blanks, mostly
        inside = str(path) == point or str(path).startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]) and _device(point) == device:
            best = (point, fs_type, f"{point} ({options})")
    return best[1], best[2]


def _device(point: str) -> int:
    try:
        return os.stat(point).st_dev  # noqa: PTH116
    except OSError:
        return -1
