"""The storage server of a rack: a file system over TCP, with NFS's promises and failures.

    python -m outlast.rack.fileserver FOLDER ADDRESS PORT [--lease S] [--grace S] [--report FD]

Promises:
1. Operations of all hosts happen in one order: O_EXCL and link() have exactly one winner.
2. A request that is sent again after a broken connection is executed once (the last replies of
   each client are kept); after a restart of the server it may be executed twice, as over NFS.
3. Locks live here, under a lease: what a client holds lapses `lease` seconds after its last word
   as soon as somebody else wants it. For `grace` seconds after a start no new locks are given,
   so that clients can claim theirs again.
4. Idle means idle: every thread sleeps in the kernel until something arrives.

One thread reads each connection and does the short work itself; what may wait for a disk goes to
a few threads of that client. Not here: authentication, encryption, caching.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import errno
import json
import os
import resource
import secrets
import socket
import struct
import sys
import threading
import time
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor

from outlast.rack import fuse, kernel
from outlast.rack.filelocks import UNLOCK, Lock, LockTable
from outlast.rack.fileops import Files, Opens, Request
from outlast.rack.fuse import Op

KEPT_REPLIES = 4096
SHORT_IO = 64 * 1024
SYNC_FLAGS = os.O_SYNC | os.O_DSYNC
ALWAYS_SLOW = frozenset((Op.FSYNC, Op.FSYNCDIR, Op.FALLOCATE))
LOCK_OPS = frozenset((Op.GETLK, Op.SETLK, Op.SETLKW))
CLOSE_OPS = frozenset((Op.RELEASE, Op.RELEASEDIR))
NOT_KEPT = frozenset((Op.READ, Op.READDIR, Op.GETATTR, Op.STATFS))
PRIORITY = 10
SENT_WITHIN_MS = 4000


class Session:
    """One life of one client: its open files, its kept replies, its present connection."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.opens = Opens()
        self.sync_files: set[int] = set()
        self.heard_s = time.monotonic()
        self.pool = ThreadPoolExecutor(4, thread_name_prefix=f"work-{host}")
        self._sending = threading.Lock()
        self._sock: socket.socket | None = None
        self._doing: set[int] = set()
        self._done: collections.OrderedDict[int, bytes] = collections.OrderedDict()

    def connect(self, sock: socket.socket) -> None:
        with self._sending:
            if self._sock is not None:
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)
            self._sock = sock

    def disconnect(self, sock: socket.socket) -> None:
        with self._sending:
            if self._sock is sock:
                self._sock = None

    def send(self, frame: bytes) -> None:
        """Send if connected; a lost reply is asked for again by the client."""
        with self._sending:
            if self._sock is not None:
                with contextlib.suppress(OSError):
                    self._sock.sendall(frame)

    def begin(self, unique: int) -> bool:
        """True: do it. False: it is being done, or was done and its reply has been sent again."""
        with self._sending:
            kept = self._done.get(unique)
            if kept is None:
                if unique in self._doing:
                    return False
                self._doing.add(unique)
                return True
        self.send(kept)
        return False

    def finish(self, op: int, unique: int, frame: bytes) -> None:
        with self._sending:
            self._doing.discard(unique)
            if op not in NOT_KEPT:
                self._done[unique] = frame
                if len(self._done) > KEPT_REPLIES:
                    self._done.popitem(last=False)
        self.send(frame)

    def end(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.opens.close_all()


class Locks:
    """The lock table, plus those who wait for a lock."""

    def __init__(self, lease_s: float, grace_s: float) -> None:
        self.lease_s = lease_s
        self._free_s = time.monotonic() + grace_s
        self._table = LockTable(self._alive)
        self._waiting: list[tuple[Session, Request]] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._serve_waiting, name="locks", daemon=True).start()

    def run(self, session: Session, request: Request) -> bytes | None:
        """Answer a lock request; None: it waits and is answered later."""
        lock = decode_lock(session, request)
        with self._changed:
            if request.op == Op.GETLK:
                found = self._table.conflict(request.node, lock)
                if found is None:
                    return fuse.LOCK_OUT.pack(0, 0, UNLOCK, 0)
                return fuse.LOCK_OUT.pack(found.start, found.end, found.kind, found.pid)
            in_grace = lock.kind != UNLOCK and time.monotonic() < self._free_s
            if not in_grace:
                if self._table.put(request.node, lock):
                    if lock.kind == UNLOCK:
                        self._changed.notify()
                    return b""
                if request.op == Op.SETLK:
                    raise OSError(errno.EAGAIN, "locked")
            self._waiting.append((session, request))
            self._changed.notify()
            return None

    def reclaim(self, node: int, lock: Lock) -> None:
        with self._changed:
            self._table.put(node, lock)

    def close(self, session: Session, node: int, fh: int) -> None:
        with self._changed:
            self._waiting = [
                (s, r) for s, r in self._waiting if (s, decode_lock(s, r).fh) != (session, fh)
            ]
            if self._table.close(node, session, fh):
                self._changed.notify()

    def interrupt(self, session: Session, unique: int) -> bool:
        """Stop waiting. True: it did wait."""
        with self._changed:
            before = len(self._waiting)
            self._waiting = [w for w in self._waiting if (w[0], w[1].unique) != (session, unique)]
            return len(self._waiting) != before

    def forget(self, session: Session) -> None:
        with self._changed:
            self._waiting = [w for w in self._waiting if w[0] is not session]
            self._table.forget(session)
            self._changed.notify()

    def _alive(self, holder: Hashable) -> bool:
        assert isinstance(holder, Session)
        return time.monotonic() - holder.heard_s < self.lease_s

    def _serve_waiting(self) -> None:
        """Leases and the grace lapse silently, so while somebody waits we look every 50 ms."""
        while True:
            with self._changed:
                self._changed.wait(0.05 if self._waiting else None)
                served = self._decide_waiting() if time.monotonic() >= self._free_s else []
            for session, request, frame in served:
                with contextlib.suppress(RuntimeError):  # that client has just ended
                    session.pool.submit(session.finish, request.op, request.unique, frame)

    def _decide_waiting(self) -> list[tuple[Session, Request, bytes]]:
        decided = []
        for session, request in list(self._waiting):
            if self._table.put(request.node, decode_lock(session, request)):
                frame = fuse.reply(request.unique)
            elif request.op == Op.SETLK:  # it waited for the grace to end only
                frame = fuse.failure(request.unique, errno.EAGAIN)
            else:
                continue
            self._waiting.remove((session, request))
            decided.append((session, request, frame))
        return decided


def decode_lock(session: Session, request: Request) -> Lock:
    fh, owner, start, end, kind, pid, flags = fuse.LOCK.unpack_from(request.body)
    return Lock(session, owner, start, end, kind, pid, fh, bool(flags & fuse.LOCK_FLOCK))


class Server:
    """All clients of one pool folder."""

    def __init__(self, folder: str, lease_s: float, grace_s: float) -> None:
        self.epoch = secrets.token_hex(8)
        self._files = Files(folder)
        self._locks = Locks(lease_s, grace_s)
        self._sessions: dict[tuple[str, str], Session] = {}
        self._guard = threading.Lock()

    def attend(self, sock: socket.socket) -> None:
        """Serve one connection until it breaks."""
        session: Session | None = None
        frames = fuse.Frames()
        try:
            tune(sock)
            while True:
                frames.filled(sock.recv_into(frames.space()))
                while (frame := frames.next()) is not None:
                    if session is None:
                        session = self._welcome(sock, frame)
                    else:
                        session.heard_s = time.monotonic()
                        self._take(session, frame)
        except (OSError, ValueError, KeyError, struct.error) as error:
            if not isinstance(error, OSError):
                say(f"a client spoke nonsense: {error!r}")
        finally:
            if session is not None:
                session.disconnect(sock)
            sock.close()

    def _welcome(self, sock: socket.socket, frame: bytes) -> Session:
        request = Request.decode(frame)
        if request.op != Op.HELLO:
            raise ValueError("no greeting")
        hello = json.loads(bytes(request.body))
        key = (str(hello["host"]), str(hello["session"]))
        with self._guard:
            session = self._sessions.get(key)
            if session is None:
                session = self._sessions[key] = Session(key[0])
            earlier = [k for k in self._sessions if k[0] == key[0] and k != key]
            gone = [self._sessions.pop(k) for k in earlier]
        for old in gone:  # an earlier life of this host: its power was cut
            self._locks.forget(old)
            old.end()
        session.heard_s = time.monotonic()
        session.connect(sock)
        session.send(fuse.reply(request.unique, json.dumps({"epoch": self.epoch}).encode()))
        return session

    def _take(self, session: Session, frame: bytes) -> None:
        request = Request.decode(frame)
        if request.op == Op.RENEW:
            session.send(fuse.reply(request.unique))
        elif request.op == Op.RECLAIM:
            self._reclaim(session, json.loads(bytes(request.body)))
        elif request.op == Op.INTERRUPT:
            (unique,) = fuse.FH.unpack_from(request.body)
            if self._locks.interrupt(session, unique):
                session.finish(Op.SETLKW, unique, fuse.failure(unique, errno.EINTR))
        elif session.begin(request.unique):
            if self._slow(session, request):
                session.pool.submit(self._do, session, request)
            else:
                self._do(session, request)

    def _slow(self, session: Session, request: Request) -> bool:
        if request.op in (Op.READ, Op.WRITE):
            fh, _, size = fuse.READ_IN.unpack_from(request.body)
            return size > SHORT_IO or (request.op == Op.WRITE and fh in session.sync_files)
        return request.op in ALWAYS_SLOW

    def _do(self, session: Session, request: Request) -> None:
        try:
            if request.op in LOCK_OPS:
                answer = self._locks.run(session, request)
                if answer is None:
                    return
            else:
                if request.op in CLOSE_OPS:
                    (fh,) = fuse.FH.unpack_from(request.body)
                    session.sync_files.discard(fh)
                    self._locks.close(session, request.node, fh)
                answer = self._files.run(request, session.opens)
                self._note_open(session, request, answer)
            frame = fuse.reply(request.unique, answer)
        except OSError as error:
            frame = fuse.failure(request.unique, error.errno or errno.EIO)
        except (struct.error, ValueError, OverflowError) as error:
            say(f"{fuse.NAMES.get(request.op, request.op)} from {session.host}: {error!r}")
            frame = fuse.failure(request.unique, errno.EINVAL)
        session.finish(request.op, request.unique, frame)

    def _note_open(self, session: Session, request: Request, answer: bytes) -> None:
        if request.op in (Op.OPEN, Op.CREATE):
            (flags,) = struct.unpack_from("<I", request.body)
            if flags & SYNC_FLAGS:
                fh, _, _ = fuse.OPEN_OUT.unpack_from(answer, len(answer) - fuse.OPEN_OUT.size)
                session.sync_files.add(fh)

    def _reclaim(self, session: Session, claim: dict[str, list[list[int]]]) -> None:
        """After a restart of this server: a client names what it had open and locked."""
        for fh, node, flags, folder in claim["opens"]:
            with contextlib.suppress(OSError):  # deleted meanwhile: stale for its user
                if fh not in session.opens.files:
                    session.opens.files[fh] = self._files.reopen(node, flags, bool(folder))
                    if flags & SYNC_FLAGS:
                        session.sync_files.add(fh)
        for node, owner, start, end, kind, pid, fh, flock in claim["locks"]:
            lock = Lock(session, owner, start, end, kind, pid, fh, bool(flock))
            self._locks.reclaim(node, lock)


def tune(sock: socket.socket) -> None:
    """No delay for small messages; a silent peer is given up within seconds."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SENT_WITHIN_MS)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3),
    ):  # fmt: skip
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def say(text: str) -> None:
    sys.stderr.write(f"fileserver: {text}\n")
    sys.stderr.flush()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="outlast.rack.fileserver")
    parser.add_argument("folder")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument(
        "--lease", type=float, default=2.0, help="seconds a silent client's locks last"
    )
    parser.add_argument("--grace", type=float, default=0.0, help="seconds without new locks")
    parser.add_argument("--report", type=int, default=1, help="gets the line 'ready'")
    options = parser.parse_args(argv)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.umask(0)
    threading.stack_size(256 * 1024)
    kernel.realtime(PRIORITY)
    server = Server(options.folder, options.lease, options.grace)
    try:
        listener = socket.create_server((options.address, options.port), backlog=64)
    except OSError as error:
        say(f"cannot listen on {options.address}:{options.port}: {error.strerror}")
        return 1
    with contextlib.suppress(OSError):
        kernel.lock_memory()
    os.write(options.report, b"ready\n")
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=server.attend, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    raise SystemExit(main())
