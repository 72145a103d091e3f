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
4. What a former life of the agent measured counts on, unless the fence window is another one since:
   a beat that is late under one timing is none under another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from outlast.settings import MS, PRESETS, S, Timing

HOURS = 24
HOUR_NS = 3600 * S
STEP = 1.25
FIRST_NS = MS
WARN_SHARE = 0.5  # of the fence window
ROOM = 3  # a preset fits when its fence window is so many times the longest beat
ALARM_EVERY_NS = HOUR_NS
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """Beats of the last day; 0 beats: nothing is known yet."""

    beats: int = 0
    median_ns: int = 0
    p99_ns: int = 0
    p999_ns: int = 0
    longest_ns: int = 0
    # how old the newest network beat of a link that stayed up was when the next one came
    unheard_median_ns: int = 0
    unheard_p99_ns: int = 0
    unheard_ns: int = 0  # at most


class _Times:
    """How many took how long."""

    def __init__(self, counts: Mapping[int, int] | None = None, longest_ns: int = 0) -> None:
        self.counts, self.longest_ns = dict(counts or {}), longest_ns

    def add(self, took_ns: int) -> None:
        bucket = _bucket(took_ns)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.longest_ns = max(self.longest_ns, took_ns)

    def share(self, share: float) -> int:
        """So many of them took no longer; 0 when there are none."""
        found = _percentile(self.counts, sum(self.counts.values()), share) if self.counts else 0
        return min(self.longest_ns, found)


def _sum(parts: Iterable[_Times]) -> _Times:
    total = _Times()
    for part in parts:
        for bucket, count in list(part.counts.items()):  # the listener goes on
            total.counts[bucket] = total.counts.get(bucket, 0) + count
        total.longest_ns = max(total.longest_ns, part.longest_ns)
    return total


class _Hour:
    def __init__(self, began_ns: int) -> None:
        self.began_ns, self.beats, self.links = began_ns, _Times(), _Times()


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
        self._hours[-1].beats.add(took_ns)
        return took_ns

    def hear_links(self, ages_ns: Mapping[int, int]) -> None:
        """How long ago each host was heard over the network.

        It counts once the host is heard again: else the end of a host would count as a slow link.
        """
        before, self._ages = self._ages, dict(ages_ns)
        back = [before[n] for n, age in ages_ns.items() if n in before and age < before[n]]
        for age in back if self._hours else ():
            if age < self._timing.link_lost_ns:
                self._hours[-1].links.add(age)

    def measured(self) -> Measured:
        hours = list(self._hours)
        beats, links = _sum(hour.beats for hour in hours), _sum(hour.links for hour in hours)
        return Measured(
            sum(beats.counts.values()), beats.share(0.5), beats.share(0.99), beats.share(0.999),
            beats.longest_ns, links.share(0.5), links.share(0.99), links.longest_ns,
        )  # fmt: skip

    def kept(self, now_ns: int, wall_s: float) -> Json:
        """All of it as plain JSON, for `take_up` after the next start."""
        hours = [
            [round(wall_s - (now_ns - hour.began_ns) / S),
             *(list(one.counts.items()) for one in (hour.beats, hour.links)),
             hour.beats.longest_ns, hour.links.longest_ns]
            for hour in list(self._hours)
        ]  # fmt: skip
        return {"fence_ns": self._timing.fence_ns, "hours": hours}

    def take_up(self, kept: Json, now_ns: int, wall_s: float) -> None:
        """What a former life measured within the day. Raises what wrong data raises."""
        if kept["fence_ns"] != self._timing.fence_ns:
            return  # rule 4
        for began_s, beats, links, longest_ns, unheard_ns in kept["hours"]:
            age_ns = max(0, round((wall_s - began_s) * S))  # the clock may have been set back
            if age_ns < HOURS * HOUR_NS:
                hour = _Hour(now_ns - age_ns)
                hour.beats = _Times(dict(beats), longest_ns)
                hour.links = _Times(dict(links), unheard_ns)
                self._hours.append(hour)

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
