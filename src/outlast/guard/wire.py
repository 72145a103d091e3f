"""The guard's unix socket: one JSON object a line, request and reply, never waiting for anybody.

Rules:
1. Mode 0600 and the peer's uid must be ours: only root speaks to the guard.
2. Garbage is answered with {"ok": false, "error"}; it never ends the process.
3. A peer that does not read is dropped once 256 KiB wait for it; one that sends a line longer
   than 64 KiB is told so and dropped. At most 256 peers.
4. One request of a peer is served at a time: while its reply is pending, its later lines wait.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path

from outlast.errors import OutlastError

LINE_MAX = 64 * 1024
UNSENT_MAX = 256 * 1024
PEERS_MAX = 256


class SocketTrouble(OutlastError):
    """The socket cannot be made."""

    code = "socket-trouble"


@dataclass(eq=False, slots=True)
class Peer:
    """One connection. `pid` is the process that connected (0: not known here)."""

    socket: socket.socket
    pid: int
    uid: int
    received: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)
    busy: bool = False  # a reply is pending
    ended: bool = False  # it sends nothing any more, but may still wait for replies
    ending: bool = False  # close once everything is sent
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    peer: Peer
    op: str
    fields: dict[str, object]


class Server:
    """Listens at `path`, replacing a socket that a killed guard left there.

    The caller holds the lock that makes it the only guard. Raises SocketTrouble.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._peers: set[Peer] = set()
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            mask = os.umask(0o177)
            try:
                self._listener.bind(str(path))
            finally:
                os.umask(mask)
            self._listener.listen(PEERS_MAX)
        except OSError as trouble:
            raise SocketTrouble(f"the guard's socket {path} cannot be made: {trouble}") from None
        self._selector.register(self._listener, selectors.EVENT_READ)

    def wake_on(self, fd: int) -> None:
        """End poll() early when this descriptor becomes readable."""
        self._selector.register(fd, selectors.EVENT_READ, "wake")

    def poll(self, timeout_s: float) -> list[Request]:
        """Wait at most this long for something to do; the complete requests that arrived."""
        for key, mask in self._selector.select(timeout_s):
            if key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.data, Peer):
                if mask & selectors.EVENT_WRITE:
                    self._send(key.data)
                if mask & selectors.EVENT_READ:
                    self._receive(key.data)
            else:
                os.read(key.fd, 64)
        return [r for peer in list(self._peers) if (r := self._request(peer))]

    def waiting(self) -> bool:
        """True when a complete line is here that no poll() has handed out yet."""
        return any(not p.busy and b"\n" in p.received for p in self._peers)

    def reply(self, peer: Peer, value: dict[str, object]) -> None:
        """Answer; fine if the peer is gone."""
        peer.busy = False
        if not peer.gone:
            peer.unsent += json.dumps(value).encode() + b"\n"
            self._send(peer)

    def close(self) -> None:
        for peer in list(self._peers):
            self._drop(peer)
        self._selector.close()
        self._listener.close()

    # -- inner -----------------------------------------------------------------------------

    def _accept(self) -> None:
        """Take in all who wait: many VMs may start at once."""
        for _ in range(PEERS_MAX):
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # nobody is left, or no descriptor is
            self._welcome(connection)

    def _welcome(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        pid, uid, _ = struct.unpack(
            "iii", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        if len(self._peers) >= PEERS_MAX or uid not in (0, os.getuid()):
            connection.close()
            return
        peer = Peer(connection, pid, uid)
        self._peers.add(peer)
        self._selector.register(connection, selectors.EVENT_READ, peer)

    def _receive(self, peer: Peer) -> None:
        if peer.gone or peer.ended or peer.ending or len(peer.received) > LINE_MAX:
            return
        try:
            data = peer.socket.recv(LINE_MAX)
        except BlockingIOError:
            return
        except OSError:
            self._drop(peer)
            return
        peer.ended = not data
        peer.received += data
        self._watch(peer)

    def _request(self, peer: Peer) -> Request | None:
        """The next request of this peer; garbage before it is answered here."""
        while not (peer.busy or peer.gone or peer.ending):
            line, newline, rest = peer.received.partition(b"\n")
            if not newline:
                if len(line) > LINE_MAX:
                    peer.ending = True
                    self.reply(peer, _garbage(f"a line may have {LINE_MAX} bytes"))
                elif peer.ended:
                    peer.ending = True
                    self._send(peer)
                return None
            peer.received = rest
            self._watch(peer)
            try:
                value = json.loads(bytes(line))
            except (ValueError, RecursionError):
                self.reply(peer, _garbage("that is not a line of JSON"))
                continue
            if not isinstance(value, dict) or not isinstance(value.get("op"), str):
                self.reply(peer, _garbage('a request is an object with an "op"'))
                continue
            peer.busy = True
            return Request(peer, value["op"], value)
        return None

    def _send(self, peer: Peer) -> None:
        try:
            while peer.unsent:
                del peer.unsent[: peer.socket.send(peer.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(peer)
            return
        if len(peer.unsent) > UNSENT_MAX or (peer.ending and not peer.unsent):
            self._drop(peer)
            return
        self._watch(peer)

    def _watch(self, peer: Peer) -> None:
        """Ask the selector only for what can be used: a full or ending peer is not read."""
        if peer.gone:
            return
        full = peer.ended or peer.ending or len(peer.received) > LINE_MAX
        events = (0 if full else selectors.EVENT_READ) | (
            selectors.EVENT_WRITE if peer.unsent else 0
        )
        known = peer.socket in self._selector.get_map()
        if known and events:
            self._selector.modify(peer.socket, events, peer)
        elif known:
            self._selector.unregister(peer.socket)
        elif events:
            self._selector.register(peer.socket, events, peer)

    def _drop(self, peer: Peer) -> None:
        if peer.gone:
            return
        peer.gone = True
        self._peers.discard(peer)
        with contextlib.suppress(KeyError):
            self._selector.unregister(peer.socket)
        peer.socket.close()


def _garbage(sentence: str) -> dict[str, object]:
    return {"ok": False, "error": sentence}
