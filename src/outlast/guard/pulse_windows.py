"""How long each slot's block has been unchanged, by this host's own reads.

Promises (P: pure; every instant is an argument):
1. `still_ns(slot)` = start of the newest good read - completion of the read that last saw the slot
   change, by the clock that ran less of the two. It never grows without a new good read.
2. Any change of a slot's raw bytes restarts its window at the completion of that read, good or not.
   So does every read that shows it invalid.
3. `run_ns` = age of the gap-free run of good reads: it restarts when more than gap_ns passes from
   the start of a good read to the completion of the next one, and when a read was not good.
4. `steady_ns` is the same, and restarts after a pause of more than hang_ns, too: what was given to
   the storage before such a pause may be executed for X after it.
5. `restart` (own admission) makes every window begin anew, `restart_slot` (time given) one.

A slot that was never written (all zero since this process looked) is not reported at all.
It does not judge: silence is concluded by the agent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from outlast.model import SLOT_MAX, Block
from outlast.settings import Timing

BLOCK_BYTES: Final = 4096
NEVER_WRITTEN: Final = bytes(BLOCK_BYTES)


class Instant(NamedTuple):
    """One moment on both clocks of this host, nanoseconds."""

    boot_ns: int  # CLOCK_BOOTTIME: counts suspend, follows slewing
    raw_ns: int  # CLOCK_MONOTONIC_RAW: follows nothing


def elapsed_most(since: Instant, now: Instant) -> int:
    """For deadlines of one's own: never believes that less time has passed."""
    return max(now.boot_ns - since.boot_ns, now.raw_ns - since.raw_ns)


def elapsed_least(since: Instant, now: Instant) -> int:
    """For evidence about others: never believes that more time has passed."""
    return min(now.boot_ns - since.boot_ns, now.raw_ns - since.raw_ns)


def not_before(later: Instant, earlier: Instant) -> bool:
    """By both clocks."""
    return later.boot_ns >= earlier.boot_ns and later.raw_ns >= earlier.raw_ns


@dataclass(slots=True)
class Seen:
    """One slot as the reads showed it."""

    raw: bytes
    block: Block | None  # None: invalid
    since: Instant  # completion of the read that last saw it change
    reads: int = 0  # good reads in a row that showed it unchanged

    @property
    def valid(self) -> bool:
        return self.block is not None


class Windows:
    """The observation windows of all slots.

    decode(raw, slot) -> Block | None: None when the bytes are no valid block of that slot.
    """

    def __init__(self, decode: Callable[[bytes, int], Block | None], timing: Timing) -> None:
        self._decode = decode
        self.timed(timing)
        self._seen: dict[int, Seen] = {}
        self._run_start: Instant | None = None
        self._steady_start: Instant | None = None
        self.newest_start: Instant | None = None  # of the newest good read
        self.newest_end: Instant | None = None
        self.run_reads = 0

    def timed(self, timing: Timing) -> None:
        self.gap_ns, self._hang_ns = timing.gap_ns, timing.hang_ns

    def observe(self, area: Sequence[bytes], start: Instant, end: Instant, *, good: bool) -> None:
        """Take in one complete read: 65 pieces, [0] the header, [n] the block of slot n."""
        self._keep_run(start, end, good=good)
        for slot in range(1, SLOT_MAX + 1):
            raw, seen = area[slot], self._seen.get(slot)
            if seen is None:
                if raw != NEVER_WRITTEN:
                    self._seen[slot] = Seen(raw, self._decode(raw, slot), end)
            elif raw != seen.raw:
                self._seen[slot] = Seen(raw, self._decode(raw, slot), end)
            elif not seen.valid:
                seen.since, seen.reads = end, 0
            elif good:
                seen.reads += 1

    def _keep_run(self, start: Instant, end: Instant, *, good: bool) -> None:
        if not good:
            self.break_run()
            return
        before = self.newest_start
        paused_ns = elapsed_most(before, end) if before is not None else self.gap_ns + 1
        if self._run_start is None or paused_ns > self.gap_ns:
            self._run_start, self.run_reads = end, 0
        if self._steady_start is None or paused_ns > self._hang_ns:
            self._steady_start = end
        self.run_reads += 1
        self.newest_start, self.newest_end = start, end

    def break_run(self) -> None:
        """The newest read was not good: the evidence of answering storage starts anew."""
        self._run_start, self._steady_start, self.run_reads = None, None, 0

    def restart(self, at: Instant) -> None:
        """Own admission: what was seen before it proves nothing (joiner rule)."""
        for seen in self._seen.values():
            seen.since, seen.reads = at, 0

    def restart_slot(self, slot: int, at: Instant) -> None:
        """This host gave that one more time: its silence counts from now on."""
        if (seen := self._seen.get(slot)) is not None:
            seen.since, seen.reads = at, 0

    def still_ns(self, slot: int) -> int:
        """Nanoseconds, 0 when nothing is known."""
        seen = self._seen.get(slot)
        if seen is None or self.newest_start is None:
            return 0
        return max(0, elapsed_least(seen.since, self.newest_start))

    def run_ns(self) -> int:
        """Nanoseconds, 0 while there is no run."""
        return self._since(self._run_start)

    def steady_ns(self) -> int:
        """Nanoseconds, 0 while there is no run."""
        return self._since(self._steady_start)

    def _since(self, begin: Instant | None) -> int:
        if begin is None or self.newest_start is None:
            return 0
        return max(0, elapsed_least(begin, self.newest_start))

    def fresh(self, now: Instant) -> bool:
        """True while the newest good read is not older than the gap."""
        end = self.newest_end
        return end is not None and elapsed_most(end, now) <= self.gap_ns

    def block(self, slot: int) -> Block | None:
        seen = self._seen.get(slot)
        return seen.block if seen else None

    @property
    def slots(self) -> Mapping[int, Seen]:
        return self._seen
