"""How near a host came to losing its VMs to slow storage, and which timing would suit it (pure).

The guard lets VMs run until the start of the last confirmed beat plus the fence window. So what
counts is the time from the start of one confirmed beat to the confirmation of the next: the fence
window less that is the margin that was left.

Rules:
1. A day is kept, in hours, each with the count of beats by how long they took (buckets grow by a
   quarter, so a percentile is at most that much too high; the longest is exact).
2. A pause of the whole host (suspend, a stopped pulse) is no beat: nothing ran that could be
   judged.
3. It only measures and advises: no timing is ever changed by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from outlast.settings import MS, PRESETS, S, Timing

HOURS = 24
HOUR_NS = 3600 * S
STEP = 1.25
FIRST_NS = MS
WARN_SHARE = 0.5  # of the fence window
ROOM = 3  # a preset fits when its fence window is so many times the longest beat
ALARM_EVERY_NS = HOUR_NS


@dataclass(frozen=True, slots=True)
class Measured:
    """Beats of the last day; 0 beats: nothing is known yet."""

    beats: int = 0
    median_ns: int = 0
    p99_ns: int = 0
    p999_ns: int = 0
    longest_ns: int = 0
    unheard_ns: int = 0  # the longest time between two network beats of a link that stayed up


class _Hour:
    def __init__(self, began_ns: int) -> None:
        self.began_ns = began_ns
        self.counts: dict[int, int] = {}
        self.longest_ns = 0
        self.unheard_ns = 0


class Margin:
    """Hears of every confirmed beat."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._hours: deque[_Hour] = deque(maxlen=HOURS)
        self._last: tuple[int, int] = (0, 0)  # number and start of the newest confirmed beat
        self._told_ns = 0
        self._ages: Mapping[int, int] = {}  # of links, as heard of last

    def hear(self, seq: int, started_ns: int, finished_ns: int) -> int:
        """A confirmed beat, by the numbers of the pulse; the time that counts, 0 when none does."""
        before_seq, before_ns = self._last
        if seq <= before_seq and before_seq:
            if seq < before_seq:
                self._last = (seq, started_ns)  # the pulse began anew
            return 0
        self._last = (seq, started_ns)
        took_ns = finished_ns - before_ns
        if not before_seq or took_ns <= 0 or took_ns > self._timing.dead_ns:
            return 0
        if not self._hours or finished_ns - self._hours[-1].began_ns >= HOUR_NS:
            self._hours.append(_Hour(finished_ns))
        hour = self._hours[-1]
        bucket = _bucket(took_ns)
        hour.counts[bucket] = hour.counts.get(bucket, 0) + 1
        hour.longest_ns = max(hour.longest_ns, took_ns)
        return took_ns

    def hear_links(self, ages_ns: Mapping[int, int]) -> None:
        """How long ago each host was heard over the network.

        It counts once the host is heard again: else the end of a host would count as a slow link.
        """
        before, self._ages = self._ages, dict(ages_ns)
        back = [before[n] for n, age in ages_ns.items() if n in before and age < before[n]]
        if self._hours:
            hour = self._hours[-1]
            up = [age for age in back if age < self._timing.link_lost_ns]
            hour.unheard_ns = max([hour.unheard_ns, *up])

    def measured(self) -> Measured:
        counts: dict[int, int] = {}
        for hour in self._hours:
            for bucket, count in hour.counts.items():
                counts[bucket] = counts.get(bucket, 0) + count
        total = sum(counts.values())
        if not total:
            return Measured()
        longest = max(hour.longest_ns for hour in self._hours)
        median, p99, p999 = (
            min(longest, _percentile(counts, total, share)) for share in (0.5, 0.99, 0.999)
        )
        unheard = max(hour.unheard_ns for hour in self._hours)
        return Measured(total, median, p99, p999, longest, unheard)

    def alarm(self, took_ns: int, now_ns: int) -> bool:
        """True when this beat came so near to the deadline that people should hear of it now."""
        if took_ns < WARN_SHARE * self._timing.fence_ns:
            return False
        if self._told_ns and now_ns - self._told_ns < ALARM_EVERY_NS:
            return False
        self._told_ns = now_ns
        return True


def advice(measured: Measured, timing: Timing, presets: Mapping[str, Timing] = PRESETS) -> str:
    """The preset that suits these beats: "" when the present one does, or nothing is known."""
    if not measured.beats or ROOM * measured.longest_ns <= timing.fence_ns:
        return ""
    fits = [t for t in presets.values() if t.fence_ns >= ROOM * measured.longest_ns]
    fits = [t for t in fits if t.fence_ns > timing.fence_ns and t.preset != "lab"]
    best = min(fits, key=lambda t: t.fence_ns, default=None)
    return best.preset if best else max(presets.values(), key=lambda t: t.fence_ns).preset


def _bucket(took_ns: int) -> int:
    number, edge = 0, float(FIRST_NS)
    while edge < took_ns:
        number, edge = number + 1, edge * STEP
    return number


def _percentile(counts: Mapping[int, int], total: int, share: float) -> int:
    wanted, seen = share * total, 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= wanted:
            return round(FIRST_NS * STEP**bucket)
    raise AssertionError("a share is at most one")
