"""What the agent knows right now: one immutable value that other threads may read (pure).

The tick replaces the whole picture; the API and the command line only ever see a complete one.
"""

from __future__ import annotations

from dataclasses import dataclass

from outlast.pool.decision import Decision
from outlast.pool.facts import Facts, Me
from outlast.settings import PoolSettings


@dataclass(frozen=True, slots=True)
class Picture:
    me: Me
    settings: PoolSettings
    facts: Facts | None  # None: the pulse has not been heard yet
    decision: Decision | None
    trouble: str = ""  # why there are no facts, or what is wrong with them, in a sentence
    taken_ns: int = 0  # CLOCK_BOOTTIME of the facts
