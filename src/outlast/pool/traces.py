"""How the heartbeats of other hosts came in lately, as this host saw them. Pure.

Rules:
1. One letter a beat, oldest first, for TICKS beats: a trace is as small as what a console draws.
2. What was not looked at has its own letter: a host whose own reads fail knows nothing of others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from outlast.pool.facts import Facts
from outlast.settings import Timing

TICKS = 24
IN_TIME, LATE, MISSED, NOT_KNOWN = "o", "l", "m", "-"


class Traces:
    """Of one host's agent; `look` at every tick."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[deque[str], deque[str]]] = {}
        self._next_ns = 0

    def look(self, now_ns: int, facts: Facts, timing: Timing) -> None:
        """Takes a letter for each host, once a beat."""
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + timing.beat_ns
        self._kept = {slot: kept for slot, kept in self._kept.items() if slot in facts.seen}
        for slot, seen in facts.seen.items():
            fresh = deque[str](maxlen=TICKS), deque[str](maxlen=TICKS)
            storage, network = self._kept.setdefault(slot, fresh)
            read = facts.sample.good and seen.block is not None
            storage.append(_letter(seen.still_ns if read else None, timing))
            network.append(_letter(facts.links.get(slot), timing))

    def told(self, slot: int) -> Mapping[str, str]:
        """Of one host: what came over the storage, and over the network."""
        storage, network = self._kept.get(slot, ((), ()))
        return {"storage": "".join(storage), "network": "".join(network)}


def _letter(age_ns: int | None, timing: Timing) -> str:
    """Of a beat that is so old. A beat is seen up to one beat after it was written."""
    if age_ns is None:
        return NOT_KNOWN
    if age_ns < 2 * timing.beat_ns:
        return IN_TIME
    return LATE if age_ns < 3 * timing.beat_ns else MISSED
