"""What one manager does for all: history, what is forgotten, how tasks end.

Rules:
1. Everything here may be done twice, by two managers that both think they lead: events are known by
   the ids of their notes, a task ends once, forgetting is forgetting.
2. The audit is never forgotten.
3. A pool that does not answer, or a database that is away, costs one round; the next catches up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection

from outlast.errors import OutlastError
from outlast.manager.asking import Pools
from outlast.manager.config import DAYS, Config
from outlast.manager.repository import entries, hooks, moments, records, retention, rollups
from outlast.manager.repository.store import Repository
from outlast.manager.troubles import Troubles
from outlast.wire.shapes import TimelineEntry

log = logging.getLogger("outlast.manager.background")

COPY_EVERY_S = 10.0
OVERLAP_S = 3600.0  # notes of a host that was away come late
FIRST_DAYS = 7.0  # how far back the history of a new pool is taken over
FORGET_EVERY_S = 3600.0
CALLS_KEPT_S = 86400.0
MANAGERS_KEPT_S = 86400.0
COPY_MAX, PAGES_MAX = 5000, 8  # notes at once, and how often: what is gathered is in memory


class Background:
    """Runs while this manager leads."""

    def __init__(
        self, repository: Repository, pools: Pools, config: Config, *,
        wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._repository, self._pools, self._config, self._wall = repository, pools, config, wall
        self._copied: dict[str, int] = {}  # pool -> version of its entry at the last copy
        self._next_forget_s = 0.0
        self._troubles = Troubles(log)

    async def run(self, leads: Callable[[], bool]) -> None:
        """Until it is cancelled."""
        while True:
            if leads():
                await self.round()
            await asyncio.sleep(COPY_EVERY_S)

    async def round(self) -> int:
        """Copy what is new, forget what is old; how many events were new."""
        added = 0
        for entry in self._pools.pools():
            if entry.stale or self._copied.get(entry.id) == entry.version:
                continue
            what = f"the history of pool {entry.name}"
            try:
                added += await self.copy(entry.id)
                self._copied[entry.id] = entry.version
                self._troubles.over(what)
            except OutlastError as error:
                self._troubles.tell(what, error.sentence)
        if self._wall() >= self._next_forget_s:
            try:
                await self.forget()
                self._next_forget_s = self._wall() + FORGET_EVERY_S
                self._troubles.over("forgetting what is old")
            except OutlastError as error:
                self._troubles.tell("forgetting what is old", error.sentence)
        return added

    async def copy(self, pool_id: str) -> int:
        """A pool's new notes into the history; how many. Raises OutlastError."""
        newest_s = await self._repository.read(lambda c: records.newest_event_s(c, pool_id))
        days = (await self._repository.read(self._days))["events_days"]
        first_s = self._wall() - min(FIRST_DAYS, days) * 86400.0
        since_s = max(newest_s - OVERLAP_S, first_s) if newest_s else first_s
        pages = await self._pages(pool_id, since_s)
        added = 0
        while pages:  # oldest first: what a broken copy leaves out is newer than all it has
            add = partial(moments.add_events, pool_id=pool_id, entries=pages.pop())
            added += await self._repository.write(add)
        return added

    async def _pages(self, pool_id: str, since_s: float) -> list[list[TimelineEntry]]:
        """All notes since then, the newest page first; agents give COPY_MAX of them at a time."""
        pages, until_s = list[list[TimelineEntry]](), None
        while len(pages) < PAGES_MAX:
            page = await self._pools.timeline(pool_id, COPY_MAX, since_s, until_s)
            pages.append(page)
            if len(page) < COPY_MAX or page[0].wall_s == until_s:
                return pages
            until_s = page[0].wall_s
        log.warning("the history of pool %s: notes before %s are left out", pool_id, until_s)
        return pages

    async def forget(self) -> None:
        """Raises StorageTrouble."""
        wall_s = self._wall()

        def forget(c: Connection) -> None:
            days = self._days(c)
            records.forget_events(c, wall_s - days["events_days"] * 86400.0)
            oldest = records.oldest_event_id(c)
            hooks.forget(c, oldest)
            moments.forget(c, oldest)
            records.forget_tasks(c, wall_s - days["tasks_days"] * 86400.0)
            rollups.forget(c, wall_s, days["metrics_days"])
            records.forget_calls(c, wall_s - CALLS_KEPT_S)
            records.forget_managers(c, wall_s - MANAGERS_KEPT_S)
            entries.forget_sessions(c, wall_s)

        await self._repository.write(forget)

    def _days(self, c: Connection) -> dict[str, int]:
        return {name: getattr(self._config, name) for name in DAYS} | retention.said(c)
