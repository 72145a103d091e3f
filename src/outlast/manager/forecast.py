"""What a failure would do to each pool, counted beside the metrics and kept for them.

Rules:
1. It is counted only while somebody asks: a manager that nobody scrapes counts nothing.
2. One pool at a time, in a thread, anew when the pool has changed and at most every EVERY_S; after
   each it rests REST times as long as it took. A scrape never waits: it shows what was counted.
3. A pool that does not answer has no forecast: an old one would look like the present.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from outlast.errors import OutlastError
from outlast.manager.asking import Pools
from outlast.readiness.forecast import EVERY_S, HISTORY_S, NOTES_MAX, REST, Forecast, forecast

log = logging.getLogger("outlast.manager.forecast")

ASKED_S = 900.0  # how long somebody who asked is waited for
LOOK_S = 1.0


class Forecasts:
    """Of all pools of one manager, on its event loop."""

    def __init__(
        self, pools: Pools, *, clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._pools, self._clock, self._wall = pools, clock, wall
        self._asked_s: float | None = None
        self._kept: dict[str, tuple[float, int, Forecast]] = {}  # when, version of the pool

    def all(self) -> dict[str, Forecast]:
        """By the pool's id; somebody asks."""
        self._asked_s = self._clock()
        fresh = {entry.id for entry in self._pools.pools() if not entry.stale}
        return {pool: found for pool, (_, _, found) in self._kept.items() if pool in fresh}

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            began_s = self._clock()
            if self._asked_s is not None and began_s - self._asked_s < ASKED_S:
                await self.step()
            await asyncio.sleep(max(LOOK_S, REST * (self._clock() - began_s)))

    async def step(self) -> str:
        """Count for the pool that waits the longest; its id, "" = none waits."""
        now_s, waiting = self._clock(), []
        for entry in self._pools.pools():
            at_s, version, _ = self._kept.get(entry.id, (-EVERY_S, -1, None))
            if not entry.stale and entry.version != version and now_s - at_s >= EVERY_S:
                waiting.append((at_s, entry))
        if not waiting:
            return ""
        entry = min(waiting, key=lambda one: one[0])[1]
        try:
            text = await self._pools.ask(entry.id, lambda c: c.picture())
            since_s = self._wall() - HISTORY_S
            notes = await self._pools.timeline(entry.id, NOTES_MAX, since_s)
            found = await asyncio.to_thread(forecast, entry.status, text, notes)
            self._kept[entry.id] = now_s, entry.version, found
        except OutlastError as error:
            self._kept.pop(entry.id, None)
            log.info("no forecast of pool %s: %s", entry.name, error.sentence)
        return entry.id
