"""Linux calls that Python 3.11 does not offer, as typed functions.

Promises: every function raises OSError with the kernel's errno and the name of what failed.
Deliberately not here: any policy. Who mounts what is decided by the callers.
"""

from __future__ import annotations

import ctypes
import os
import platform

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = (
    1, 2, 4, 8, 4096, 16384, 1 << 18,
)  # fmt: skip
MNT_DETACH = 2
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
HANDLE_MAX = 128
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "s390x": 217, "ppc64le": 203}

_libc = ctypes.CDLL(None, use_errno=True)


class _Handle(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint),
        ("kind", ctypes.c_int),
        ("data", ctypes.c_ubyte * HANDLE_MAX),
    )


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def mount(
    source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str = ""
) -> None:
    """mount(2). Bind: kind None and MS_BIND in flags."""
    _checked(
        _libc.mount(
            _bytes(source),
            _bytes(target),
            _bytes(kind),
            ctypes.c_ulong(flags),
            _bytes(data or None),
        ),
        f"mount {source} on {target}",
    )


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    _checked(_libc.umount2(_bytes(target), flags), f"unmount {target}")


def unshare(flags: int) -> None:
    """Give the calling thread (only it) new namespaces."""
    _checked(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread (only it) into the namespace behind `fd`."""
    _checked(_libc.setns(fd, kind), "setns")


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of this mount namespace and put the old root at `old`."""
    number = PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(38, f"pivot_root on {platform.machine()} is not known")
    _checked(_libc.syscall(ctypes.c_long(number), _bytes(new), _bytes(old)), f"pivot_root {new}")


def lock_memory() -> None:
    """Keep every page that this process touches in memory (not the untouched rest of stacks)."""
    _checked(_libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT), "mlockall")


def rename(old_dir: int, old: bytes, new_dir: int, new: bytes, flags: int) -> None:
    """renameat2(2) with its flags (no replace, exchange)."""
    _checked(_libc.renameat2(old_dir, old, new_dir, new, ctypes.c_uint(flags)), "rename")


def allocate(fd: int, mode: int, offset: int, size: int) -> None:
    """fallocate(2) with its mode (punch hole, keep size)."""
    _checked(_libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(size)), "fallocate")


def file_handle(dir_fd: int, name: bytes, follow: bool = False) -> tuple[int, bytes]:
    """The lasting handle (type, bytes) of a file, valid until the file is deleted.

    An empty name means the file behind `dir_fd` itself.
    """
    handle, mount_id = _Handle(HANDLE_MAX, 0), ctypes.c_int()
    flags = AT_EMPTY_PATH if not name else (0x400 if follow else 0)
    _checked(
        _libc.name_to_handle_at(dir_fd, name, ctypes.byref(handle), ctypes.byref(mount_id), flags),
        "name_to_handle_at",
    )
    return int(handle.kind), bytes(handle.data[: handle.size])


def open_handle(mount_fd: int, kind: int, data: bytes, flags: int) -> int:
    """Open a file by its lasting handle. Raises OSError(ESTALE) if it was deleted."""
    handle = _Handle(len(data), kind)
    ctypes.memmove(handle.data, data, len(data))
    return _checked(
        _libc.open_by_handle_at(mount_fd, ctypes.byref(handle), flags | os.O_CLOEXEC),
        "open_by_handle_at",
    )


def realtime(priority: int) -> bool:
    """Ask for SCHED_FIFO. False: the machine does not permit it; then we run as usual."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError:
        return False
    return True
