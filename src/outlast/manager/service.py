"""One running manager: its parts, put together, started and stopped in the right order.

Promises:
1. It starts without any pool answering, and without a database serves nothing but a clear sentence.
2. `stop` ends every stream, waits a moment for wishes on their way, and leaves nothing running.
3. Pools that another manager adds, or the command line, are followed within SYNC_S.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from outlast.errors import OutlastError, StorageTrouble
from outlast.manager.accounts import Accounts
from outlast.manager.acts import Acts
from outlast.manager.asking import Pools
from outlast.manager.background import Background
from outlast.manager.config import Config, Place
from outlast.manager.follower import PERIOD_S, Follower, PoolLink
from outlast.manager.forecast import Forecasts
from outlast.manager.history import History
from outlast.manager.leader import Leader
from outlast.manager.outside import Elsewhere
from outlast.manager.passwords import Passwords
from outlast.manager.repository import records
from outlast.manager.repository.store import Repository
from outlast.manager.rollcall import RollCall
from outlast.manager.rounds import Rounds
from outlast.manager.tasks import Tasks
from outlast.manager.webhooks import Webhooks

if TYPE_CHECKING:
    from outlast.manager.provider import Provider

log = logging.getLogger("outlast.manager")

SYNC_S = 1.0


class Manager:
    """On one event loop. `reads`, `acts` and `people` are the ports of ports.py."""

    def __init__(
        self, place: Place, config: Config, *, period_s: float = PERIOD_S,
        passwords: Passwords | None = None,
    ) -> None:  # fmt: skip
        self.place, self.config = place, config
        self.repository = Repository(place.database(config))
        self.reads = Pools()
        self.directory = _directory(config)
        self.people = Accounts(
            self.repository, passwords=passwords, policy=config.second_factor,
            directory=self.directory, outside_days=config.outside_days,
        )  # fmt: skip
        self.rollcall = RollCall(self.people, self.directory)
        self.provider = _provider(config)
        self.tasks = Tasks(self.repository, self.reads, self.reads.followers)
        self.acts = Acts(self.tasks, self.reads, self.people)
        self.background = Background(self.repository, self.reads, config)
        self.history = History(self.repository, self.reads)
        self.rounds = Rounds(self.repository, self.reads, self.acts, self.people)
        self.leader = Leader(self.repository, self._leads)
        self.forecasts = Forecasts(self.reads)
        self.webhooks = Webhooks(self.repository, mail=config.mail)
        self.trouble = ""  # of the database; "" = it works
        self.started_wall_s = time.time()
        self._period_s = period_s
        self._loops: list[asyncio.Task[None]] = []
        self._lines: dict[str, int] = {}

    async def start(self) -> None:
        """Raises OutlastError when the database cannot be used."""
        await asyncio.to_thread(self.repository.migrate)
        if await self.people.first_start():
            if code := await self.people.new_code(only_first=True):
                self.place.write_setup_code(code)
            log.warning(
                "not set up yet: the one-time code is in %s, or comes from 'outlast manager init'",
                self.place.setup_code,
            )
        await self.sync()
        if not self.repository.shared:
            await self.tasks.sync()
        for work in (
            self._age(), self._sync(), self.leader.run(),
            self.background.run(lambda: self.leader.leads),
            self.webhooks.run(lambda: self.leader.leads), self.forecasts.run(),
            self.rollcall.run(lambda: self.leader.leads),
            self.history.run(lambda: self.leader.leads),
            self.rounds.run(lambda: self.leader.leads),
        ):  # fmt: skip
            self._loops.append(asyncio.ensure_future(self._guarded(work)))

    async def stop(self) -> None:
        self.reads.hub.close()
        for follower in self.reads.followers.values():
            follower.stop()
        await self.tasks.close()
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        with contextlib.suppress(OutlastError):
            await self.repository.write(lambda c: records.forget_manager(c, self.tasks.manager))
        self.people.close()
        self.repository.close()

    async def sync(self) -> None:
        """Follow the pools that the database knows, no others; say that this manager is there."""
        found = await self.repository.read(records.all_pools)
        wall_s, listen = time.time(), self.config.listen
        await self.repository.write(
            lambda c: records.saw_manager(c, self.tasks.manager, listen, wall_s)
        )
        wanted = {
            pool_id: PoolLink(pool_id, name, agents, self.place.pool_pki(pool_id))
            for pool_id, name, agents in found
        }
        followers = self.reads.followers
        for pool_id in list(followers):
            if wanted.get(pool_id) != followers[pool_id].link:
                followers.pop(pool_id).stop()
            if pool_id not in wanted:
                self.reads.remove(pool_id)
        loop = asyncio.get_running_loop()
        for pool_id, link in wanted.items():
            if pool_id not in followers:
                self.reads.add(pool_id, link.name)
                followers[pool_id] = Follower(
                    link, self.reads, loop, period_s=self._period_s, heard=self.tasks.heard
                )
                followers[pool_id].start()

    async def notice(self) -> None:
        """Tell pages of new lines in the history and the audit, whichever manager wrote them."""
        found = await self.repository.read(records.newest_lines)
        for kind, newest in found.items():
            if self._lines.get(kind, newest) != newest:
                self.reads.hub.publish(kind)
        self._lines = found

    # ---- loops

    async def _age(self) -> None:
        while True:
            self.reads.age()
            await asyncio.sleep(1)

    async def _sync(self) -> None:
        while True:
            await asyncio.sleep(SYNC_S)
            try:
                await self.sync()
                await self.tasks.sync()
                await self.notice()
                if self.trouble:
                    log.warning("the database works again")
                self.trouble = ""
            except StorageTrouble as error:
                if self.trouble != error.sentence:
                    log.error("%s", error.sentence)
                self.trouble = error.sentence

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("a bug ended a part of the manager")

    def _leads(self, leads: bool) -> None:
        self.tasks.leads = leads


def _directory(config: Config) -> Elsewhere | None:
    if config.ldap is None:
        return None
    from outlast.manager.directory import Directory  # not loaded where there is none

    return Directory(config.ldap)


def _provider(config: Config) -> Provider | None:
    if config.oidc is None:
        return None
    from outlast.manager.provider import Provider

    return Provider(config.oidc)
