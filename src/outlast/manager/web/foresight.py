"""What would happen if: room for failures, plans of maintenance, places for a VM.

Answers come from the placement room, of the picture that the pool's own master decides by; an agent
is asked for it. Rules:
1. A picture is kept for KEPT_S, an answer as long as its picture: many who look cost one question.
2. Counting happens in a thread, one pool at a time; pages never wait for it, fragments do.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from outlast.manager.service import Manager
from outlast.placement.choose import Answer, best, in_turn
from outlast.placement.evacuate import evacuate, meanwhile
from outlast.placement.picture import HostState, Picture, Vm
from outlast.placement.plan import Plan
from outlast.placement.snapshot import read
from outlast.placement.spare import Failure, Verdict, any_of, every, what_if
from outlast.readiness.drills import (
    HOST_KINDS,
    Rehearsal,
    planned,
    rehearse,
    start_seconds,
)
from outlast.readiness.rolling import Foreseen, foreseen
from outlast.settings import preset
from outlast.words import listed

KEPT_S = 5.0
SPARE_S = 30.0
HISTORY_S, NOTES_MAX = 30 * 86400.0, 2000  # what measured starts are taken from
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spare:
    """Whether the pool survives the failure of any one host."""

    survives: bool
    hosts: int
    lost: tuple[Failure, ...]  # failures that leave somebody without a place

    @property
    def sentence(self) -> str:
        if not self.hosts:
            return "no host can run VMs"
        if self.survives:
            return f"any one of {self.hosts} hosts may fail: every VM has a place"
        names = listed([f.hosts[0] for f in self.lost], 6)
        return f"not every VM would find a place if one of these failed: {names}"


class Foresight:
    """One for a manager. On its event loop."""

    def __init__(self, manager: Manager, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._manager, self._clock = manager, clock
        self._pictures: dict[str, tuple[float, Picture]] = {}
        self._spares: dict[str, tuple[float, Spare]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def picture(self, pool_id: str) -> Picture:
        """Raises Unreachable, PoolTrouble."""
        kept = self._pictures.get(pool_id)
        if kept is None or self._clock() - kept[0] > KEPT_S:
            text = await self._manager.reads.ask(pool_id, lambda c: c.picture())
            kept = self._clock(), await asyncio.to_thread(read, text)
            self._pictures[pool_id] = kept
        return kept[1]

    async def spare(self, pool_id: str) -> Spare:
        """Raises Unreachable, PoolTrouble."""
        async with self._locks.setdefault(pool_id, asyncio.Lock()):
            kept = self._spares.get(pool_id)
            if kept is None or self._clock() - kept[0] > SPARE_S:
                picture = await self.picture(pool_id)
                kept = self._clock(), await asyncio.to_thread(_spare, picture)
                self._spares[pool_id] = kept
            return kept[1]

    async def failure(self, pool_id: str, hosts: list[str]) -> Failure:
        """All of these hosts die at once. Raises NotFound, InvalidInput, Unreachable."""
        return await self._count(pool_id, lambda p: what_if(p, hosts))

    async def any_of(self, pool_id: str, count: int) -> list[Failure]:
        """Every choice of so many hosts. Raises InvalidInput, Unreachable."""
        return await self._count(pool_id, lambda p: any_of(p, count))

    async def load_after(self, pool_id: str, found: Failure) -> list[tuple[str, float]]:
        """(host, share of its memory that VMs have) after that failure, the fullest first."""
        return await self._count(pool_id, lambda p: _load_after(p, found))

    async def drill(self, pool_id: str, host: str, kind: str) -> Rehearsal:
        """The course of one host's failure, with times. Raises NotFound, InvalidInput, ...

        kind: one of readiness.drills.KINDS. Starts are as long as this pool's own were lately.
        """
        picture, status = await self.picture(pool_id), self._manager.reads.pool(pool_id).status
        since_s = time.time() - HISTORY_S
        entries = await self._manager.reads.timeline(pool_id, NOTES_MAX, since_s)
        timing, took_s = preset(status.preset), start_seconds(entries)
        return await asyncio.to_thread(rehearse, status, picture, timing, host, kind, took_s)

    async def drills(self, pool_id: str, host: str) -> list[tuple[Rehearsal, list[str]]]:
        """Every failure that this host can be made to have, and what speaks against it now.

        Raises NotFound, Unreachable.
        """
        picture, status = await self.picture(pool_id), self._manager.reads.pool(pool_id).status
        since_s = time.time() - HISTORY_S
        entries = await self._manager.reads.timeline(pool_id, NOTES_MAX, since_s)
        timing = preset(status.preset)

        def count() -> list[tuple[Rehearsal, list[str]]]:
            return [planned(status, picture, timing, entries, host, k, "") for k in HOST_KINDS]

        return await asyncio.to_thread(count)

    async def emptied(self, pool_id: str, host: str) -> tuple[Plan, Verdict]:
        """What the host's maintenance would move, and what would not be survived meanwhile."""

        def plan(picture: Picture) -> tuple[Plan, Verdict]:
            found = evacuate(picture, host)
            return found, meanwhile(picture, found, host)

        return await self._count(pool_id, plan)

    async def rolling(self, pool_id: str, hosts: Sequence[str]) -> list[Foreseen]:
        """What each host's turn of a rolling maintenance would do, as things are."""
        return await self._count(pool_id, lambda p: foreseen(p, hosts))

    async def places(self, pool_id: str, vm: str) -> Answer:
        """Each host for this VM: its score, or the rule that rejects it."""
        return await self._count(pool_id, lambda p: best(p, p.vm(vm)))

    async def in_turn(self, pool_id: str, vms: Sequence[Vm]) -> list[str]:
        """Where each of these new VMs would start, one after the other; "" = nowhere."""
        return await self._count(pool_id, lambda p: in_turn(p, vms))

    async def _count(self, pool_id: str, question: Callable[[Picture], T]) -> T:
        picture = await self.picture(pool_id)
        return await asyncio.to_thread(question, picture)


def _spare(picture: Picture) -> Spare:
    found = every(picture)
    lost = tuple(f for f in found.values() if not f.survived)
    return Spare(not lost and len(found) > 1, len(found), lost)


def _load_after(picture: Picture, found: Failure) -> list[tuple[str, float]]:
    moved = {one.vm: one.target for one in found.restarts}
    used: Counter[str] = Counter()
    for vm in picture.vms:
        used[moved.get(vm.name, vm.host)] += vm.memory_mib
    shares = [
        (h.name, (used[h.name] + h.reserved_mib) / h.memory_mib)
        for h in picture.hosts
        if h.name not in found.hosts and h.state is not HostState.DOWN and h.memory_mib
    ]
    return sorted(shares, key=lambda one: (-one[1], one[0]))
