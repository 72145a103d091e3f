"""What the demo sees: agents, guards, the hosts' notes, and what the VMs say on their serial lines.

Promises:
1. The times that are reported as measured come from the serial logs alone: a VM runs again when a
   boot of its that was not there before has signed its disk. The product has no say in that.
2. A pool that does not answer for a while leaves the last picture standing; the age of a silent
   host's heartbeat grows in it.

Logs and notes are read where they lie on the storage, by the caller's thread (`look`). Agents and
guards are asked by another thread, so that an answer that takes long spoils no measurement.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from outlast.errors import OutlastError
from outlast.rack import sockets
from outlast.rack.lab import Lab
from outlast.wire.shapes import HostStatus, PoolStatus, TimelineEntry

PERIOD_S = 0.25
GUARD_TIMEOUT_S, STOP_TIMEOUT_S = 0.5, 10.0


class Tail:
    """A file that others append to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._rest = b""

    def fresh(self) -> bytes:
        """The whole lines that came since the last call."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._at)
                read = file.read()
        except FileNotFoundError:
            return b""
        self._at += len(read)
        whole, newline, self._rest = (self._rest + read).rpartition(b"\n")
        return whole + newline


@dataclass(frozen=True, slots=True)
class Sign:
    """A record that a VM said it has written."""

    boot: str
    seq: int
    at_s: float  # when it was seen, time.monotonic
    wall_s: float


class SerialLog:
    """One VM's serial log, read as it grows."""

    _LINE = re.compile(rb"BOOT ([0-9a-f]{16})|W ([0-9a-f]{16}) (\d+) \d+ [0-9a-f]{8}(?![0-9a-f])")

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self.boots = 0
        self.firsts: list[Sign] = []  # the first record of each boot that has written one
        self.last: Sign | None = None

    def look(self) -> None:
        text = self._tail.fresh()
        now_s, wall_s = time.monotonic(), time.time()
        for found in self._LINE.finditer(text):
            if found[1]:
                self.boots += 1
                continue
            sign = Sign(found[2].decode(), int(found[3]), now_s, wall_s)
            if self.last is None or self.last.boot != sign.boot:
                self.firsts.append(sign)
            self.last = sign

    def again(self, since_s: float) -> Sign | None:
        """The first record of the first boot that wrote nothing before `since_s`."""
        return next((sign for sign in self.firsts if sign.at_s > since_s), None)


class Journals:
    """The notes of all hosts of a pool."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tails: dict[Path, Tail] = {}
        self._all: list[TimelineEntry] = []

    def look(self) -> None:
        for path in self._folder.glob("*.jsonl"):
            for line in self._tails.setdefault(path, Tail(path)).fresh().splitlines():
                with contextlib.suppress(ValueError):  # torn by a power cut
                    self._all.append(TimelineEntry.model_validate_json(line))

    def notes(self) -> tuple[TimelineEntry, ...]:
        """Oldest first; one note for each view, not one from each host."""
        kept, views = [], set()
        for note in sorted(self._all, key=lambda n: n.wall_s):
            view = note.fields.get("view") if note.code == "view-changed" else None
            if view is None or view not in views:
                kept.append(note)
                views.add(view)
        return tuple(kept)


@dataclass(frozen=True, slots=True)
class Guard:
    """What a host's guard says: its state, and how long VMs may still run without a new beat."""

    state: str
    left_ms: int


@dataclass(frozen=True, slots=True)
class Writes:
    """What a VM has said: how often it came up, the newest record it has signed."""

    boots: int = 0
    newest: int | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything at one moment."""

    wall_s: float = 0.0
    status: PoolStatus | None = None
    status_s: float = 0.0  # its age
    guards: dict[str, Guard] = field(default_factory=dict)
    writes: dict[str, Writes] = field(default_factory=dict)
    notes: tuple[TimelineEntry, ...] = ()
    dark: frozenset[str] = frozenset()  # hosts without power

    def beat_age_s(self, host: HostStatus) -> float | None:
        """Since the last change of a host's block."""
        if host.beat_age_ms is None:
            return None
        return host.beat_age_ms / 1000 + (self.status_s if host.name in self.dark else 0)


class Watch:
    """Looks at a pool, from before it exists until it is told to stop."""

    def __init__(self, lab: Lab) -> None:
        self.dark: set[str] = set()
        self.logs: dict[str, SerialLog] = {}
        self._lab = lab
        self._journals = Journals(lab.pool_dir / "journal")
        self._asked = ""  # the host that answered last
        self._status: tuple[float, PoolStatus | None] = (0.0, None)
        self._guards: dict[str, Guard] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT_S)

    def follow(self, vms: Iterable[str]) -> None:
        for vm in vms:
            self.logs[vm] = SerialLog(self._lab.pool_dir / "logs" / f"{vm}.log")

    def look(self) -> Scene:
        """Take in what is new; everything that is known now."""
        for log in self.logs.values():
            log.look()
        self._journals.look()
        writes = {
            vm: Writes(log.boots, log.last.seq if log.last else None)
            for vm, log in self.logs.items()
        }
        at_s, status = self._status
        return Scene(
            time.time(), status, time.monotonic() - at_s, dict(self._guards), writes,
            self.notes(), frozenset(self.dark),
        )  # fmt: skip

    def notes(self) -> tuple[TimelineEntry, ...]:
        return self._journals.notes()

    # ---- the thread

    def _run(self) -> None:
        while not self._over.wait(PERIOD_S):
            self._guards = {host: g for host in self._lab.hosts if (g := self._guard(host))}
            self._ask_an_agent()

    def _ask_an_agent(self) -> None:
        """The one that was asked last if it answers, else another; one that knows the pool."""
        others = [h for h in self._lab.hosts if h != self._asked]
        for host in [self._asked, *others] if self._asked else others:
            with contextlib.suppress(OutlastError):
                status = self._lab.client(host).status()
                if status.hosts:
                    self._status, self._asked = (time.monotonic(), status), host
                    return

    def _guard(self, host: str) -> Guard | None:
        path = self._lab.folder / host / "run/outlast/guard.sock"
        try:
            said = sockets.ask(path, {"op": "status"}, GUARD_TIMEOUT_S)
            return Guard(str(said["state"]), int(str(said["remaining_ns"])) // 1_000_000)
        except (OutlastError, KeyError, ValueError):
            return None
