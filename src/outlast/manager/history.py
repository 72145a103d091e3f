"""Gathers what pools say of themselves into buckets of time, and makes coarser ones of finer ones.

Promises:
1. Only the manager that leads does this; two that both think they lead do no harm. What it had
   gathered for a bucket that was not over is lost with it: a minute of hosts, ten of VMs.
2. A pool that does not answer has a gap. A database that is away costs nothing as long as what
   waits is less than WAITING_MAX rows; then the oldest is let go.
3. Gathering rests after each pool, so that nobody waits for it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from outlast.manager.fleet import Fleet
from outlast.manager.leader import rounds
from outlast.manager.ports import PoolEntry
from outlast.manager.repository import rollups
from outlast.manager.repository.rollups import Row
from outlast.manager.repository.store import Repository
from outlast.manager.rollup import HOSTS, LEVELS, Sheet, begin_s, note, packed, part_of
from outlast.readiness import metrics

log = logging.getLogger("outlast.manager.history")

SAMPLE_S = 10.0
WAITING_MAX = 5000  # rows
WINDOWS = 8  # made at a time, of each level: much to catch up blocks nobody
HOST_STEP_S, VM_STEP_S = (
    next(level.step_s for level in LEVELS if level.kept_s(part)) for part in (HOSTS, "vms")
)
OF_POOL = (
    "outlast_pool_members", "outlast_pool_busy_cores", "outlast_pool_free_memory_bytes",
    "outlast_pool_spare_memory_bytes", "outlast_pool_vms_unprotected",
    "outlast_pool_heartbeat_margin_seconds",
)  # fmt: skip
OF_HOST = (
    "outlast_host_busy_cores", "outlast_host_used_memory_bytes", "outlast_host_free_memory_bytes",
    "outlast_host_vms", "outlast_host_heartbeat_age_seconds",
    "outlast_host_heartbeat_margin_seconds", "outlast_host_storage_delay_seconds",
)  # fmt: skip
OF_VM = ("outlast_vm_busy_cores",)


class History:
    """On the manager's event loop."""

    def __init__(
        self, repository: Repository, pools: Fleet, *, wall: Callable[[], float] = time.time
    ) -> None:
        self._repository, self._pools, self._wall = repository, pools, wall
        self._gathering: dict[tuple[str, str], tuple[int, Sheet]] = {}  # (pool, part) -> bucket
        self._over: list[tuple[str, str, int, Sheet]] = []  # buckets that are to be packed
        self._waiting: deque[Row] = deque(maxlen=WAITING_MAX)

    async def run(self, leads: Callable[[], bool]) -> None:
        """Until it is cancelled."""
        await rounds(leads, SAMPLE_S, self.round, log, "the history of metrics")

    async def round(self) -> None:
        """One sample of every pool; what is over is written and rolled up. StorageTrouble."""
        wall_s = self._wall()
        for entry in self._pools.pools():
            if not entry.stale:
                self._sample(entry, wall_s)
            await asyncio.sleep(0)
        self._end_buckets(wall_s)
        over, self._over = self._over, []
        self._waiting += await asyncio.to_thread(_packed, over)
        if self._waiting:
            rows = list(self._waiting)
            await self._repository.write(partial(rollups.add, rows=rows))
            for _ in rows:
                self._waiting.popleft()
            await self.roll_up(wall_s)

    async def roll_up(self, wall_s: float) -> int:
        """Make coarser rows of finer ones; how many windows of time. StorageTrouble."""
        made = 0
        for finer, level in itertools.pairwise(LEVELS):
            for _ in range(WINDOWS):
                window_s = await self._repository.read(
                    partial(rollups.next_window, finer=finer, level=level, until_s=wall_s)
                )
                if window_s is None:
                    break
                make = partial(rollups.rolled, finer=finer, level=level, window_s=window_s)
                rows = await self._repository.read(make)
                await self._repository.write(partial(rollups.add, rows=rows))
                made += 1
            else:
                break  # what is coarser needs all of this level first
        return made

    def _sample(self, entry: PoolEntry, wall_s: float) -> None:
        """Hosts each time; the pool and its VMs, of which there are many, once a minute."""
        hosts = self._bucket(entry.id, HOSTS, wall_s)
        for host in entry.status.hosts:
            values = metrics.of_host(host)
            note(hosts, host.name, {name: values[name] for name in OF_HOST})
        if "" in hosts.get(OF_POOL[0], ()):
            return
        known = metrics.of_pool(entry.status)
        note(hosts, "", {name: known[name] for name in OF_POOL})
        for vm in entry.status.vms:
            if vm.busy_cores is not None:
                sheet = self._bucket(entry.id, part_of(vm.name), wall_s)
                note(sheet, vm.name, {OF_VM[0]: vm.busy_cores})

    def _bucket(self, pool_id: str, part: str, wall_s: float) -> Sheet:
        start_s = begin_s(wall_s, _step_s(part))
        kept = self._gathering.get((pool_id, part))
        if kept is None or kept[0] != start_s:
            if kept is not None:
                self._over.append((pool_id, part, *kept))
            kept = self._gathering[pool_id, part] = start_s, {}
        return kept[1]

    def _end_buckets(self, wall_s: float) -> None:
        for (pool_id, part), (start_s, sheet) in list(self._gathering.items()):
            if begin_s(wall_s, _step_s(part)) != start_s:
                del self._gathering[pool_id, part]
                self._over.append((pool_id, part, start_s, sheet))


def _packed(over: list[tuple[str, str, int, Sheet]]) -> list[Row]:
    return [
        Row(_step_s(part), pool_id, part, start_s, packed(sheet))
        for pool_id, part, start_s, sheet in over
        if sheet
    ]


def _step_s(part: str) -> int:
    return HOST_STEP_S if part == HOSTS else VM_STEP_S
