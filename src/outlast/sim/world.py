"""The pretend world: one clock, one shared disk, one network, and what fails of them.

Rules:
1. Everything happens in events on one queue; equal times are ordered by their number, so that a
   seed fixes every run. All chance comes from `random.Random(seed)`.
2. The disk executes a request at one instant. A request of a host whose path is stuck waits; when
   the path heals it is executed late, unless its host lost power or was reset in between.
3. A request is answered ok, or not at all, or with an error. On a failed path an error means that
   nothing was done; on a late one it may yet be, whatever has become of who asked.
4. What is not asked for does not happen: reads are whole, packets quick and alone, power cuts tear
   no write. `rough` makes all of these worse; chance is drawn for them only then.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from outlast.guard.pulse_windows import NEVER_WRITTEN
from outlast.model import SLOT_MAX, Block
from outlast.settings import MS
from outlast.sim.codec import DECODE


class Path(Enum):
    """State of one host's way to the storage."""

    OK = "ok"
    STUCK = "stuck"
    FAIL = "fail"
    LATE = "late"


PACKET_NS = 1 * MS  # how long a packet is on its way
SLOWER = (1, 1, 1, 3, 30, 300, 3000)
DOUBLED = 0.1  # the share of packets that arrive twice
Done = Callable[[object], None]
Failed = Callable[[str], None]


@dataclass(slots=True)
class Request:
    host: str
    life: int  # the host's boot count: a dead host's requests are gone
    act: Callable[[], object]
    done: Done
    failed: Failed
    late_ns: int = 0  # how much later it may still be executed on a late path; 0 = not at all


@dataclass(slots=True)
class Disk:
    """The shared storage: the heartbeat area and the registers, all versions kept."""

    area: list[bytes] = field(default_factory=lambda: [NEVER_WRITTEN] * (SLOT_MAX + 1))
    registers: dict[str, list[Mapping[str, object]]] = field(default_factory=dict)
    swaps: int = 0  # how many were done
    damaged: set[str] = field(default_factory=set)  # registers that hold garbage

    def write_block(self, slot: int, raw: bytes) -> None:
        self.area[slot] = raw

    def version(self, name: str) -> int:
        return len(self.registers.get(name, ()))

    def value(self, name: str, version: int) -> Mapping[str, object]:
        return self.registers[name][version - 1]

    def swap(self, name: str, expected: int, value: Mapping[str, object]) -> bool:
        """True when it was done."""
        if self.version(name) != expected or name in self.damaged:
            return False
        self.registers.setdefault(name, []).append(value)
        self.swaps += 1
        return True


class World:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - chance for a simulation, not a secret
        self.now_ns = 1_000_000_000
        self.disk = Disk()
        self.paths: dict[str, Path] = {}
        self.lives: dict[str, int] = {}
        self.cut: set[tuple[str, str]] = set()  # (from, to): beats are lost
        self.loss = 0.0  # the share of packets that are lost
        self.rough = False  # rule 4
        self.blocks: dict[int, tuple[bytes, Block | None]] = {}  # slot -> bytes, what they mean
        self.values: dict[str, tuple[object, Any]] = {}  # register -> a value, what it means
        self.latency_ns = (1 * MS, 8 * MS)
        self.changes = 0  # of what runs where, of terms and of clocks: a look at the invariants
        self.wrong: list[str] = []  # what a host did that no host ever may
        self.after_event: list[Callable[[], None]] = []
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._waiting: list[Request] = []

    def after(self, delay_ns: int, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now_ns + delay_ns, self._count, act))

    def run_until(self, end_ns: int) -> None:
        queue, checks = self._queue, self.after_event
        while queue and queue[0][0] <= end_ns:
            self.now_ns, _, act = heapq.heappop(queue)
            act()
            for check in checks:
                check()
        self.now_ns = max(self.now_ns, end_ns)

    def draw_latency(self) -> int:
        low, high = self.latency_ns
        return low + int((high - low) * self.random.random())

    def packet_delays_ns(self) -> tuple[int, ...]:
        """When the copies of one packet arrive: one copy, or two, in any order with others."""
        if not self.rough:
            return (PACKET_NS,)
        copies = 1 + (self.random.random() < DOUBLED)
        return tuple(round(PACKET_NS * self.random.choice(SLOWER)) for _ in range(copies))

    def ask(
        self, host: str, act: Callable[[], object], done: Done, failed: Failed, late_ns: int = 0
    ) -> None:
        """One storage request of a host; see rules 2 and 3."""
        request = Request(host, self.lives[host], act, done, failed, late_ns)
        self.after(self.draw_latency(), lambda: self._arrive(request))

    def _arrive(self, request: Request) -> None:
        if self.lives[request.host] != request.life:
            return
        path = self.paths[request.host]
        if path is Path.STUCK:
            self._waiting.append(request)
        elif path in (Path.FAIL, Path.LATE):
            if path is Path.LATE and request.late_ns:
                self.after(self.random.randint(0, request.late_ns), lambda: _do(request))
            self.after(self.draw_latency(), lambda: self._answer(request, None, "input/output"))
        else:
            value = request.act()
            self.after(self.draw_latency(), lambda: self._answer(request, value, ""))

    def _answer(self, request: Request, value: object, error: str) -> None:
        if self.lives[request.host] != request.life:
            return
        if error:
            request.failed(error)
        else:
            request.done(value)

    def set_path(self, host: str, path: Path) -> None:
        self.paths[host] = path
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            if request.host == host and path is not Path.STUCK:
                self.after(self.draw_latency(), lambda r=request: self._arrive(r))  # type: ignore[misc]
            else:
                self._waiting.append(request)

    def accuse(self, words: str) -> None:
        """A host did what no host ever may."""
        self.wrong.append(words)
        self.changes += 1

    def meaning(self, name: str, value: Mapping[str, object]) -> Any:
        """A value of a register as every host reads it: decoded once for all of them."""
        known = self.values.get(name)
        if known is None or known[0] is not value:
            known = self.values[name] = (value, DECODE[name.split("/")[0]](value))
        return known[1]

    def link(self, a: str, b: str, up: bool) -> None:
        for pair in ((a, b), (b, a)):
            (self.cut.discard if up else self.cut.add)(pair)

    def hears(self, sender: str, receiver: str) -> bool:
        if (sender, receiver) in self.cut:
            return False
        return not self.loss or self.random.random() >= self.loss


def _do(request: Request) -> None:
    """Late, and nobody hears of it."""
    request.act()
