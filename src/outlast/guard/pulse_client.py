"""How an agent listens to the pulse: snapshots in, publications out, with reconnects.

    with PulseClient(path) as pulse:
        for snapshot in pulse.snapshots():
            pulse.publish(vm_count=2, free_mib=1024, free_vcpus=3, work_seq=7, hints=[...])

Rules:
1. `snapshots` blocks; `publish`, `leave` and `close` may be called from any other thread.
2. A pulse that is not there is waited for. The iterator yields None when a connection was lost, so
   that the caller knows that it knows nothing.
3. The last publication is sent again after each reconnect: a restarted pulse has forgotten it.
4. A view is written only after the pulse has said that it knows of it (`propose`). A pulse of
   version 0.1.0 knows nothing of that and gives nobody time, so it need not be told.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

RETRY_S = 0.2
PROPOSE_S = 2.0
EVERY_VIEW = 1 << 62  # what a pulse says that need not be told
_LINE_MAX = 4 * 1024 * 1024

Json = dict[str, object]


class PulseClient:
    """One connection to /run/outlast/pulse.sock."""

    def __init__(self, path: Path | str) -> None:
        self._path = str(path)
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._closed = threading.Event()
        self._last: bytes = b""
        self._knows = threading.Condition(self._lock)
        self._proposed: int | None = None  # what the pulse's newest word says; None: nothing yet

    def snapshots(self) -> Iterator[Json | None]:
        """Snapshots as they come, None after each loss; ends after `close`."""
        while not self._closed.is_set():
            sock = self._connect()
            if sock is None:
                self._closed.wait(RETRY_S)
                continue
            with contextlib.suppress(OSError, ValueError):
                for snapshot in self._lines(sock):
                    if self._closed.is_set():
                        break
                    self._heard(snapshot)
                    yield snapshot
            with self._lock:
                self._sock = self._proposed = None
            sock.close()
            if not self._closed.is_set():
                yield None

    def publish(
        self, *, vm_count: int, free_mib: int, free_vcpus: int, work_seq: int,
        hints: Sequence[tuple[str, int]] = (), witness: bool | None = None,
    ) -> bool:  # fmt: skip
        """Say what goes into the block; True when a pulse got it now, else it gets it later."""
        return self._send({
            "publish": {
                "vm_count": vm_count, "free_mib": free_mib, "free_vcpus": free_vcpus,
                "work_seq": work_seq, "hints": [list(h) for h in hints], "tells_views": True,
                "witness": witness,
            }
        }, keep=True)  # fmt: skip

    def leave(self, wish: bool = True) -> bool:
        """End this host's term for good (True), or let it begin a new one (False).

        Returns False when no pulse got it: say it again then.
        """
        return self._send({"leave": wish}, keep=False)

    def drill(self, kind: str, for_s: int) -> bool:
        """Have this host act as if it had less (pulse_drill); True when a pulse was told."""
        return self._send({"drill": {"kind": kind, "for_ms": for_s * 1000}}, keep=False)

    def propose(self, version: int) -> bool:
        """Tell the pulse which view is about to be written; True when it surely knows (rule 4)."""
        if not self._send({"proposing": version}, keep=False):
            return False
        with self._knows:
            known = self._knows.wait_for(
                lambda: self._proposed is not None and self._proposed >= version, PROPOSE_S
            )
        return bool(known)

    def _heard(self, snapshot: Json) -> None:
        said = snapshot.get("proposed", EVERY_VIEW)
        with self._knows:
            self._proposed = said if isinstance(said, int) else None
            self._knows.notify_all()

    def close(self) -> None:
        """End `snapshots`, from any thread."""
        self._closed.set()
        with self._lock:
            if self._sock is not None:
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> PulseClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def _connect(self) -> socket.socket | None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(self._path)
            with self._lock:
                if self._last:
                    sock.sendall(self._last)
                self._sock = sock
        except OSError:
            sock.close()
            return None
        if self._closed.is_set():  # closed between the check and the connect
            self.close()
        return sock

    def _send(self, message: Json, *, keep: bool) -> bool:
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if keep:
                self._last = line
            if self._sock is None:
                return False
            try:
                self._sock.sendall(line)
            except OSError:
                return False
            return True

    @staticmethod
    def _lines(sock: socket.socket) -> Iterator[Json]:
        got = bytearray()
        while data := sock.recv(65536):
            got += data
            while (end := got.find(b"\n")) >= 0:
                value = json.loads(bytes(got[:end]))
                del got[: end + 1]
                if isinstance(value, dict) and "error" not in value:
                    yield value
            if len(got) > _LINE_MAX:
                return
