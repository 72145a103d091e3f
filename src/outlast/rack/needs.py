"""What a machine must have before a rack can stand on it; each lack in one sentence."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from outlast.errors import InvalidInput, OutlastError, Refused
from outlast.rack import cgroup

PROGRAMS = {  # program -> Debian package
    "ip": "iproute2", "nft": "nftables", "unshare": "util-linux", "nsenter": "util-linux",
    "setpriv": "util-linux", "bash": "bash",
}  # fmt: skip
VIRT = {"libvirtd": "libvirt-daemon-system", "qemu-system-x86_64": "qemu-system-x86"}
HOSTS_MAX = 26
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def check(libvirt: bool) -> None:
    """Raises Refused (not root) or OutlastError naming what is missing and how to get it."""
    if os.geteuid() != 0:
        raise Refused("a rack needs root: it makes namespaces and mounts", hint="use sudo")
    wanted = {**PROGRAMS, **(VIRT if libvirt else {})}
    missing = sorted(name for name in wanted if shutil.which(name, path=SEARCH) is None)
    if missing:
        packages = " ".join(sorted({wanted[name] for name in missing}))
        raise OutlastError(
            f"missing on this machine: {', '.join(missing)}", hint=f"apt install {packages}"
        )
    if not Path("/dev/fuse").exists():
        raise OutlastError("this machine has no FUSE (/dev/fuse)", hint="modprobe fuse")
    known = Path("/proc/filesystems").read_text().split()
    if "overlay" not in known:
        raise OutlastError("this kernel has no overlay file system", hint="modprobe overlay")
    cgroup.find_root()


def check_shape(hosts: int, storage: str, third: int, lease_s: float) -> None:
    """Raises InvalidInput for a rack that cannot be."""
    if not 1 <= hosts <= HOSTS_MAX:
        raise InvalidInput(f"a rack has 1 to {HOSTS_MAX} hosts, not {hosts}")
    if storage not in ("rackfs", "bind"):
        raise InvalidInput(f"there is no storage '{storage}'", hint="rackfs or bind")
    if not 0 <= third <= 255:
        raise InvalidInput(f"{third} is no part of an address", hint="0 to 255")
    if not 0.1 <= lease_s <= 600:
        raise InvalidInput(f"a lock lease of {lease_s} s cannot be", hint="0.1 to 600")
