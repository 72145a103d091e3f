"""The fleet, and what has to be asked of a pool's agents on the spot (ports.Reads)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from outlast.errors import OutlastError, Unreachable
from outlast.manager.fleet import Fleet
from outlast.manager.follower import Follower
from outlast.manager.hub import Hub
from outlast.wire.client import AgentClient
from outlast.wire.shapes import TimelineEntry, VmDetail
from outlast.wire.templates import TemplateClient, TemplateInfo
from outlast.wire.why import Why

T = TypeVar("T")


class Pools(Fleet):
    """Answers from memory; `why`, `timeline`, `templates` and `fresh_vm` ask agents, one by one."""

    def __init__(self, hub: Hub | None = None) -> None:
        super().__init__(hub)
        self.followers: dict[str, Follower] = {}

    async def why(self, pool_id: str, vm: str) -> Why:
        name = self.vm(pool_id, vm).vm.name
        return await self.ask(pool_id, lambda c: c.why_vm(name))

    async def why_host(self, pool_id: str, host: str) -> Why:
        name = self.host(pool_id, host).name
        return await self.ask(pool_id, lambda c: c.why_host(name))

    async def timeline(
        self, pool_id: str, limit: int = 200, since_wall_s: float = 0
    ) -> list[TimelineEntry]:
        return await self.ask(pool_id, lambda c: c.timeline(since_wall_s, limit))

    async def templates(self, pool_id: str) -> list[TemplateInfo]:
        return await self.ask(pool_id, lambda c: TemplateClient(c).all())

    async def fresh_vm(self, pool_id: str, vm: str) -> VmDetail:
        """A VM as an agent sees it now. Raises NotFound, Unreachable."""
        return await self.ask(pool_id, lambda c: c.vm(vm))

    async def ask(self, pool_id: str, question: Callable[[AgentClient], T]) -> T:
        """The first agent's answer. Raises what it answers, Unreachable when none does."""
        self.pool(pool_id)
        follower = self.followers.get(pool_id)
        if follower is None:
            raise Unreachable("this manager does not follow the pool", hint="see its log")
        return await asyncio.to_thread(_first, follower, question)


def _first(follower: Follower, question: Callable[[AgentClient], T]) -> T:
    trouble: OutlastError = Unreachable(
        "no address of this pool is known", hint="HA goes on without the manager"
    )
    for address in follower.addresses():
        try:
            return question(follower.client(address))
        except Unreachable as error:
            trouble = error
    raise trouble
