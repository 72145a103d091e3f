"""Change notices: numbered, kept for a while, handed to any number of readers.

Promises:
1. Numbers only grow, also over a restart, and are microseconds of the wall clock: a reader that
   comes from another manager with that one's number gets what happened since, and a little more
   (SKEW_US), rather than less.
2. The first change after a silence is told at once, the next ones together after WINDOW_S. A
   thousand changes of one thing within a window are one notice.
3. A reader that asks for what is not kept any more, or is too slow, gets one "reset".
4. Nobody waits for a slow reader: readers hold a place in the kept notices, not a queue.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import islice

from outlast.manager.ports import Change

KEPT = 20_000
WINDOW_S = 0.25
SKEW_US = 10_000_000
RESET = "reset"


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Changes that are told together; one object for all readers, so it can be a cache's key."""

    changes: tuple[Change, ...]

    @property
    def last(self) -> int:
        return self.changes[-1].id


class Hub:
    """On one event loop."""

    def __init__(
        self,
        *,
        kept: int = KEPT,
        window_s: float = WINDOW_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kept, self._window_s, self._clock = kept, window_s, clock
        self._batches: list[Batch] = []
        self._ends: list[int] = []  # the last id of each batch
        self._count = 0  # of kept changes
        self._first_us = int(clock() * 1e6)  # everything after it is kept
        self._last_us = self._first_us
        self._waiting: dict[tuple[str, str, str], None] = {}
        self._flush_at_s = 0.0  # of the loop's clock
        self._timer: asyncio.TimerHandle | None = None
        self._woken: asyncio.Future[None] | None = None
        self.closed = False
        self.readers = 0
        self.told = 0  # changes told since the start

    def publish(self, kind: str, pool_id: str = "", name: str = "") -> None:
        """Something changed."""
        self._waiting[(kind, pool_id, name)] = None
        if self._timer is None and not self.closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(self._flush_at_s, loop.time()), self._flush)

    @property
    def last(self) -> int:
        """The newest id that was given."""
        return self._last_us

    def close(self) -> None:
        """All readers come to their end."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    async def batches(self, after: int | None = None) -> AsyncIterator[Batch]:
        """Changes from now on; with `after` those that came later than it first."""
        self.readers += 1
        try:
            place = self._last_us if after is None else after
            if after is not None and after != self._last_us:
                place = self._resume(after)
                if place < 0:
                    yield self._reset()
                    place = self._last_us
            while not self.closed:
                at = bisect_right(self._ends, place)
                if at >= len(self._batches):
                    await self._sleep()
                    continue
                if place < self._first_us:  # too slow: it is not kept any more
                    yield self._reset()
                    place = self._last_us
                    continue
                for batch in list(islice(self._batches, at, None)):
                    place = batch.last
                    yield batch
        finally:
            self.readers -= 1

    async def changes(self, after: int | None = None) -> AsyncIterator[Change]:
        """The same, one by one."""
        async for batch in self.batches(after):
            for change in batch.changes:
                yield change

    # ---- inside

    def _resume(self, after: int) -> int:
        """The id to go on from; -1 when what came after it is not kept."""
        at = bisect_right(self._ends, after)
        known = after == self._first_us or (at > 0 and self._ends[at - 1] == after)
        inside = at < len(self._batches) and any(c.id == after for c in self._batches[at].changes)
        place = after if known or inside else after - SKEW_US  # another manager gave it
        return min(place, self._last_us) if place >= self._first_us else -1

    def _flush(self) -> None:
        self._timer = None
        self._flush_at_s = asyncio.get_running_loop().time() + self._window_s
        waiting, self._waiting = self._waiting, {}
        made = []
        for kind, pool_id, name in waiting:
            self._last_us = max(self._last_us + 1, int(self._clock() * 1e6))
            made.append(Change(self._last_us, kind, pool_id, name))
        self._batches.append(Batch(tuple(made)))
        self._ends.append(self._last_us)
        self._count += len(made)
        self.told += len(made)
        while self._count > self._kept and len(self._batches) > 1:
            gone = self._batches.pop(0)
            self._ends.pop(0)
            self._count -= len(gone.changes)
            self._first_us = gone.last
        self._wake()

    def _reset(self) -> Batch:
        return Batch((Change(self._last_us, RESET),))

    def _wake(self) -> None:
        woken, self._woken = self._woken, None
        if woken is not None and not woken.done():
            woken.set_result(None)

    async def _sleep(self) -> None:
        if self._woken is None:
            self._woken = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._woken)
