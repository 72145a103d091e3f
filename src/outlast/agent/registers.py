"""What this host knows of the pool's registers, and its way to write them.

Rules:
1. All storage reads happen in one thread, which may hang with the storage; everybody else sees the
   last known values and when each was read. Writes run in their caller's thread.
2. At start everything is read once (`ready`); then only what others say they wrote (hints). They
   name their newest writes only, but count all: who wrote more than it names makes a full look due.
   There is one now and then anyway, so that a lost hint costs time, never correctness; what hints
   name is read before what is left of a full look.
3. A value that cannot be read keeps its last known version and is named in `troubles`.
4. Whatever this host writes is told to the others at once: `work_seq` grows, `hints` name it.
5. What a newer version wrote into the wishes of people (KEEPING) and this one does not know is kept
   when they are written again.
6. What is read in one go is made known together, `TOGETHER_NS` after the first of it at the latest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from outlast.errors import StorageTrouble
from outlast.model import Fence, Lease, OrderBook, SlotRecord, View, VmRecord
from outlast.pool.facts import Held
from outlast.report import Report
from outlast.settings import PoolSettings, S
from outlast.storage import format as fmt
from outlast.storage.drills import DrillRecord
from outlast.storage.health import HostHealth
from outlast.storage.records import unknown_fields, with_unknown
from outlast.storage.register import Outcome, Register, Swap

KINDS = ("pool", "drill", "slot", "vm", "lease", "order", "fence", "report", "health")
KEEPING = ("pool", "slot", "vm")
HINTS_KEPT = 16
SWEEP_S = 30.0
TOGETHER_NS = S // 20
RETRY_S = 1.0  # what could not be read is tried again

Value = (
    VmRecord
    | Lease
    | SlotRecord
    | OrderBook
    | View
    | PoolSettings
    | Fence
    | Report
    | DrillRecord
    | HostHealth
)


@dataclass(frozen=True, slots=True)
class Known:
    """All registers as last read. Not `ready` until each was read once, or is in `troubles`."""

    ready: bool = False
    vms: Mapping[str, Held[VmRecord]] = field(default_factory=dict)
    leases: Mapping[str, Held[Lease]] = field(default_factory=dict)
    slots: Mapping[int, SlotRecord] = field(default_factory=dict)
    books: Mapping[int, Held[OrderBook]] = field(default_factory=dict)
    fences: Mapping[int, Held[Fence]] = field(default_factory=dict)
    reports: Mapping[int, Held[Report]] = field(default_factory=dict)
    pool: PoolSettings | None = None
    drill: Held[DrillRecord] | None = None
    health: Mapping[int, Held[HostHealth]] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)


_DECODE: Mapping[str, Callable[[object], Any]] = {
    "pool": fmt.pool_from,
    "vm": fmt.vm_from,
    "lease": fmt.lease_from,
    "slot": fmt.slot_from,
    "order": fmt.order_from,
    "fence": fmt.fence_from,
    "report": fmt.report_from,
    "drill": fmt.drill_from,
    "health": fmt.health_from,
}


class Registers:
    """A cache in front of one Register (safe for many threads), with its own reading thread."""

    def __init__(
        self,
        register: Register,
        changed: Callable[[], None],
        sweep_s: float = SWEEP_S,
    ) -> None:
        self._register = register
        self._changed = changed
        self._sweep_s = sweep_s
        self._lock = threading.Lock()
        self._held: dict[str, Held[Any]] = {}
        self._unknown: dict[str, tuple[int, dict[str, object]]] = {}  # rule 5, with the version
        self._troubles: dict[str, str] = {}
        self._ready = False
        self._known = Known()
        self._todo: dict[str, None] = {}  # in order, each once; "" is a full look
        self._rest: dict[str, None] = {}  # of a full look, not yet read
        self._written: dict[str, int] = {}  # who -> how often it had written when last heard of
        self._unpublished_since = 0  # 0: all is known to everybody
        self._listed = False
        self._wake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="registers", daemon=True)
        self.work_seq = 0
        self.hints: tuple[tuple[str, int], ...] = ()

    def start(self, work_seq: int = 0) -> None:
        """Begin to read. work_seq: what this host's block says already, to go on from."""
        self.work_seq = work_seq
        self._thread.start()

    def close(self) -> None:
        self._stop = True
        self._wake.set()

    @property
    def known(self) -> Known:
        return self._known

    def hint(self, names: Iterable[tuple[str, int]]) -> None:
        """Somebody wrote these versions: read what is newer than known."""
        newer = []
        for name, version in names:
            held = self._held.get(name)
            if (held is None or held.version < version) and name.split("/")[0] in KINDS:
                newer.append(name)
        self._read_soon(newer)

    def wrote(self, who: str, work_seq: int, named: int) -> None:
        """Another host has written so often in its life, and names the newest of it in hints."""
        before = self._written.get(who, work_seq)
        self._written[who] = work_seq
        if work_seq - before > named:
            self.look()

    def look(self) -> None:
        """Read everything soon."""
        self._read_soon([""])

    def _read_soon(self, names: Iterable[str]) -> None:
        with self._lock:
            self._todo.update(dict.fromkeys(names))
        if self._todo:
            self._wake.set()

    def read_now(self, name: str) -> Held[Any] | None:
        """Read one register in the caller's thread; None when it was never written.

        Raises StorageTrouble.
        """
        version, value = self._register.read(name)
        read_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if value is None:
            return None
        held = Held(version, self._decoded(name, version, value), read_ns)
        if self._store(name, held):
            self._publish()
        return held

    def swap(self, name: str, expected: int, value: Value) -> Swap:
        """Write in the caller's thread; the outcome is known here and told to others at once.

        Raises StorageTrouble when nothing was written.
        """
        unknown_version, unknown = self._unknown.get(name, (0, {}))
        plain = fmt.value_to(value)
        if unknown_version == expected:
            plain = with_unknown(plain, unknown)
        answer = self._register.swap(name, expected, plain)
        if answer.outcome is Outcome.OK:
            if unknown_version == expected and unknown:
                self._unknown[name] = (answer.version, unknown)
            now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            if name.split("/")[0] in KINDS:
                self._store(name, Held(answer.version, value, now_ns))
            with self._lock:
                self.work_seq += 1
                rest = tuple(h for h in self.hints if h[0] != name)
                self.hints = ((name, answer.version), *rest)[:HINTS_KEPT]
            self._publish()
        elif name.split("/")[0] in KINDS:
            self._read_soon([name])
        return answer

    # ---- the reading thread

    def _run(self) -> None:
        next_sweep = time.monotonic()
        while not self._stop:
            if time.monotonic() >= next_sweep:
                next_sweep = time.monotonic() + (self._sweep_s if self._sweep() else RETRY_S)
            while (name := self._next()) is not None and not self._stop:
                if name:
                    self._read(name)
                else:
                    self._sweep()
            if self._unpublished_since:
                self._publish()
            rest_s = max(0.0, next_sweep - time.monotonic())
            woken = self._wake.wait(min(rest_s, RETRY_S) if self._troubles else rest_s)
            self._wake.clear()
            if not woken:
                self._read_soon([name for name in self._troubles if name not in KINDS])

    def _next(self) -> str | None:
        """What to read now, None for nothing."""
        with self._lock:
            for waiting in (self._todo, self._rest):
                for name in waiting:
                    del waiting[name]
                    return name
        return None

    def _sweep(self) -> bool:
        """Begin to read every register once; False when the storage did not answer."""
        found: list[str] = []
        for kind in KINDS:
            try:
                names = self._register.names(kind)
            except (StorageTrouble, OSError) as trouble:
                self._trouble(kind, trouble)
                return False
            self._troubles.pop(kind, None)
            found += names
        self._rest.update(dict.fromkeys(found))
        self._listed = True
        if not found:
            self._read_all()
        return True

    def _read_all(self) -> None:
        """Nothing is left of a full look."""
        if self._listed and not self._ready:
            self._ready = True
            self._publish()

    def _read(self, name: str) -> None:
        try:
            version, value = self._register.read(name)
            read_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            if value is not None:
                held = Held(version, self._decoded(name, version, value), read_ns)
                new = self._store(name, held)
                if new and not self._unpublished_since:
                    self._unpublished_since = read_ns
            late = self._unpublished_since and read_ns - self._unpublished_since > TOGETHER_NS
            if self._troubles.pop(name, None) or late:
                self._publish()
        except (StorageTrouble, OSError) as trouble:
            self._trouble(name, trouble)
        if not self._rest:
            self._read_all()

    def _trouble(self, name: str, trouble: Exception) -> None:
        sentence = trouble.sentence if isinstance(trouble, StorageTrouble) else str(trouble)
        if self._troubles.get(name) != sentence:
            self._troubles[name] = sentence
            self._publish()

    def _decoded(self, name: str, version: int, raw: dict[str, object]) -> Any:
        kind = name.split("/")[0]
        value = _DECODE[kind](raw)
        if kind in KEEPING:
            unknown = unknown_fields(value, raw)
            with self._lock:
                if unknown and self._unknown.get(name, (0,))[0] < version:
                    self._unknown[name] = (version, unknown)
        return value

    def _store(self, name: str, held: Held[Any]) -> bool:
        """True when it is news, which the caller has to publish."""
        with self._lock:
            before = self._held.get(name)
            if before is not None and before.version >= held.version:
                return False
            self._held[name] = held
        return True

    def _publish(self) -> None:
        with self._lock:
            self._unpublished_since = 0
            parts: dict[str, dict[str, Held[Any]]] = {kind: {} for kind in KINDS}
            for name, held in self._held.items():
                kind, _, ident = name.partition("/")
                parts[kind][ident] = held
            self._known = Known(
                self._ready,
                parts["vm"],
                parts["lease"],
                {int(n): h.value for n, h in parts["slot"].items()},
                {int(n): h for n, h in parts["order"].items()},
                {int(n): h for n, h in parts["fence"].items()},
                {int(n): h for n, h in parts["report"].items()},
                parts["pool"][""].value if parts["pool"] else None,
                parts["drill"].get(""),
                {int(n): h for n, h in parts["health"].items()},
                dict(self._troubles),
            )
        self._changed()
