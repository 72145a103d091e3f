"""The connection of a storage client to the server: made again for ever, never waited for.

Rules:
1. Everything is non-blocking: a cut network never stops the client's one thread.
2. A connection that stays silent for SILENCE_S while something is awaited is thrown away (with a
   reset, so that nothing of it is delivered later) and made again every RETRY_S.
3. While locks are held the lease is renewed every RENEW_S; otherwise nothing is sent unasked.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import json
import select
import socket
import struct
import time
from collections.abc import Callable

from outlast.rack import fuse
from outlast.rack.fuse import Op

RETRY_S, CONNECT_S, RENEW_S, SILENCE_S = 0.1, 0.5, 0.5, 1.5
HELLO_UNIQUE, RENEW_UNIQUE = (1 << 64) - 1, (1 << 64) - 2
ABORT = struct.pack("ii", 1, 0)


class Link:
    """One TCP connection at a time, inside the client's epoll loop."""

    def __init__(self, address: tuple[str, int], host: str, session: str) -> None:
        self._address, self._host, self._session = address, host, session
        self._sock: socket.socket | None = None
        self._out: collections.deque[memoryview] = collections.deque()
        self._frames = fuse.Frames()
        self._epoch = ""
        self._retry_s = 0.0
        self._dialled_s = self._heard_s = self._renewed_s = self._asked_s = 0.0
        self.connected = False

    def start(
        self,
        poll: select.epoll,
        on_reply: Callable[[bytes], None],
        resend: Callable[[], None],
        claim: Callable[[], bytes],
    ) -> None:
        """Begin. `on_reply` gets each reply; `resend` and `claim` are asked after a new start."""
        self._poll, self._on_reply, self._resend, self._claim = poll, on_reply, resend, claim
        self._dial(time.monotonic())

    def send(self, frame: bytes) -> None:
        """Send now or as soon as the socket takes it; without a connection `resend` does it."""
        if not self.connected or self._sock is None:
            return
        if not self._out:
            try:
                sent = self._sock.send(frame)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._drop()
                return
            if sent == len(frame):
                return
            frame = frame[sent:]
            self._watch(select.EPOLLIN | select.EPOLLOUT)
        self._out.append(memoryview(frame))

    def on_event(self, events: int) -> None:
        """Something happened on the socket."""
        if self._sock is None:
            return
        try:
            if self._dialled_s and events & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP):
                self._greet()
            elif events & select.EPOLLOUT:
                self._flush()
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self._receive()
        except BlockingIOError:
            return
        except (OSError, ValueError):
            self._drop()

    def due_s(self, awaited: bool, locked: bool) -> float | None:
        """When `tick` has something to do next; None: never, unless something happens."""
        if self._sock is None:
            return self._retry_s
        if not self.connected:
            return self._heard_s + CONNECT_S
        if awaited or locked:
            return max(self._heard_s, self._renewed_s) + RENEW_S
        return None

    def tick(self, now_s: float, awaited: bool, locked: bool) -> None:
        if self._sock is None:
            if now_s >= self._retry_s:
                self._dial(now_s)
        elif not self.connected:
            if now_s >= self._heard_s + CONNECT_S:
                self._drop()
        elif awaited or locked:
            if self._renewed_s > self._heard_s and now_s - self._asked_s > SILENCE_S:
                self._drop()
            elif now_s >= max(self._heard_s, self._renewed_s) + RENEW_S:
                if self._renewed_s <= self._heard_s:
                    self._asked_s = now_s
                self._renewed_s = now_s
                self.send(fuse.request(Op.RENEW, RENEW_UNIQUE))

    # -- states: no socket -> dialling -> greeting -> connected

    def _dial(self, now_s: float) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock, self._dialled_s, self._heard_s = sock, now_s, now_s
        code = sock.connect_ex(self._address)
        if code not in (0, errno.EINPROGRESS):
            self._drop()
            return
        self._poll.register(sock.fileno(), select.EPOLLOUT)

    def _greet(self) -> None:
        assert self._sock is not None
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, "no connection")
        self._dialled_s = 0.0
        self._frames = fuse.Frames()
        self._out.clear()
        body = json.dumps({"host": self._host, "session": self._session}).encode()
        self._sock.send(fuse.request(Op.HELLO, HELLO_UNIQUE, 0, body))
        self._watch(select.EPOLLIN)

    def _receive(self) -> None:
        assert self._sock is not None
        self._frames.filled(self._sock.recv_into(self._frames.space()))
        self._heard_s = time.monotonic()
        while (frame := self._frames.next()) is not None:
            _, _, unique = fuse.OUT.unpack_from(frame)
            if unique == HELLO_UNIQUE:
                self._welcomed(json.loads(frame[fuse.OUT.size :])["epoch"])
            elif unique != RENEW_UNIQUE:
                self._on_reply(frame)

    def _welcomed(self, epoch: str) -> None:
        restarted = self._epoch not in ("", epoch)
        self._epoch, self.connected = epoch, True
        self._renewed_s = self._asked_s = 0.0
        if restarted:
            self.send(self._claim())
        self._resend()

    def _flush(self) -> None:
        assert self._sock is not None
        while self._out:
            sent = self._sock.send(self._out[0])
            if sent < len(self._out[0]):
                self._out[0] = self._out[0][sent:]
                return
            self._out.popleft()
        self._watch(select.EPOLLIN)

    def _watch(self, events: int) -> None:
        if self._sock is not None:
            self._poll.modify(self._sock.fileno(), events)

    def _drop(self) -> None:
        sock, self._sock, self.connected = self._sock, None, False
        self._out.clear()
        self._retry_s = time.monotonic() + RETRY_S
        if sock is not None:
            with contextlib.suppress(OSError, ValueError):
                self._poll.unregister(sock.fileno())
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            sock.close()
