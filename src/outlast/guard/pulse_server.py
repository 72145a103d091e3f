"""The pulse's unix socket for the agent: snapshots out, publications in, one JSON object a line.

Rules:
1. Every client gets every snapshot, but a client that does not read gets only the newest when it
   reads again: nothing is queued behind a frozen agent.
2. A line that cannot be taken is answered with {"error": sentence}; the connection stays.
3. The socket is 0600. A stale socket file is replaced; two pulses are kept apart by a lock that a
   process holds until its last thread is gone, so also while an old write still hangs.
4. The agent counts as present while one is connected and published within three beats.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from outlast.errors import Conflict, InvalidInput
from outlast.guard.pulse_facts import Desk

_LINE_MAX = 65536
_CLIENTS_MAX = 16
_HINTS_MAX = 24
_MESSAGES = {"publish", "leave", "proposing", "drill"}
_NUMBERS = ("vm_count", "free_mib", "free_vcpus", "work_seq")


def lock(run_dir: Path) -> IO[str]:
    """Be the only pulse here; keep the file open. Raises Conflict when there is one."""
    file = open(run_dir / "pulse.lock", "w")  # noqa: SIM115 - held for life
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise Conflict(
            "a pulse is running on this host already, or a killed one still hangs in the storage",
            hint="look at 'ps -eLo pid,state,cmd | grep outlast.guard.pulse'",
        ) from None
    return file


def read_publication(value: object) -> Desk:
    """What an agent publishes: {"vm_count","free_mib","free_vcpus","work_seq","hints","witness"}.

    Raises InvalidInput naming what cannot be taken. Missing numbers are 0. `tells_views` is for
    pulse_asking.
    """
    if not isinstance(value, Mapping):
        raise InvalidInput("'publish' must be an object")
    numbers: dict[str, int] = {}
    for name in _NUMBERS:
        number = value.get(name, 0)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 63:
            raise InvalidInput(f"'{name}' must be a whole number, not negative")
        numbers[name] = number
    given = value.get("hints", [])
    if not isinstance(given, list):
        raise InvalidInput("'hints' must be a list of [register name, version]")
    witness = value.get("witness")
    if not isinstance(witness, bool | None):
        raise InvalidInput("'witness' must be true, false or null")
    hints = tuple(map(_hint, given[:_HINTS_MAX]))
    return Desk(hints=hints, witness=witness, **numbers)  # type: ignore[arg-type]


def _hint(item: object) -> tuple[str, int]:
    match item:
        case [str(name), int(version)] if name.isascii() and 0 < len(name) <= 72:
            if 0 <= version < 1 << 63 and not isinstance(version, bool):
                return name, version
    raise InvalidInput("a hint must be [register name of 1 to 72 ASCII characters, version]")


@dataclass(slots=True)
class _Client:
    sock: socket.socket
    got: bytearray = field(default_factory=bytearray)
    sending: bytes = b""
    newest: bytes = b""  # waits until `sending` is out


class AgentServer:
    """Serves agents from within the pulse's loop; `said` is called with each good message."""

    def __init__(
        self,
        path: Path,
        selector: selectors.BaseSelector,
        said: Callable[[dict[str, object]], None],
    ) -> None:
        self._path, self._selector, self._said = path, selector, said
        self._clients: dict[int, _Client] = {}
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(before)
        self._listener.listen(8)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    @property
    def connected(self) -> bool:
        return bool(self._clients)

    def broadcast(self, snapshot: Mapping[str, object]) -> None:
        """Send to all clients (rule 1)."""
        if not self._clients:
            return
        line = json.dumps(snapshot, separators=(",", ":")).encode() + b"\n"
        for client in list(self._clients.values()):
            self._send(client, line)

    def close(self) -> None:
        for client in list(self._clients.values()):
            self._drop(client)
        self._selector.unregister(self._listener)
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def _accept(self, _events: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= _CLIENTS_MAX:
            sock.close()
            return
        sock.setblocking(False)
        client = _Client(sock)
        self._clients[sock.fileno()] = client
        self._selector.register(
            sock, selectors.EVENT_READ, lambda events: self._serve(client, events)
        )

    def _serve(self, client: _Client, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush(client)
        if events & selectors.EVENT_READ and client.sock.fileno() in self._clients:
            self._hear(client)

    def _hear(self, client: _Client) -> None:
        try:
            data = client.sock.recv(_LINE_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.got += data
        if not data or len(client.got) > 4 * _LINE_MAX:
            self._drop(client)
            return
        while b"\n" in client.got:
            line, _, rest = bytes(client.got).partition(b"\n")
            client.got = bytearray(rest)
            self._take(client, line)

    def _take(self, client: _Client, line: bytes) -> None:
        try:
            message = json.loads(line)
            if not isinstance(message, dict) or not _MESSAGES & set(message):
                raise InvalidInput(
                    'a message is {"publish":{...}}, {"leave":true}, {"proposing":8}'
                )
            self._said(message)
        except (ValueError, RecursionError):
            self._send(client, b'{"error":"that line is not JSON"}\n')
        except InvalidInput as trouble:
            self._send(client, json.dumps({"error": trouble.sentence}).encode() + b"\n")

    def _send(self, client: _Client, line: bytes) -> None:
        if client.sending:
            client.newest = line
            return
        client.sending = line
        self._flush(client)

    def _flush(self, client: _Client) -> None:
        try:
            while client.sending:
                sent = client.sock.send(client.sending)
                client.sending = client.sending[sent:]
                if not client.sending:
                    client.sending, client.newest = client.newest, b""
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.sending else 0)
        key = self._selector.get_key(client.sock)
        if key.events != wanted:
            self._selector.modify(client.sock, wanted, key.data)

    def _drop(self, client: _Client) -> None:
        if self._clients.pop(client.sock.fileno(), None) is not None:
            self._selector.unregister(client.sock)
        client.sock.close()
