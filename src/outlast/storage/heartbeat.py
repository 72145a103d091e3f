"""The heartbeat area: one host writes its own block and reads all others, past every cache.

Rules:
1. A write is over when the storage says so: direct write of one whole 4096-byte piece, then
   fdatasync (O_DSYNC alone is not enough on some file systems).
2. A read asks the storage: one direct read of the whole area, nothing kept from before.
3. Where the file system takes no O_DIRECT the file is used through the page cache, and `direct`
   is False: right on one machine, not between hosts (`outlast storage probe` refuses it there).
4. Errors are OSError, as they come; a short read or write is EIO. Nothing is retried here.

It deliberately does not know what a block says: format.py does. It imports nothing but the
standard library and format.py, because the pulse lives on it.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from types import TracebackType

from outlast.model import SLOT_MAX
from outlast.storage.format import AREA_SIZE, BLOCK_SIZE, encode_header

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class HeartbeatFile:
    """The area as one host sees it. One thread at a time."""

    def __init__(self, path: Path | str, slot: int = 0) -> None:
        """Open the area to write as `slot`, or only to read it when that is 0.

        Raises OSError: not there, not a heartbeat area's size, no permission.
        """
        if not 0 <= slot <= SLOT_MAX:
            raise ValueError(f"slot {slot} is not one of 0..{SLOT_MAX}")
        self.slot = slot
        self.direct = True
        self._path = str(path)
        self._read_buffer = mmap.mmap(-1, AREA_SIZE)  # mmap, because O_DIRECT wants whole pages
        self._write_buffer = mmap.mmap(-1, BLOCK_SIZE)
        self._fd = self._open(os.O_RDWR if slot else os.O_RDONLY)

    @staticmethod
    def create(path: Path | str, pool_uuid: str) -> None:
        """A new area with its header and 64 empty blocks, every byte of it written to the disk.

        Written in full, not only reserved, so that no later write needs space. Raises
        FileExistsError, OSError; a file begun is removed again.
        """
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        try:
            area = encode_header(pool_uuid).ljust(AREA_SIZE, b"\0")
            if os.write(fd, area) != len(area):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(fd)
        except BaseException:
            Path(path).unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)

    def write_block(self, raw: bytes) -> None:
        """Replace this host's block; returns when it is on the storage. Raises OSError."""
        if len(raw) != BLOCK_SIZE:
            raise ValueError(f"a block has {BLOCK_SIZE} bytes, not {len(raw)}")
        if not self.slot:
            raise ValueError("this heartbeat area was opened for reading only")
        self._write_buffer[:] = raw
        written = os.pwrite(self._fd, self._write_buffer, self.slot * BLOCK_SIZE)
        if written != BLOCK_SIZE:
            raise OSError(errno.EIO, f"only {written} bytes were written", self._path)
        os.fdatasync(self._fd)

    def read_all(self, slots_max: int = SLOT_MAX) -> list[bytes]:
        """All pieces in one read: [0] the header, [n] the block of slot n. Raises OSError."""
        size = (slots_max + 1) * BLOCK_SIZE
        if not self.direct:
            os.posix_fadvise(self._fd, 0, AREA_SIZE, os.POSIX_FADV_DONTNEED)
        with memoryview(self._read_buffer) as whole, whole[:size] as part:
            got = os.preadv(self._fd, [part], 0)
        if got != size:
            raise OSError(errno.EIO, f"only {got} of {size} bytes could be read", self._path)
        return [self._read_buffer[at : at + BLOCK_SIZE] for at in range(0, size, BLOCK_SIZE)]

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> HeartbeatFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, mode: int) -> int:
        """Open directly; if the file system refuses that, now or at the first read, not so."""
        for flags in (os.O_DIRECT, 0):
            self.direct = bool(flags)
            try:
                fd = os.open(self._path, mode | flags | _FLAGS)
            except OSError as error:
                if error.errno == errno.EINVAL and flags:
                    continue
                raise
            try:
                self._fd = fd
                self.read_all()
            except OSError as error:
                os.close(fd)
                if error.errno == errno.EINVAL and flags:
                    continue
                raise
            return fd
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self._path)
