"""What the storage server does with one request: file system calls on the pool's folder.

Rules:
1. A node number IS the file's lasting handle (inode and generation) where the local file system's
   handle fits into 64 bits, as with ext4. So the server keeps no table, forgets nothing and can
   be killed and started again under open files, like a good NFS server. Where handles are longer
   (xfs, btrfs, tmpfs) a table in memory serves; after a restart such open files are stale.
2. Everything is answered from the one server, so all hosts see one order of operations.
3. Not here: locks, replies, retransmissions (fileserver.py), permissions (the clients' kernels).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from outlast.rack import fuse, kernel
from outlast.rack.fuse import Op

DROPPED_FLAGS = os.O_DIRECT | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL
SHORT_HANDLE_KIND = 1


@dataclass(frozen=True, slots=True)
class Request:
    """One decoded request; `body` is what follows the header."""

    op: int
    unique: int
    node: int
    uid: int
    gid: int
    body: memoryview

    @classmethod
    def decode(cls, frame: bytes) -> Request:
        _, op, unique, node, uid, gid, _, _, _ = fuse.IN.unpack_from(frame)
        return cls(op, unique, node, uid, gid, memoryview(frame)[fuse.IN.size :])


@dataclass(slots=True)
class Listing:
    """An open folder; its entries are read at the first READDIR and at every rewind."""

    entries: list[tuple[bytes, int, int]] | None = None


@dataclass(slots=True)
class Opens:
    """The open files and folders of one client."""

    files: dict[int, int | Listing] = field(default_factory=dict)
    next_fh: int = field(default_factory=lambda: secrets.randbits(40) << 20)

    def add(self, what: int | Listing) -> int:
        self.next_fh += 1
        self.files[self.next_fh] = what
        return self.next_fh

    def fd(self, fh: int) -> int:
        got = self.files.get(fh)
        if not isinstance(got, int):
            raise OSError(errno.ESTALE, "no such open file")
        return got

    def listing(self, fh: int) -> Listing:
        got = self.files.get(fh)
        if not isinstance(got, Listing):
            raise OSError(errno.ESTALE, "no such open folder")
        return got

    def close(self, fh: int) -> None:
        got = self.files.pop(fh, None)
        if isinstance(got, int):
            os.close(got)

    def close_all(self) -> None:
        for fh in list(self.files):
            self.close(fh)


Handler = Callable[[Request, Opens], bytes]


class Files:
    """The pool's folder. Thread-safe, except that one Opens belongs to one client."""

    def __init__(self, root: str) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        self._long: dict[int, tuple[int, bytes]] = {}
        self._handlers: dict[int, Handler] = {
            Op.LOOKUP: self._lookup, Op.GETATTR: self._getattr, Op.SETATTR: self._setattr,
            Op.READLINK: self._readlink, Op.SYMLINK: self._symlink, Op.MKNOD: self._mknod,
            Op.MKDIR: self._mkdir, Op.UNLINK: self._unlink, Op.RMDIR: self._rmdir,
            Op.RENAME: self._rename, Op.RENAME2: self._rename, Op.LINK: self._link,
            Op.OPEN: self._open, Op.OPENDIR: self._opendir, Op.CREATE: self._create,
            Op.READ: self._read, Op.WRITE: self._write, Op.STATFS: self._statfs,
            Op.RELEASE: self._release, Op.RELEASEDIR: self._release, Op.FSYNC: self._fsync,
            Op.FSYNCDIR: self._fsyncdir, Op.READDIR: self._readdir,
            Op.FALLOCATE: self._fallocate, Op.LSEEK: self._lseek,
        }  # fmt: skip

    def run(self, request: Request, opens: Opens) -> bytes:
        """Do it; returns the body of the reply. Raises OSError with the errno to answer."""
        handler = self._handlers.get(request.op)
        if handler is None:
            raise OSError(errno.ENOSYS, "not offered")
        return handler(request, opens)

    def reopen(self, node: int, flags: int, folder: bool) -> int | Listing:
        """Open again what a client had open before the server was restarted."""
        return Listing() if folder else self._open_node(node, flags & ~os.O_TRUNC)

    # -- nodes

    def _number(self, kind: int, handle: bytes) -> int:
        if kind == SHORT_HANDLE_KIND and len(handle) == 8:
            return int.from_bytes(handle, "little")
        digest = hashlib.blake2b(bytes([kind & 255]) + handle, digest_size=8).digest()
        number = int.from_bytes(digest, "little") | 1 << 63
        self._long[number] = (kind, handle)
        return number

    def _open_node(self, node: int, flags: int) -> int:
        if node == fuse.ROOT:
            return os.open(f"/proc/self/fd/{self._root}", flags | os.O_CLOEXEC)
        kind, handle = self._long.get(node, (SHORT_HANDLE_KIND, node.to_bytes(8, "little")))
        return kernel.open_handle(self._root, kind, handle, flags)

    @contextlib.contextmanager
    def _node(self, node: int) -> Iterator[int]:
        if node == fuse.ROOT:
            yield self._root
            return
        fd = self._open_node(node, os.O_PATH)
        try:
            yield fd
        finally:
            os.close(fd)

    def _entry(self, folder: int, name: bytes) -> bytes:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            number = self._number(*kernel.file_handle(fd, b""))
            return fuse.ENTRY.pack(number, 0, 0, 0, 0, 0) + fuse.attributes(os.fstat(fd))
        finally:
            os.close(fd)

    def _made(self, request: Request, folder: int, name: bytes) -> bytes:
        """Give a new file to its maker and answer with its entry."""
        if request.uid or request.gid:
            os.chown(name, request.uid, request.gid, dir_fd=folder, follow_symlinks=False)
        return self._entry(folder, name)

    # -- names

    def _lookup(self, request: Request, opens: Opens) -> bytes:
        with self._node(request.node) as folder:
            return self._entry(folder, fuse.name_in(request.op, request.body))

    def _symlink(self, request: Request, opens: Opens) -> bytes:
        name, target = bytes(request.body).split(b"\0")[:2]
        with self._node(request.node) as folder:
            os.symlink(target, name, dir_fd=folder)
            return self._made(request, folder, name)

    def _mknod(self, request: Request, opens: Opens) -> bytes:
        mode, device, umask, _ = struct.unpack_from("<4I", request.body)
        name = fuse.name_in(request.op, request.body)
        with self._node(request.node) as folder:
            os.mknod(name, mode & ~umask, device, dir_fd=folder)
            return self._made(request, folder, name)

    def _mkdir(self, request: Request, opens: Opens) -> bytes:
        mode, umask = struct.unpack_from("<II", request.body)
        name = fuse.name_in(request.op, request.body)
        with self._node(request.node) as folder:
            os.mkdir(name, mode & ~umask & 0o7777, dir_fd=folder)
            return self._made(request, folder, name)

    def _unlink(self, request: Request, opens: Opens) -> bytes:
        with self._node(request.node) as folder:
            os.unlink(fuse.name_in(request.op, request.body), dir_fd=folder)
        return b""

    def _rmdir(self, request: Request, opens: Opens) -> bytes:
        with self._node(request.node) as folder:
            os.rmdir(fuse.name_in(request.op, request.body), dir_fd=folder)
        return b""

    def _rename(self, request: Request, opens: Opens) -> bytes:
        (target,) = fuse.FH.unpack_from(request.body)
        second = request.op == Op.RENAME2
        flags = struct.unpack_from("<I", request.body, 8)[0] if second else 0
        old, new = bytes(request.body[16 if second else 8 :]).split(b"\0")[:2]
        with self._node(request.node) as folder, self._node(target) as other:
            kernel.rename(folder, old, other, new, flags)
        return b""

    def _link(self, request: Request, opens: Opens) -> bytes:
        (old,) = fuse.FH.unpack_from(request.body)
        name = fuse.name_in(request.op, request.body)
        with self._node(old) as source, self._node(request.node) as folder:
            os.link(f"/proc/self/fd/{source}", name, dst_dir_fd=folder, follow_symlinks=True)
            return self._entry(folder, name)

    def _readlink(self, request: Request, opens: Opens) -> bytes:
        with self._node(request.node) as fd:
            return os.fsencode(os.readlink(b"", dir_fd=fd))

    # -- attributes

    def _getattr(self, request: Request, opens: Opens) -> bytes:
        flags, _, fh = struct.unpack_from("<IIQ", request.body)
        if flags & 1 and isinstance(opens.files.get(fh), int):
            return self._attr_out(os.fstat(opens.fd(fh)))
        with self._node(request.node) as fd:
            return self._attr_out(os.fstat(fd))

    def _attr_out(self, st: os.stat_result) -> bytes:
        return fuse.ATTR_OUT.pack(0, 0, 0) + fuse.attributes(st)

    def _setattr(self, request: Request, opens: Opens) -> bytes:
        (valid, _, fh, size, _, at, mt, _, an, mn, _, mode, _, uid, gid, _) = (
            fuse.SETATTR_IN.unpack_from(request.body)
        )
        with self._node(request.node) as fd:
            path = f"/proc/self/fd/{fd}"
            if valid & 1:
                os.chmod(path, stat.S_IMODE(mode))  # noqa: PTH101
            if valid & 6:
                os.chown(path, uid if valid & 2 else -1, gid if valid & 4 else -1)
            if valid & 8:
                os.truncate(opens.fd(fh) if valid & 64 else path, size)
            if valid & 0x1B0:
                st, now = os.fstat(fd), time.time_ns()
                accessed = now if valid & 128 else st.st_atime_ns
                modified = now if valid & 256 else st.st_mtime_ns
                if valid & 0x90 == 0x10:
                    accessed = at * 10**9 + an
                if valid & 0x120 == 0x20:
                    modified = mt * 10**9 + mn
                os.utime(path, ns=(accessed, modified))
            return self._attr_out(os.fstat(fd))

    def _statfs(self, request: Request, opens: Opens) -> bytes:
        v = os.statvfs(self._root)
        return struct.pack(
            "<5Q4I24x", v.f_blocks, v.f_bfree, v.f_bavail, v.f_files, v.f_ffree, v.f_bsize,
            v.f_namemax, v.f_frsize, 0,
        )  # fmt: skip

    # -- open files

    def _open(self, request: Request, opens: Opens) -> bytes:
        (flags,) = struct.unpack_from("<I", request.body)
        fd = self._open_node(request.node, flags & ~DROPPED_FLAGS)
        return fuse.OPEN_OUT.pack(opens.add(fd), fuse.OPEN_FLAGS, 0)

    def _opendir(self, request: Request, opens: Opens) -> bytes:
        return fuse.OPEN_OUT.pack(opens.add(Listing()), 0, 0)

    def _create(self, request: Request, opens: Opens) -> bytes:
        flags, mode, umask, _ = struct.unpack_from("<4I", request.body)
        name = fuse.name_in(request.op, request.body)
        with self._node(request.node) as folder:
            # O_EXCL stays: two hosts may race for the name
            how = (flags & ~os.O_DIRECT) | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(name, how, mode & ~umask & 0o7777, dir_fd=folder)
            try:
                if request.uid or request.gid:
                    os.fchown(fd, request.uid, request.gid)
                number = self._number(*kernel.file_handle(fd, b""))
                entry = fuse.ENTRY.pack(number, 0, 0, 0, 0, 0) + fuse.attributes(os.fstat(fd))
            except OSError:
                os.close(fd)
                raise
        return entry + fuse.OPEN_OUT.pack(opens.add(fd), fuse.OPEN_FLAGS, 0)

    def _read(self, request: Request, opens: Opens) -> bytes:
        fh, offset, size = fuse.READ_IN.unpack_from(request.body)
        return os.pread(opens.fd(fh), size, offset)

    def _write(self, request: Request, opens: Opens) -> bytes:
        fh, offset, size = fuse.WRITE_IN.unpack_from(request.body)
        start = fuse.WRITE_IN_SIZE
        done = os.pwrite(opens.fd(fh), request.body[start : start + size], offset)
        return struct.pack("<II", done, 0)

    def _release(self, request: Request, opens: Opens) -> bytes:
        opens.close(fuse.FH.unpack_from(request.body)[0])
        return b""

    def _fsync(self, request: Request, opens: Opens) -> bytes:
        fh, flags = struct.unpack_from("<QI", request.body)
        (os.fdatasync if flags & 1 else os.fsync)(opens.fd(fh))
        return b""

    def _fsyncdir(self, request: Request, opens: Opens) -> bytes:
        fd = self._open_node(request.node, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        return b""

    def _fallocate(self, request: Request, opens: Opens) -> bytes:
        fh, offset, size, mode = struct.unpack_from("<QQQI", request.body)
        kernel.allocate(opens.fd(fh), mode, offset, size)
        return b""

    def _lseek(self, request: Request, opens: Opens) -> bytes:
        fh, offset, whence = struct.unpack_from("<QQI", request.body)
        return fuse.FH.pack(os.lseek(opens.fd(fh), offset, whence))

    def _readdir(self, request: Request, opens: Opens) -> bytes:
        fh, offset, size = fuse.READ_IN.unpack_from(request.body)
        listing = opens.listing(fh)
        if offset == 0 or listing.entries is None:
            listing.entries = self._scan(request.node)
        out = bytearray()
        for index, (name, inode, kind) in enumerate(listing.entries[offset:], offset + 1):
            record = fuse.DIRENT.pack(inode, index, len(name), kind) + name
            record += bytes(-len(record) % 8)
            if len(out) + len(record) > size:
                break
            out += record
        return bytes(out)

    def _scan(self, node: int) -> list[tuple[bytes, int, int]]:
        fd = self._open_node(node, os.O_RDONLY | os.O_DIRECTORY)
        try:
            found = [(b".", os.fstat(fd).st_ino, 4), (b"..", fuse.ROOT, 4)]
            with os.scandir(fd) as entries:
                for entry in entries:
                    folder = entry.is_dir(follow_symlinks=False)
                    kind = 4 if folder else 10 if entry.is_symlink() else 8
                    found.append((os.fsencode(entry.name), entry.inode(), kind))
            return found
        finally:
            os.close(fd)
