"""What pools' agents say of networks, storage, images and templates, kept for pages that are open.

Rules:
1. Asked while somebody looks, and not more often than EVERY_S says, however many look.
2. A page never waits for a stream's question; it shows what was said last until there is news.
3. Trouble is kept as it is: the page says it in its place, beside what was known before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from outlast.errors import OutlastError
from outlast.manager.ports import Reads

log = logging.getLogger("outlast.manager.web")

NETWORKS, STORAGE, IMAGES, ORPHANS = "networks", "storage", "images", "orphans"
# for images and orphans every disk of the pool is looked at
EVERY_S = {NETWORKS: 4.0, STORAGE: 4.0, IMAGES: 15.0, ORPHANS: 30.0}


@dataclass(frozen=True, slots=True)
class Said:
    """Parts of one answer, by what they are, and why the newest question had none."""

    parts: dict[str, list[Any]]
    error: OutlastError | None = None
    asked_s: float = 0.0


class Stock:
    """By (pool id, page). On the manager's event loop."""

    def __init__(self, reads: Reads, clock: Callable[[], float] = time.monotonic) -> None:
        self._reads, self._clock = reads, clock
        self._kept: dict[tuple[str, str], Said] = {}
        self._asking: dict[tuple[str, str], asyncio.Task[Said]] = {}

    async def now(self, pool_id: str, what: str) -> Said:
        """Asked now, or with who asks already."""
        place = pool_id, what
        asking = self._asking.get(place)
        if asking is None:
            asking = self._asking[place] = asyncio.ensure_future(self._ask(pool_id, what))
            asking.add_done_callback(lambda _: self._asking.pop(place, None))
        return await asyncio.shield(asking)

    def glance(self, pool_id: str, what: str) -> Said | None:
        """What was said last; asked anew behind it when that is old."""
        kept = self._kept.get((pool_id, what))
        old = kept is None or self._clock() - kept.asked_s > EVERY_S[what]
        if old and (pool_id, what) not in self._asking:
            asyncio.ensure_future(self.now(pool_id, what))  # noqa: RUF006 - `_asking` holds it
        return kept

    def forget(self, pool_id: str) -> None:
        """Somebody changed something: the next look asks anew."""
        for place, said in self._kept.items():
            if place[0] == pool_id:
                self._kept[place] = replace(said, asked_s=0.0)

    async def _ask(self, pool_id: str, what: str) -> Said:
        before = self._kept.get((pool_id, what), Said({}))
        try:
            said = Said(await self._parts(pool_id, what), None, self._clock())
        except OutlastError as error:
            said = Said(before.parts, error, self._clock())
        except Exception:
            log.exception("a bug while asking a pool for its %s", what)
            said = Said(
                before.parts, OutlastError("the manager failed; see its log"), self._clock()
            )
        self._kept[pool_id, what] = said
        return said

    async def _parts(self, pool_id: str, what: str) -> dict[str, list[Any]]:
        asks: dict[str, Callable[[str], Awaitable[list[Any]]]] = {
            NETWORKS: self._reads.networks, STORAGE: self._reads.storage,
            IMAGES: self._reads.images, ORPHANS: self._reads.orphans,
        }  # fmt: skip
        parts = {what: await asks[what](pool_id)}
        if what == IMAGES:
            parts["templates"] = await self._reads.templates(pool_id)
        return parts
