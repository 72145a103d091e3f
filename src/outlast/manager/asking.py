"""The fleet, and what has to be asked of a pool's agents on the spot (ports.Reads)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from outlast.errors import OutlastError, Unreachable
from outlast.manager.equipment import joined
from outlast.manager.fleet import Fleet
from outlast.manager.follower import Follower
from outlast.manager.hub import Hub
from outlast.wire.backups import BackupClient, ScheduleInfo
from outlast.wire.client import AgentClient
from outlast.wire.disk_client import DiskClient
from outlast.wire.disks import Snapshot
from outlast.wire.equipment import EquipmentClient, NetworkInfo, OrphanInfo, StorageInfo
from outlast.wire.images import ImageClient, ImageInfo
from outlast.wire.shapes import HostStatus, PoolStatus, TimelineEntry, VmDetail
from outlast.wire.templates import TemplateClient, TemplateInfo
from outlast.wire.why import Why

T = TypeVar("T")
ASKED_AT_ONCE = 16


class Pools(Fleet):
    """Answers from memory, but for what is asked here: one agent after the other until one answers,
    and of networks and storage every host, because each knows how they stand on itself."""

    def __init__(self, hub: Hub | None = None) -> None:
        super().__init__(hub)
        self.followers: dict[str, Follower] = {}
        # of their own: hosts that do not answer keep no other question waiting
        self._askers = ThreadPoolExecutor(ASKED_AT_ONCE, "hosts")

    async def why(self, pool_id: str, vm: str) -> Why:
        name = self.vm(pool_id, vm).vm.name
        return await self.ask(pool_id, lambda c: c.why_vm(name))

    async def why_host(self, pool_id: str, host: str) -> Why:
        name = self.host(pool_id, host).name
        return await self.ask(pool_id, lambda c: c.why_host(name))

    async def snapshots(self, pool_id: str, vm: str) -> list[Snapshot]:
        name = self.vm(pool_id, vm).vm.name
        return await self.ask(pool_id, lambda c: DiskClient(c).snapshots(name))

    async def schedules(self, pool_id: str) -> list[ScheduleInfo]:
        return await self.ask(pool_id, lambda c: BackupClient(c).schedules())

    async def timeline(
        self, pool_id: str, limit: int = 200, since_wall_s: float = 0,
        until_wall_s: float | None = None,
    ) -> list[TimelineEntry]:  # fmt: skip
        return await self.ask(pool_id, lambda c: c.timeline(since_wall_s, limit, until_wall_s))

    async def templates(self, pool_id: str) -> list[TemplateInfo]:
        return await self.ask(pool_id, lambda c: TemplateClient(c).all())

    async def images(self, pool_id: str) -> list[ImageInfo]:
        return await self.ask(pool_id, lambda c: ImageClient(c).all())

    async def networks(self, pool_id: str) -> list[NetworkInfo]:
        return joined(await self.each(pool_id, lambda c: EquipmentClient(c).networks()))

    async def orphans(self, pool_id: str) -> list[OrphanInfo]:
        return await self.ask(pool_id, lambda c: EquipmentClient(c).orphans())

    async def storage(self, pool_id: str) -> list[StorageInfo]:
        return joined(await self.each(pool_id, lambda c: EquipmentClient(c).storage()))

    async def fresh_pool(self, pool_id: str) -> PoolStatus:
        """A pool as an agent sees it now. Raises Unreachable."""
        return await self.ask(pool_id, lambda c: c.status())

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

    async def each(
        self, pool_id: str, question: Callable[[AgentClient], T], only: str = ""
    ) -> dict[str, T | OutlastError]:
        """What every host of a pool says, or why it does not, by its name. only: that host."""
        entry, follower = self.pool(pool_id), self.followers.get(pool_id)
        if follower is None:
            raise Unreachable("this manager does not follow the pool", hint="see its log")
        loop, ask = asyncio.get_running_loop(), partial(_one, follower, question)
        hosts = [host for host in entry.status.hosts if only in ("", host.name)]
        said = await asyncio.gather(
            *(loop.run_in_executor(self._askers, ask, host) for host in hosts)
        )
        return dict(zip((host.name for host in hosts), said, strict=True))


def _one(
    follower: Follower, question: Callable[[AgentClient], T], host: HostStatus
) -> T | OutlastError:
    if host.state != "member" or not host.api:
        return Unreachable(host.sentence)
    try:
        return question(follower.client(f"https://{host.api}"))
    except OutlastError as error:
        return error


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
