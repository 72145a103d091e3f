"""The few file operations the register needs, in one small class, and errors put into words.

Everything posix.py and layout.py do to the storage goes through `Files`, so that a test can put a
storage underneath that loses replies, executes late, fills up or lies. Each method is one step
that either happened or raised OSError (and then may have happened: that is the caller's worry).

What is written is on the disk when the method returns: file content through fsync; names only
after `sync_dir` of their directory.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import StorageTrouble

READ_MAX = 16 * 1024 * 1024
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Stat:
    mtime_ns: int  # of the storage's clock; only to be compared with another one
    names: int  # how many names (hard links) the file has


class Files:
    """The real file system."""

    def read(self, path: Path) -> bytes:
        """The whole content, at most 16 MiB of it."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = []
            while part := os.read(fd, READ_MAX):
                parts.append(part)
                if sum(map(len, parts)) > READ_MAX:
                    break
            return b"".join(parts)
        finally:
            os.close(fd)

    def create(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        """A new file with this content, on the disk. FileExistsError if the name is taken."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            _write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)

    def overwrite(self, path: Path, data: bytes) -> None:
        """Write into the blocks an existing file has, cut it to `data`; on the disk."""
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            _write_all(fd, data)
            os.ftruncate(fd, len(data))
            os.fsync(fd)
        finally:
            os.close(fd)

    def link(self, source: Path, target: Path) -> None:
        """Give the file a second name. FileExistsError if the name is taken."""
        os.link(source, target)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)  # noqa: PTH104  as bare as possible

    def unlink(self, path: Path) -> None:
        os.unlink(path)  # noqa: PTH108

    def mkdir(self, path: Path, mode: int = 0o700) -> None:
        os.mkdir(path, mode)  # noqa: PTH102

    def rmdir(self, path: Path) -> None:
        os.rmdir(path)  # noqa: PTH106

    def listdir(self, path: Path) -> list[str]:
        return os.listdir(path)  # noqa: PTH208

    def stat(self, path: Path) -> Stat:
        found = os.stat(path)  # noqa: PTH116
        return Stat(found.st_mtime_ns, found.st_nlink)

    def sync_dir(self, path: Path) -> None:
        """Put the names in a directory on the disk.

        A file system that knows no such thing for directories (EINVAL) is taken to keep names
        by itself, as NFS servers do; `probe` says so.
        """
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as trouble:
            if trouble.errno != errno.EINVAL:
                raise
        finally:
            os.close(fd)


_SENTENCES: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the pool's storage is full", "free some space; the pool goes on by itself"),
    errno.EDQUOT: ("the quota of the pool's storage is used up", "raise the quota or free space"),
    errno.EROFS: ("the pool's storage is read-only", "mount it for writing"),
    errno.EACCES: (
        "this user may not touch the pool's storage",
        "run it as root; check the export",
    ),
    errno.EPERM: ("this user may not touch the pool's storage", "run it as root; check the export"),
    errno.ENOENT: ("something of the pool's storage is not there", "is the storage mounted?"),
    errno.ENOTDIR: ("something of the pool's storage is not a directory", "check the path"),
    errno.EIO: ("the pool's storage has an I/O error", "check the path to the storage and its log"),
    errno.ESTALE: ("the pool's storage was exchanged under its mount", "mount it again"),
    errno.ETIMEDOUT: ("the pool's storage did not answer in time", "check the path to it"),
    errno.EMLINK: ("the file system allows no second name for a file", "take another one"),
}


def trouble_of(error: OSError, path: Path | str) -> StorageTrouble:
    """An OSError as a sentence with a hint."""
    number = error.errno or 0
    sentence, hint = _SENTENCES.get(
        number, ("the pool's storage failed", "see the kernel log of this host")
    )
    reason = f"{path}: {errno.errorcode.get(number, 'error')}, {error.strerror or error}"
    return StorageTrouble(f"{sentence} ({reason})", hint=hint)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
