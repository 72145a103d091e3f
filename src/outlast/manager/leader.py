"""Which of several managers does the background work: the one that holds a lock of the database.

Promises:
1. With PostgreSQL one manager leads at a time: its lock ends with its connection, so that a killed
   leader is replaced within RETRY_S or so. With SQLite there is one manager, and it leads.
2. A leader that cannot reach the database stops being one at once, and asks for the lock again.

Work that two do for a moment, because one does not know yet that it leads no more, must do no harm:
see background.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sqlalchemy import Connection, text

from outlast.errors import OutlastError
from outlast.manager.repository.store import LEADER_LOCK, Repository, trouble_of
from outlast.manager.troubles import Troubles

log = logging.getLogger("outlast.manager.leader")

RETRY_S = 1.0
PING_TIMEOUT_S = 3.0


async def rounds(
    leads: Callable[[], bool], every_s: float, one: Callable[[], Awaitable[object]],
    told: logging.Logger, what: str,
) -> None:  # fmt: skip
    """One round of some work again and again, while this manager leads, until it is cancelled."""
    while True:
        await asyncio.sleep(every_s)
        if leads():
            try:
                await one()
            except OutlastError as error:
                told.warning("%s: %s", what, error.sentence)


class Leader:
    """`leads` is true while this manager holds the lock."""

    def __init__(self, repository: Repository, changed: Callable[[bool], None]) -> None:
        self._repository, self._changed = repository, changed
        self._connection: Connection | None = None
        self._troubles = Troubles(log)
        self.leads = False

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                await self.step()
                await asyncio.sleep(RETRY_S)
        finally:
            self.release()

    async def step(self) -> None:
        """Try to get the lock, or make sure that it is still held."""
        if not self._repository.shared:
            self._set(True)
            return
        asking = asyncio.ensure_future(asyncio.to_thread(self._hold))
        try:
            held = await asyncio.wait_for(asyncio.shield(asking), PING_TIMEOUT_S)
        except TimeoutError:
            self._set(False)  # the database may have given the lock away already
            held = await asking
        self._set(held)

    def release(self) -> None:
        self._set(False)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _hold(self) -> bool:
        """In a thread. True: the lock is held."""
        try:
            if self._connection is not None:
                self._connection.execute(text("select 1"))
                return True
            connection = self._repository.own_connection()
            wish = text(f"select pg_try_advisory_lock({LEADER_LOCK})")
            if connection.execute(wish).scalar_one():
                self._connection = connection
                self._troubles.over("leading the managers")
                return True
            connection.close()
        except Exception as error:
            said = error if isinstance(error, OutlastError) else trouble_of(error, "postgresql")
            self._troubles.tell("leading the managers", said.sentence)
            lost, self._connection = self._connection, None
            if lost is not None:
                lost.invalidate()
                lost.close()
        return False

    def _set(self, leads: bool) -> None:
        if leads != self.leads:
            self.leads = leads
            log.info("this manager %s", "leads now" if leads else "leads no more")
            self._changed(leads)
