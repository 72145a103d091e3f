"""The FUSE wire format as far as the rack speaks it: numbers, layouts, framing.

Both /dev/fuse and the link between a storage client and the storage server carry the same
messages: a request starts with IN (its first field is the length of the whole message), a reply
with OUT. On the link three private requests exist besides: RENEW, RECLAIM and HELLO.
"""

from __future__ import annotations

import os
import struct
from enum import IntEnum

IN = struct.Struct("<IIQQIIIHH")  # length, op, unique, node, uid, gid, pid, ext, -
OUT = struct.Struct("<IiQ")  # length, -errno, unique
ATTR = struct.Struct("<QQQQQQ10I")
ENTRY = struct.Struct("<QQQQII")  # node, generation, entry s, attr s, entry ns, attr ns
ATTR_OUT = struct.Struct("<QII")  # attr s, attr ns, -
OPEN_OUT = struct.Struct("<QIi")  # fh, flags, -
FH = struct.Struct("<Q")
READ_IN = struct.Struct("<QQI")  # fh, offset, size
WRITE_IN = struct.Struct("<QQI")
WRITE_IN_SIZE = 40
LOCK = struct.Struct("<QQQQIII")  # fh, owner, start, end, type, pid, flags
LOCK_OUT = struct.Struct("<QQII")
SETATTR_IN = struct.Struct("<IIQQQQQQ8I")
INIT_IN = struct.Struct("<4I")
INIT_OUT = struct.Struct("<4IHHIIHHIIH22x")
DIRENT = struct.Struct("<QQII")
ROOT = 1
MINOR = 38
WRITE_MAX = 1 << 20
FRAME_MAX = WRITE_MAX + 8192

DIRECT_IO, NONSEEKABLE, NOFLUSH, PARALLEL_WRITES = 1, 4, 32, 64
# direct: nothing is cached, so hosts see each other's writes at once; no flush: a flush at exit
# could not be killed while the storage hangs
OPEN_FLAGS = DIRECT_IO | NOFLUSH | PARALLEL_WRITES
LOCK_FLOCK = 1

# ASYNC_READ, POSIX_LOCKS, ATOMIC_O_TRUNC, BIG_WRITES, DONT_MASK, FLOCK_LOCKS, AUTO_INVAL_DATA,
# ASYNC_DIO, PARALLEL_DIROPS, MAX_PAGES
WANTED = 1 | 2 | 8 | 32 | 64 | 1 << 10 | 1 << 12 | 1 << 15 | 1 << 18 | 1 << 22


class Op(IntEnum):
    """Requests. Names in lower case are the names of operations in fault rules."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45
    LSEEK = 46
    # private to the link between client and server
    RENEW = 0x1000
    RECLAIM = 0x1001
    HELLO = 0x1002


NAMES = {int(op): op.name.lower() for op in Op}
NAME_OFFSET = {  # where the file name starts inside the body of a request on a folder
    Op.LOOKUP: 0, Op.UNLINK: 0, Op.RMDIR: 0, Op.SYMLINK: 0, Op.MKDIR: 8, Op.LINK: 8,
    Op.RENAME: 8, Op.MKNOD: 16, Op.CREATE: 16, Op.RENAME2: 16,
}  # fmt: skip
MAKES_ENTRY = frozenset((Op.LOOKUP, Op.SYMLINK, Op.MKNOD, Op.MKDIR, Op.LINK, Op.CREATE))


def name_in(op: int, body: bytes | memoryview) -> bytes:
    """The (first) file name in a request's body; empty if the operation carries none."""
    offset = NAME_OFFSET.get(Op(op)) if op in NAMES else None
    return b"" if offset is None else bytes(body[offset:]).split(b"\0", 1)[0]


def request(op: int, unique: int, node: int = 0, body: bytes = b"") -> bytes:
    return IN.pack(IN.size + len(body), op, unique, node, 0, 0, 0, 0, 0) + body


def reply(unique: int, body: bytes = b"") -> bytes:
    return OUT.pack(OUT.size + len(body), 0, unique) + body


def failure(unique: int, code: int) -> bytes:
    """A reply that says errno `code`."""
    return OUT.pack(OUT.size, -code, unique)


def init_reply(unique: int, body: bytes, wanted: int = WANTED) -> bytes:
    """The answer to INIT: our version, what we want of what the kernel offers, sizes."""
    _, minor, readahead, flags = INIT_IN.unpack_from(body)
    out = INIT_OUT.pack(
        7, min(minor, MINOR), readahead, flags & wanted, 64, 48, WRITE_MAX, 1,
        WRITE_MAX // 4096, 0, 0, 0, 0,
    )  # fmt: skip
    return reply(unique, out)


def attributes(st: os.stat_result) -> bytes:
    """The attributes of a file as the kernel wants them."""
    second = 10**9
    a, m, c = (divmod(ns, second) for ns in (st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns))
    return ATTR.pack(
        st.st_ino, st.st_size, st.st_blocks, a[0], m[0], c[0], a[1], m[1], c[1], st.st_mode,
        st.st_nlink, st.st_uid, st.st_gid, st.st_rdev, st.st_blksize, 0,
    )  # fmt: skip


class Frames:
    """Cuts a byte stream into messages, each of which starts with its own length.

    Receive into `space()`, tell `filled(n)`, then take messages with `next()` until None.
    """

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(2 * FRAME_MAX))
        self._start = self._end = 0

    def space(self) -> memoryview:
        if self._start == self._end:
            self._start = self._end = 0
        elif len(self._buffer) - self._start < FRAME_MAX:
            rest = bytes(self._buffer[self._start : self._end])
            self._buffer[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        return self._buffer[self._end :]

    def filled(self, count: int) -> None:
        """Raises ConnectionError for zero bytes: the other side has closed."""
        if count == 0:
            raise ConnectionError("the other side has closed the connection")
        self._end += count

    def next(self) -> bytes | None:
        """The next whole message. Raises ConnectionError if the stream is not ours."""
        if self._end - self._start < OUT.size:
            return None
        length = int.from_bytes(self._buffer[self._start : self._start + 4], "little")
        if not OUT.size <= length <= FRAME_MAX:
            raise ConnectionError(f"a message of {length} bytes is not one of ours")
        if self._end - self._start < length:
            return None
        frame = bytes(self._buffer[self._start : self._start + length])
        self._start += length
        return frame
