"""How pulse and agent speak to the guard: blocking, with time-outs, nothing but the stdlib.

Every call returns the guard's reply, an object with "ok" and, if that is false, "error". A guard
that refuses is an answer; only a guard that cannot be asked raises GuardGone. The connection is
made at the first call and again after a failure. Not thread-safe: one client per thread.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path

from outlast.errors import Unreachable

TIMEOUT_S = 3.0
KILL_TIMEOUT_S = 8.0  # the guard itself answers a kill after at most 5 s

Reply = dict[str, object]


class GuardGone(Unreachable, ConnectionError):
    """The guard did not answer. Nothing is known about what it did with the request."""

    code = "guard-gone"


class GuardClient:
    """`path` is the guard's socket, /run/outlast/guard.sock."""

    def __init__(self, path: Path | str, timeout_s: float = TIMEOUT_S) -> None:
        self.path = str(path)
        self.timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._rest = b""

    def status(self) -> Reply:
        return self.ask("status")

    def open(
        self,
        term: str,
        *,
        fence_ns: int,
        kill_ns: int,
        margin_ns: int,
        watchdog_s: int,
        start_boot_ns: int,
        start_raw_ns: int,
        watchdog: str = "",
    ) -> Reply:
        """Start a term. `watchdog`: "off" | "automatic" | "required", "" = the host file's."""
        return self.ask(
            "open", term=term, fence_ns=fence_ns, kill_ns=kill_ns, margin_ns=margin_ns,
            watchdog_s=watchdog_s, start_boot_ns=start_boot_ns, start_raw_ns=start_raw_ns,
            watchdog=watchdog, drains=True,
        )  # fmt: skip

    def retime(self, term: str, **times: int | str) -> Reply:
        """The open term goes on with these times, which are those of `open`."""
        return self.ask("retime", term=term, **times)

    def confirm(self, term: str, start_boot_ns: int, start_raw_ns: int) -> Reply:
        """Move the deadline to start + F. Gives {"deadline_ns", "remaining_ns"}."""
        return self.ask(
            "confirm", term=term, start_boot_ns=start_boot_ns, start_raw_ns=start_raw_ns
        )

    def extend(self, term: str, start_boot_ns: int, start_raw_ns: int) -> Reply:
        """The same without a beat: all other hosts gave this one more time."""
        return self.ask("extend", term=term, start_boot_ns=start_boot_ns, start_raw_ns=start_raw_ns)

    def close(self, term: str, reason: str, *, reset_if_running: bool = False) -> Reply:
        """End the term for good. `reset_if_running`: the storage is sick."""
        return self.ask("close", term=term, reason=reason, reset_if_running=reset_if_running)

    def drained(self, term: str) -> Reply:
        """What ran in this closed term has left nothing on its way to the storage."""
        return self.ask("drained", term=term)

    def settled(self, store: str, since_ns: int) -> Reply:
        """This storage has answered for X; since_ns: when its newest question began (BOOTTIME)."""
        return self.ask("settled", store=store, since_ns=since_ns)

    def admit(self, vm: str, *, incoming: bool = False, stores: Sequence[str] = ()) -> Reply:
        """Let this VM, or its copy from another host, in within 30 s.

        stores: the storages besides the pool's that it writes to. Gives {"cgroup", "remaining_ns"}.
        """
        return self.ask("admit", vm=vm, incoming=incoming, stores=list(stores))

    def release(self, vm: str) -> Reply:
        return self.ask("release", vm=vm)

    def kill(self, vm: str) -> Reply:
        """Kill one VM; returns when it is gone, or after 5 s with {"populated": true}."""
        return self.ask("kill", vm=vm)

    def enter(self, vm: str, *, incoming: bool = False) -> Reply:
        """Use up an admission: the guard moves THIS process into the VM's cgroup."""
        return self.ask("enter", vm=vm, incoming=incoming)

    def ask(self, op: str, **fields: object) -> Reply:
        """One request, one reply. Raises GuardGone."""
        line = json.dumps({"op": op, **fields}).encode() + b"\n"
        timeout_s = max(self.timeout_s, KILL_TIMEOUT_S) if op == "kill" else self.timeout_s
        try:
            connection = self._connect()
            connection.settimeout(timeout_s)
            connection.sendall(line)
            reply = json.loads(self._line(connection))
        except (OSError, ValueError) as trouble:
            self.disconnect()
            raise GuardGone(
                f"the guard does not answer at {self.path}: {trouble or type(trouble).__name__}",
                hint="is outlast-guard running?",
            ) from None
        if not isinstance(reply, dict):
            self.disconnect()
            raise GuardGone(f"something that is not the guard answers at {self.path}")
        return reply

    def disconnect(self) -> None:
        """Drop the connection; the next call makes a new one."""
        connection, self._socket, self._rest = self._socket, None, b""
        if connection:
            connection.close()

    def _connect(self) -> socket.socket:
        if self._socket is None:
            fresh = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            fresh.settimeout(self.timeout_s)
            try:
                fresh.connect(self.path)
            except OSError:
                fresh.close()
                raise
            self._socket = fresh
        return self._socket

    def _line(self, connection: socket.socket) -> bytes:
        while b"\n" not in self._rest:
            data = connection.recv(65536)
            if not data:
                raise ConnectionError("the connection ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line
