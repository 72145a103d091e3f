"""A drill on this host: for a while its pulse acts as if it had less than it has (pure).

Rules:
1. A drill only takes away. Network beats are neither sent nor heard, storage cycles fail as with an
   error. Nothing is confirmed, granted or let in because of one, so every proof keeps its meaning.
2. It ends at a deadline of its own, whatever became of who asked for it. A new pulse knows of none.
3. It gives way: a network drill ends as soon as the storage does not answer.
4. `power` takes both away at once, ends the term and has the guard reset the host: others find it
   as silent as without power.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from outlast.errors import InvalidInput
from outlast.guard.pulse_core import PulseCore
from outlast.guard.pulse_facts import Close, Command, Sample
from outlast.guard.pulse_windows import Instant, elapsed_least
from outlast.settings import MS, S

KINDS = ("power", "network", "storage")
FOR_MAX_NS = 1200 * S
AWAY = "a drill: the storage counts as away"
RESET = "a drill: this host acts as if it lost its power"


@dataclass(frozen=True, slots=True)
class Drill:
    kind: str
    for_ns: int


def read_drill(message: Mapping[str, object]) -> Drill | None:
    """What an agent asks for: {"drill": {"kind", "for_ms"}}; None when it asks for none.

    Raises InvalidInput naming what cannot be taken.
    """
    if "drill" not in message:
        return None
    match message["drill"]:
        case {"kind": str(kind), "for_ms": int(for_ms)} if kind in KINDS:
            if 0 < for_ms * MS <= FOR_MAX_NS:
                return Drill(kind, for_ms * MS)
    raise InvalidInput(f"a drill is of a kind ({', '.join(KINDS)}) and takes 1200 s at most")


class Muting:
    """What counts as away now."""

    def __init__(self) -> None:
        self._drill: Drill | None = None
        self._fresh: Callable[[Instant], bool] = lambda now: True  # is the storage's own word new?
        self._since = Instant(0, 0)

    def begin(self, drill: Drill, core: PulseCore, now: Instant) -> list[Command]:
        """Begin it; what the guard is to be told."""
        self._drill, self._since, self._fresh = drill, now, core.windows.fresh
        return [Close(core.term, RESET, True)] if drill.kind == "power" else []

    def kind(self, now: Instant) -> str:
        """The drill under way; "" for none."""
        drill = self._drill
        if drill is None:
            return ""
        if self.left_ns(now) <= 0 or (drill.kind == "network" and not self._fresh(now)):
            self._drill = None  # rules 2 and 3
            return ""
        return drill.kind

    def left_ns(self, now: Instant) -> int:
        return self._drill.for_ns - elapsed_least(self._since, now) if self._drill else 0

    def storage(self, now: Instant) -> bool:
        return self.kind(now) in ("power", "storage")

    def network(self, now: Instant) -> bool:
        return self.kind(now) in ("power", "network")

    def cycled(self, sample: Sample, now: Instant) -> Sample:
        """What of a storage cycle that came back the core may see."""
        if self.storage(now):
            return replace(sample, acked=None, area=None, views=(), error=AWAY)
        return sample

    def to_json(self, now: Instant) -> dict[str, object]:
        """For the snapshot: {} or {"kind", "left_ms"}."""
        kind = self.kind(now)
        return {"kind": kind, "left_ms": self.left_ns(now) // MS} if kind else {}
