"""What the pages of one manager share: foresight, the last beats of each host, rendered fragments.

On the manager's event loop; nothing here lasts longer than the process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from outlast.errors import OutlastError
from outlast.manager.ports import PoolEntry
from outlast.manager.repository.records import EventRow
from outlast.manager.service import Manager
from outlast.manager.web.foresight import Foresight
from outlast.manager.web.pictures.strip import TICKS
from outlast.manager.web.runs import Runs
from outlast.manager.web.stock import Stock
from outlast.manager.web.tunnel import Tickets, dial
from outlast.wire.shapes import HostStatus

SAMPLE_S = 1.0
CATCH_UP_S = 0.5
LATE_MS, MISSED_MS = 2_500, 6_000  # age of a beat on the storage that is late, and that is missed
FRAGMENTS_MAX = 5_000


class Room:
    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.foresight = Foresight(manager)
        self.beats = Beats(manager)
        self.tickets = Tickets()
        self.dial = dial
        self.runs = Runs()
        self.stock = Stock(manager.reads)
        self.failed: dict[str, EventRow] = {}  # by pool: when a host failed there last
        self._catching: dict[str, asyncio.Task[None]] = {}
        self._fragments: dict[tuple[object, ...], tuple[object, dict[str, str]]] = {}

    def catch_up(self, pool_id: str) -> None:
        """Somebody looks at the history and the pool has changed: have its notes now, not later."""
        if pool_id and pool_id not in self._catching:
            working = asyncio.ensure_future(self._catch_up(pool_id))
            self._catching[pool_id] = working
            working.add_done_callback(lambda _: self._catching.pop(pool_id, None))

    async def _catch_up(self, pool_id: str) -> None:
        await asyncio.sleep(CATCH_UP_S)  # what belongs together is written together
        with contextlib.suppress(OutlastError):  # what it lacks the background brings later
            await self.manager.background.copy(pool_id)
            await self.manager.notice()

    def fragments(
        self, what: tuple[object, ...], version: object, make: Callable[[], dict[str, str]]
    ) -> dict[str, str]:
        """Fragments by the id of their element; of each thing the newest are kept."""
        kept = self._fragments.get(what)
        if kept is None or kept[0] != version:
            if len(self._fragments) >= FRAGMENTS_MAX:
                self._fragments.clear()
            kept = self._fragments[what] = version, make()
        return kept[1]


class Beats:
    """How the beats of each host stood in the last seconds; sampled while somebody looks."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._kept: dict[tuple[str, str], deque[tuple[str, str]]] = {}
        self._running: asyncio.Task[None] | None = None

    def of(self, pool_id: str, host: str) -> tuple[list[str], list[str]]:
        """(storage, network), oldest first: ok | late | missed | none."""
        kept = self._kept.get((pool_id, host), ())
        return [storage for storage, _ in kept], [network for _, network in kept]

    def watch(self) -> None:
        """From now on, until the manager stops."""
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._run())

    def sample(self) -> None:
        for entry in self._manager.reads.pools():
            members = [h for h in entry.status.hosts if h.state == "member"]
            for host in entry.status.hosts:
                kept = self._kept.setdefault((entry.id, host.name), deque(maxlen=TICKS))
                kept.append((storage_tick(entry, host), network_tick(entry, host, members)))

    async def _run(self) -> None:
        while not self._manager.reads.hub.closed:
            self.sample()
            await asyncio.sleep(SAMPLE_S)


def storage_tick(entry: PoolEntry, host: HostStatus) -> str:
    age = host.beat_age_ms
    if entry.stale or age is None or host.state in ("absent", "closed"):
        return "none"
    return "ok" if age < LATE_MS else "late" if age < MISSED_MS else "missed"


def network_tick(entry: PoolEntry, host: HostStatus, members: list[HostStatus]) -> str:
    others = [m for m in members if m.name != host.name]
    if entry.stale or not others or host.state != "member":
        return "none" if entry.stale or host.state in ("absent", "closed") else "missed"
    deaf = sum(host.name in m.unheard for m in others)
    return "ok" if not deaf else "late" if deaf < len(others) else "missed"
