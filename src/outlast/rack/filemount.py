"""One host's client of the storage server: a hard mount, with a fault switch.

    python -m outlast.rack.filemount ADDRESS PORT MOUNTPOINT CONTROL [--type T] [--shared-locks 0]

It reads raw requests from /dev/fuse, sends them to the server and writes the replies back.

Promises:
1. A broken connection is made again for ever, and everything unanswered is sent again in order
   (a hard mount). After a restart of the server, open files and locks are claimed again first.
2. A process that has been killed does not wait: its requests end within 0.1 s (like NFS).
3. The fault switch (filefaults.py) acts on requests as they arrive: hang, fail, slow, lost reply.
   Healing releases what was held; nothing is lost and nothing is done twice.
4. One thread, no timers while nothing is outstanding: idle costs nothing.

CONTROL is a unix socket: one JSON line with a rule (or {} to ask), one JSON line back.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import heapq
import json
import os
import secrets
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import InvalidInput
from outlast.rack import filefaults, fuse, kernel
from outlast.rack.filelink import Link
from outlast.rack.filelocks import UNLOCK, Lock, LockTable
from outlast.rack.fuse import Op

PRIORITY = 10
KILL_AFTER_S, KILL_EVERY_S = 0.2, 0.05
PF_EXITING = 4
KILL_BIT = 1 << 8  # SIGKILL in the signal masks of /proc
LOCAL = {  # answered here: the server keeps no attributes, caches, maps
    Op.GETXATTR: errno.ENOSYS, Op.SETXATTR: errno.ENOSYS, Op.LISTXATTR: errno.ENOSYS,
    Op.REMOVEXATTR: errno.ENOSYS, Op.FLUSH: errno.ENOSYS, Op.ACCESS: errno.ENOSYS,
    Op.BMAP: errno.ENOSYS, Op.POLL: errno.ENOSYS, Op.IOCTL: errno.ENOTTY,
}  # fmt: skip
SILENT = frozenset((Op.FORGET, Op.BATCH_FORGET, Op.DESTROY))
CLOSING = frozenset((Op.RELEASE, Op.RELEASEDIR))
LOCKING = frozenset((Op.SETLK, Op.SETLKW))


@dataclass(slots=True)
class Waiting:
    """A request that the kernel waits for."""

    frame: bytes
    op: int
    node: int
    pid: int
    path: str
    since_s: float
    held: bool = False  # not sent: a hang or a delay holds it
    lost: bool = False  # sent, but its reply must not arrive


class Mount:
    """The event loop between the kernel, the server and the fault switch."""

    def __init__(self, point: str, kind: str, control: str, link: Link, shared_locks: bool) -> None:
        self._wanted = fuse.WANTED if shared_locks else fuse.WANTED & ~(2 | 1 << 10)
        self._rule = filefaults.Rule()
        self._waiting: dict[int, Waiting] = {}
        self._delayed: list[tuple[float, int]] = []
        self._paths = {fuse.ROOT: ""}
        self._opens: dict[int, tuple[int, int, bool]] = {}
        self._locks = LockTable()
        self._buffer = memoryview(bytearray(fuse.FRAME_MAX))
        self._poll = select.epoll()
        self._fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        data = (
            f"fd={self._fuse},rootmode=40000,user_id=0,group_id=0,allow_other,"
            f"default_permissions,max_read={fuse.WRITE_MAX}"
        )
        kernel.mount("storage:/pool", point, kind, kernel.MS_NOSUID | kernel.MS_NODEV, data)
        self._control = listen(control)
        self._asking: dict[int, socket.socket] = {}
        self._poll.register(self._fuse, select.EPOLLIN)
        self._poll.register(self._control.fileno(), select.EPOLLIN)
        self._link = link
        link.start(self._poll, self._on_reply, self._resend, self._claim)

    def run(self) -> None:
        """Work until the file system is unmounted or its connection is aborted."""
        while True:
            for fd, events in self._poll.poll(self._timeout_s()):
                if fd == self._fuse:
                    if not self._read_request():
                        return
                elif fd == self._control.fileno():
                    self._accept()
                elif fd in self._asking:
                    self._answer_control(fd)
                else:
                    self._link.on_event(events)
            self._tick(time.monotonic())

    # -- requests of the kernel

    def _read_request(self) -> bool:
        try:
            frame = bytes(self._buffer[: os.readv(self._fuse, [self._buffer])])
        except OSError as error:
            return error.errno in (errno.EAGAIN, errno.EINTR, errno.ENOENT)
        _, op, unique, node, _, _, pid, _, _ = fuse.IN.unpack_from(frame)
        if op == Op.INIT:
            self._write(fuse.init_reply(unique, frame[fuse.IN.size :], self._wanted))
        elif op in LOCAL:
            self._write(fuse.failure(unique, LOCAL[Op(op)]))
        elif op == Op.INTERRUPT:
            self._interrupt(frame)
        elif op in SILENT:
            self._forget(op, node, frame)
        elif op not in fuse.NAMES:
            self._write(fuse.failure(unique, errno.ENOSYS))
        else:
            name = fuse.name_in(op, frame[fuse.IN.size :])
            path = self._paths.get(node, "?")
            if name:
                path = f"{path}/{name.decode(errors='replace')}"
            self._waiting[unique] = Waiting(frame, op, node, pid, path, time.monotonic())
            if op in CLOSING:
                (fh,) = fuse.FH.unpack_from(frame, fuse.IN.size)
                self._opens.pop(fh, None)
                self._locks.close(node, None, fh)
            self._route(unique)
        return True

    def _route(self, unique: int) -> None:
        """Judge one waiting request by the rule in force."""
        w, rule = self._waiting[unique], self._rule
        mode = rule.mode if rule.hits(w.op, w.path) else "ok"
        if w.op in CLOSING and mode in ("fail", "lost-reply"):
            mode = "ok"  # nobody would ever close that handle again
        w.held, w.lost = mode in ("hang", "slow"), mode == "lost-reply"
        if mode == "fail":
            del self._waiting[unique]
            self._write(fuse.failure(unique, rule.errno))
        elif mode == "slow":
            heapq.heappush(self._delayed, (time.monotonic() + rule.delay_s, unique))
        elif mode != "hang":
            self._link.send(w.frame)

    def _interrupt(self, frame: bytes) -> None:
        (unique,) = fuse.FH.unpack_from(frame, fuse.IN.size)
        w = self._waiting.get(unique)
        if w is None or w.op != Op.SETLKW:
            return  # a killed requester is noticed by _end_killed
        if w.held:
            self._finish(unique, fuse.failure(unique, errno.EINTR))
        else:
            self._link.send(fuse.request(Op.INTERRUPT, 0, w.node, fuse.FH.pack(unique)))

    def _forget(self, op: int, node: int, frame: bytes) -> None:
        gone = [node]
        if op == Op.BATCH_FORGET:
            body = frame[fuse.IN.size + 8 :]
            gone = [n for n, _ in struct.iter_unpack("<QQ", body[: len(body) // 16 * 16])]
        for one in gone:
            if one != fuse.ROOT:
                self._paths.pop(one, None)

    # -- replies of the server

    def _on_reply(self, frame: bytes) -> None:
        _, code, unique = fuse.OUT.unpack_from(frame)
        w = self._waiting.get(unique)
        if w is None or w.lost:
            return
        if code == 0:
            self._learn(w, frame)
        self._finish(unique, frame)

    def _learn(self, w: Waiting, frame: bytes) -> None:
        """Remember what a later restart of the server would make it forget."""
        body = w.frame[fuse.IN.size :]
        if w.op in fuse.MAKES_ENTRY:
            self._paths[fuse.FH.unpack_from(frame, fuse.OUT.size)[0]] = w.path
        if w.op in (Op.OPEN, Op.OPENDIR, Op.CREATE):
            fh, _, _ = fuse.OPEN_OUT.unpack_from(frame, len(frame) - fuse.OPEN_OUT.size)
            node = fuse.FH.unpack_from(frame, fuse.OUT.size)[0] if w.op == Op.CREATE else w.node
            flags = int.from_bytes(body[:4], "little") & ~(os.O_EXCL | os.O_CREAT | os.O_TRUNC)
            self._opens[fh] = (node, flags & ~os.O_DIRECT, w.op == Op.OPENDIR)
        if w.op in LOCKING:
            fh, owner, start, end, kind, pid, flags = fuse.LOCK.unpack_from(body)
            flock = bool(flags & fuse.LOCK_FLOCK)
            self._locks.put(w.node, Lock(None, owner, start, end, kind, pid, fh, flock))

    def _finish(self, unique: int, frame: bytes) -> None:
        self._waiting.pop(unique, None)
        self._write(frame)

    def _write(self, frame: bytes) -> None:
        try:
            os.write(self._fuse, frame)
        except OSError as error:
            # ENOENT: the kernel no longer waits for it; ENODEV: unmounted
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EPERM):
                say(f"a reply was refused: {error}")

    # -- connection made again

    def _claim(self) -> bytes:
        """What to tell a server that has been restarted."""
        opens = [
            [fh, node, flags, int(folder)] for fh, (node, flags, folder) in self._opens.items()
        ]
        locks = [
            [node, k.owner, k.start, k.end, k.kind, k.pid, k.fh, int(k.flock)]
            for node, k in self._locks
            if k.kind != UNLOCK
        ]
        body = json.dumps({"opens": opens, "locks": locks}).encode()
        return fuse.request(Op.RECLAIM, 0, 0, body)

    def _resend(self) -> None:
        for unique in sorted(self._waiting):
            if not self._waiting[unique].held:
                self._link.send(self._waiting[unique].frame)

    # -- time

    def _timeout_s(self) -> float | None:
        now = time.monotonic()
        due = [self._delayed[0][0]] if self._delayed else []
        if self._waiting:
            oldest = next(iter(self._waiting.values())).since_s
            due.append(max(oldest + KILL_AFTER_S, now + KILL_EVERY_S))
        link_due = self._link.due_s(self._awaited(), bool(self._locks))
        if link_due is not None:
            due.append(link_due)
        return max(0.0, min(due) - now) if due else None

    def _tick(self, now_s: float) -> None:
        while self._delayed and self._delayed[0][0] <= now_s:
            _, unique = heapq.heappop(self._delayed)
            w = self._waiting.get(unique)
            if w is not None and w.held:
                w.held = False
                self._link.send(w.frame)
        self._end_killed(now_s)
        self._link.tick(now_s, self._awaited(), bool(self._locks))

    def _awaited(self) -> bool:
        return any(not w.held for w in self._waiting.values())

    def _end_killed(self, now_s: float) -> None:
        for unique, w in list(self._waiting.items()):
            old = now_s - w.since_s > KILL_AFTER_S
            if old and w.pid and w.op not in CLOSING and killed(w.pid):
                if w.op in LOCKING and not w.held:  # or the server would lock for a dead process
                    self._link.send(fuse.request(Op.INTERRUPT, 0, w.node, fuse.FH.pack(unique)))
                self._finish(unique, fuse.failure(unique, errno.EINTR))

    # -- fault switch

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            sock, _ = self._control.accept()
            sock.setblocking(False)
            self._asking[sock.fileno()] = sock
            self._poll.register(sock.fileno(), select.EPOLLIN)

    def _answer_control(self, fd: int) -> None:
        sock = self._asking.pop(fd)
        self._poll.unregister(fd)
        with sock, contextlib.suppress(OSError):
            try:
                asked = json.loads(sock.recv(65536) or b"{}")
                if asked:
                    self.obey(filefaults.parse(asked))
                answer = self.status()
            except (ValueError, InvalidInput) as error:
                answer = {"error": str(error)}
            sock.sendall(json.dumps(answer).encode() + b"\n")

    def obey(self, rule: filefaults.Rule) -> None:
        """Put a rule in force; what an earlier rule held or lost is judged again."""
        self._rule = rule
        self._delayed.clear()
        for unique in sorted(self._waiting):
            w = self._waiting[unique]
            if w.held or w.lost:
                self._route(unique)

    def status(self) -> dict[str, object]:
        now = time.monotonic()
        oldest = min((w.since_s for w in self._waiting.values()), default=now)
        return {
            "rule": self._rule.as_json(),
            "connected": self._link.connected,
            "waiting": len(self._waiting),
            "held": sum(w.held for w in self._waiting.values()),
            "oldest_ms": round((now - oldest) * 1000),
        }


def killed(pid: int) -> bool:
    """True if that thread is being ended: nobody needs the answer any more."""
    try:
        flags = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[6])
        status = Path(f"/proc/{pid}/status").read_text()
    except (OSError, IndexError, ValueError):
        return True
    masks = [
        int(line.split()[1], 16)
        for line in status.splitlines()
        if line.startswith(("SigPnd:", "ShdPnd:"))
    ]
    return bool(flags & PF_EXITING) or any(mask & KILL_BIT for mask in masks)


def listen(path: str) -> socket.socket:
    Path(path).unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.bind(path)
    Path(path).chmod(0o600)
    sock.listen(8)
    return sock


def say(text: str) -> None:
    sys.stderr.write(f"filemount: {text}\n")
    sys.stderr.flush()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="outlast.rack.filemount")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("point")
    parser.add_argument("control")
    parser.add_argument("--type", default="fuse.glusterfs", help="what /proc/mounts shows")
    parser.add_argument("--shared-locks", type=int, default=1, help="0: locks only on this host")
    options = parser.parse_args(argv)
    kernel.realtime(PRIORITY)
    link = Link((options.address, options.port), socket.gethostname(), secrets.token_hex(8))
    try:
        mount = Mount(
            options.point, options.type, options.control, link, bool(options.shared_locks)
        )
    except OSError as error:
        say(f"cannot mount: {error}")
        return 1
    with contextlib.suppress(OSError):
        kernel.lock_memory()
    os.write(1, b"ready\n")  # the starter waits for this line
    mount.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
