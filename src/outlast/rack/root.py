"""The root file system of an emulated host: the machine's, seen through an overlay.

Runs as the host's PID 1, in its own mount namespace, before anything else. Rules:
1. What a host writes outside its disk folders goes to memory and is gone at its next boot.
2. Nothing is created on the machine: no mount point, no file, no device.
3. The host sees neither the rack's folder nor the machine's /run, /tmp, /dev and processes.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from outlast.rack import kernel
from outlast.rack.kernel import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY

DISKS = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "overlay"))
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "kvm", "fuse", "net/tun",
           "vhost-net", "vhost-vsock")  # fmt: skip
DEV_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
             "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"}  # fmt: skip
REMOUNT = 32
POOL = "/srv/pool"  # where every host has the pool's storage


def build(
    base: Path, hide: Path, binds: Sequence[tuple[str, str, bool]], files: Mapping[str, str]
) -> None:
    """Build the host's root and move into it.

    base: the host's folder in the rack; hide: the rack's folder; binds: (source, place in the
    host, read-only); files: text of files in the host, written last. Raises OSError.
    """
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    memory = base / "root"
    kernel.mount("host", str(memory), "tmpfs", MS_NODEV, "mode=755")
    new = memory / "new"
    new.mkdir()
    for index, place in enumerate(disk_mounts(Path("/proc/self/mounts").read_text())):
        _overlay(memory, new, index, place)
    for place in ("tmp", "run", "dev", "proc", "sys", POOL.lstrip("/")):
        (new / place).mkdir(parents=True, exist_ok=True)
    kernel.mount("tmp", str(new / "tmp"), "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    _devices(new / "dev")
    kernel.mount("proc", str(new / "proc"), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    kernel.mount("sysfs", str(new / "sys"), "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    kernel.mount("cgroup2", str(new / "sys/fs/cgroup"), "cgroup2", MS_NOSUID | MS_NODEV)
    hidden = new / str(hide).lstrip("/")
    if hidden.is_dir():
        kernel.mount("hidden", str(hidden), "tmpfs", MS_NODEV, "mode=700,size=1m")
    for source, place, read_only in binds:
        _bind(Path(source), new / place.lstrip("/"), read_only)
    for place, text in files.items():
        target = new / place.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_text(text)
    os.chdir(new)
    kernel.pivot_root(".", ".")  # the old root lies on top of the new one now ...
    kernel.unmount(".")  # ... and goes
    os.chdir("/")


def disk_mounts(mounts: str) -> list[str]:
    """Folders of the machine that are mounts of real file systems, the root first."""
    places = []
    for line in mounts.splitlines():
        fields = line.split()
        place = fields[1].encode().decode("unicode_escape")
        reserved = place.startswith(("/proc", "/sys", "/dev", "/run", "/tmp/"))  # noqa: S108
        if fields[2] in DISKS and not reserved and place not in places and Path(place).is_dir():
            places.append(place)
    return sorted(places, key=len)


def _overlay(memory: Path, new: Path, index: int, place: str) -> None:
    upper, work = memory / f"upper{index}", memory / f"work{index}"
    for folder in (upper, work):
        folder.mkdir()
    lower, up, working = (_escaped(str(path)) for path in (place, upper, work))
    data = f"lowerdir={lower},upperdir={up},workdir={working}"
    try:
        kernel.mount("host", str(new / place.lstrip("/")), "overlay", 0, data)
    except OSError:
        if place == "/":
            raise
        # some file systems cannot lie below an overlay: seen read-only then
        _bind(Path(place), new / place.lstrip("/"), True)


def _escaped(path: str) -> str:
    """A path as an option of an overlay mount."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _bind(source: Path, target: Path, read_only: bool) -> None:
    if new_proc_lacks(target):
        return  # this kernel has no such file, so the host has none either
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    kernel.mount(str(source), str(target), None, MS_BIND)
    if read_only:
        kernel.mount(None, str(target), None, MS_BIND | REMOUNT | MS_RDONLY)


def new_proc_lacks(target: Path) -> bool:
    return "/new/proc/" in str(target) and not target.exists()


def _devices(dev: Path) -> None:
    kernel.mount("dev", str(dev), "tmpfs", MS_NOSUID, "mode=755")
    for name in DEVICES:
        with contextlib.suppress(FileNotFoundError):
            real = Path("/dev", name).stat()
            (dev / name).parent.mkdir(exist_ok=True)
            os.mknod(dev / name, stat.S_IFCHR | 0o666, real.st_rdev)
            (dev / name).chmod(0o666)
    for name, target in DEV_LINKS.items():
        (dev / name).symlink_to(target)
    for name in ("pts", "shm"):
        (dev / name).mkdir()
    options = "newinstance,ptmxmode=666,mode=620"
    kernel.mount("devpts", str(dev / "pts"), "devpts", MS_NOSUID | MS_NOEXEC, options)
    kernel.mount("shm", str(dev / "shm"), "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
