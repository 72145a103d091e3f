"""Commands to a machine without its network: QEMU's guest agent, and QEMU's own monitor.

Rules:
1. Every wait ends. A machine that is reset, hangs or is killed leads to Unreachable or TimedOut.
2. One channel is used by one caller at a time; commands themselves may run side by side in the
   machine, because starting one and asking for its end are two calls.
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.errors import OutlastError, TimedOut, Unreachable

ANSWER_S, POLL_S = 20.0, 0.2


class CommandFailed(OutlastError):
    """A command in a machine did not do what it was to do."""


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return (self.out + self.err).strip()


class Line:
    """JSON, a line each, over a socket in the file system."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._rest = b""

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._rest = None, b""

    def say(self, words: dict[str, Any], limit_s: float = ANSWER_S) -> Any:
        """What is answered, without events. Raises Unreachable."""
        try:
            if self._socket is None:
                self._open(limit_s)
            assert self._socket is not None
            self._socket.settimeout(limit_s)
            self._socket.sendall(json.dumps(words).encode() + b"\n")
            while True:
                answer = self._next()
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise Unreachable(f"{words['execute']}: {answer['error'].get('desc')}")
        except (OSError, ValueError) as error:
            self.close()
            raise Unreachable(f"{self._path.name}: {error or 'no answer'}") from error

    def _open(self, limit_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(limit_s)
        self._socket.connect(str(self._path))
        self._greet()

    def _greet(self) -> None:
        raise NotImplementedError

    def _next(self) -> dict[str, Any]:
        assert self._socket is not None
        while b"\n" not in self._rest:
            more = self._socket.recv(1 << 16)
            if not more:
                raise OSError("it was closed")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line.lstrip(b"\xff"))
        return answer


class Monitor(Line):
    """QEMU itself."""

    def _greet(self) -> None:
        self._next()
        self.say({"execute": "qmp_capabilities"})


class GuestAgent(Line):
    """The agent in the machine."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lock = threading.Lock()

    def _greet(self) -> None:
        """Answers to those who asked before us are thrown away."""
        number = secrets.randbelow(1 << 31)
        assert self._socket is not None
        self._socket.settimeout(2.0)
        self._socket.sendall(json.dumps(
            {"execute": "guest-sync", "arguments": {"id": number}}).encode() + b"\n")  # fmt: skip
        while self._next().get("return") != number:
            pass

    def there(self) -> bool:
        with self._lock:
            try:
                self.say({"execute": "guest-ping"}, 3.0)
            except Unreachable:
                return False
            return True

    def begin(self, command: str, typed: str = "") -> int:
        """Start a shell's command; its number. Raises Unreachable."""
        arguments: dict[str, object] = {
            "path": "/bin/sh", "arg": ["-c", command], "capture-output": True,
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root"],
        }  # fmt: skip
        if typed:
            arguments["input-data"] = base64.b64encode(typed.encode()).decode()
        with self._lock:
            return int(self.say({"execute": "guest-exec", "arguments": arguments})["pid"])

    def ended(self, number: int) -> Done | None:
        """None while it runs. Raises Unreachable."""
        with self._lock:
            said = self.say({"execute": "guest-exec-status", "arguments": {"pid": number}})
        if not said["exited"]:
            return None
        out, err = (
            base64.b64decode(said.get(key, "")).decode(errors="replace")
            for key in ("out-data", "err-data")
        )
        return Done(int(said.get("exitcode", 128 + int(said.get("signal", 0)))), out, err)

    def wait(self, number: int, limit_s: float, what: str) -> Done:
        """Raises TimedOut, Unreachable."""
        until = time.monotonic() + limit_s
        while (done := self.ended(number)) is None:
            if time.monotonic() > until:
                raise TimedOut(f"after {limit_s:g} s it still ran: {what}")
            time.sleep(POLL_S)
        return done
