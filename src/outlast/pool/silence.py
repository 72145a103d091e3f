"""Who has stopped writing, by the observer's own evidence (proof P2).

Rules:
1. A timer is no evidence: `still_ns` ends at the START of the newest good read, so a host that
   slept, or whose reads hang, concludes nothing.
2. The victim's own promise counts when it is longer than the pool's: T_dead(v) is the larger of
   the pool's value and dead_after stretched by the clock bound, plus the settle time.
3. The run of good reads must cover the settle time and at least three beats: storage that just
   came back may still be executing what a dead host had sent.
4. An unreadable block is neither alive nor silent.
"""

from __future__ import annotations

from outlast.pool.facts import Sample, Seen
from outlast.settings import MS, RHO, Timing


def limit_ns(seen: Seen, timing: Timing) -> int:
    """T_dead for the host whose block this is."""
    promised = seen.block.dead_after_ms * MS if seen.block else 0
    return max(timing.dead_ns, int(promised * (1 + RHO)) + timing.settle_ns)


def silent(seen: Seen, sample: Sample, timing: Timing, term: str, extra_ns: int = 0) -> bool:
    """True when this life of the host is proven over by its silence.

    extra_ns: how much longer than T_dead to wait (the storm brake).
    """
    if seen.block is None or seen.block.term != term:
        return False
    if sample.run_ns < max(timing.settle_ns, 3 * timing.beat_ns):
        return False
    return seen.still_ns >= limit_ns(seen, timing) + extra_ns
