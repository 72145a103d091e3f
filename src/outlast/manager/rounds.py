"""Rolling maintenance of pools: keeps the rounds, and makes their steps while this manager leads.

Promises:
1. What the next step is says readiness/rolling.py, as for the command line. The wishes are those
   of people (acts.py): they are tasks, and in the audit, in the name of who began the round.
   Whoever may not do it any more stops it with that.
2. A round outlasts managers. A step that was made and not written down is seen in the pool.
3. A pool that does not answer, or a database that is away, costs time only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from outlast.errors import Conflict, NotFound, OutlastError, Refused, Unreachable
from outlast.manager.accounts import Accounts
from outlast.manager.acts import Acts
from outlast.manager.asking import Pools
from outlast.manager.leader import rounds as again
from outlast.manager.repository import records, rounds
from outlast.manager.repository.records import AuditRow
from outlast.manager.repository.store import Repository
from outlast.manager.rights import allowed
from outlast.manager.troubles import Troubles
from outlast.placement.snapshot import read
from outlast.readiness import rolling
from outlast.readiness.rolling import Round
from outlast.wire.shapes import PoolStatus

log = logging.getLogger("outlast.manager.rounds")

EVERY_S = 2.0


class Rounds:
    """On the manager's event loop."""

    def __init__(
        self, repository: Repository, pools: Pools, acts: Acts, people: Accounts, *,
        wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._repository, self._pools, self._wall = repository, pools, wall
        self._acts, self._people = acts, people
        self._troubles = Troubles(log)

    async def run(self, leads: Callable[[], bool]) -> None:
        """Until it is cancelled."""
        await again(leads, EVERY_S, self.round, log, "rolling maintenance")

    async def of(self, pool_id: str) -> Round:
        """A pool's last round. Raises NotFound."""
        return _known(await self._repository.read(lambda c: rounds.of(c, pool_id)))[0]

    async def begin(self, pool_id: str, new: Round, address: str) -> Round:
        """Raises Conflict while another one is open, and what `rolling.order` raises."""
        status = self._fresh(pool_id)
        hosts = rolling.order(status, new.hosts)
        new = new.model_copy(update={
            "hosts": hosts, "begun_wall_s": self._wall(), "since_wall_s": self._wall(),
            "sentence": f"{hosts[0]} is first",
        })  # fmt: skip
        line = self._line(pool_id, new.who, address, "rolling-begin", "", ", ".join(hosts))

        def begin(c: Connection) -> None:
            rounds.begin(c, pool_id, new)
            records.add_audit(c, line)

        try:
            await self._repository.write(begin)
        except IntegrityError:
            raise Conflict(
                "there is a rolling maintenance of this pool already", hint="wait, or end it"
            ) from None
        return new

    async def change(
        self, pool_id: str, who: str, address: str, what: str, how: Callable[[Round], Round]
    ) -> Round:
        """What a person says of it. Raises NotFound, Conflict."""

        def change(c: Connection) -> Round:
            found, seen = _known(rounds.of(c, pool_id))
            new = how(found)
            if not rounds.change(c, pool_id, new, seen):
                raise Conflict("the round has changed meanwhile", hint="look again")
            line = self._line(pool_id, who, address, what, _told(found), _told(new))
            records.add_audit(c, line)
            return new

        return await self._repository.write(change)

    async def round(self) -> None:
        """One step of every round that is open. Raises StorageTrouble."""
        found = await self._repository.read(rounds.all_open)
        for pool_id, (one, seen) in found.items():
            if one.stopped:
                continue
            what = f"rolling maintenance of pool {pool_id}"
            try:
                await self._step(pool_id, one, seen)
                self._troubles.over(what)
            except (Unreachable, NotFound) as error:
                log.debug("%s waits: %s", what, error.sentence)
            except OutlastError as error:
                self._troubles.tell(what, error.sentence)

    async def _step(self, pool_id: str, one: Round, seen: int) -> None:
        status, wall_s = self._fresh(pool_id), self._wall()
        picture = None
        if one.phase == "begins":
            text = await self._pools.ask(pool_id, lambda c: c.picture())
            picture = await asyncio.to_thread(read, text)
        made = await asyncio.to_thread(rolling.step, one, status, picture, wall_s)
        new = made.round
        try:
            await self._wish(pool_id, one, made.wish)
        except (Unreachable, OSError):
            raise  # once more with the next round
        except OutlastError as error:
            new = one.model_copy(update={
                "stopped": True, "sentence": f"{one.host}: {error.sentence}", "hint": error.hint,
            })  # fmt: skip
        if new != one:
            await self._repository.write(lambda c: rounds.change(c, pool_id, new, seen))

    async def _wish(self, pool_id: str, one: Round, wish: str) -> None:
        if wish:
            user = await self._people.user(one.who.partition("/")[0])  # "anna/ci" is her token
            if user.disabled or not allowed(user.grants, "maintain", pool_id):
                raise Refused(f"{one.who} may not do this any more", hint="end it, begin another")
        if wish == "maintain":
            await self._acts.maintain(pool_id, one.host, one.who, one.why or "rolling maintenance")
        elif wish == "resume":
            await self._acts.resume(pool_id, one.host, one.who, bring_back=one.bring_back)

    def _fresh(self, pool_id: str) -> PoolStatus:
        entry = self._pools.pool(pool_id)
        if entry.stale:
            raise Unreachable(f"{entry.name} does not answer: {entry.trouble}",
                              hint="HA goes on without the manager")  # fmt: skip
        return entry.status

    def _line(
        self, pool_id: str, who: str, address: str, what: str, before: str, after: str
    ) -> AuditRow:
        return AuditRow(self._wall(), who, address, what, pool_id, True, "", before, after)


def _told(one: Round) -> str:
    said = ", done" if one.said else ""
    return f"{one.host or 'no host'}, {one.phase}{said}: {one.sentence}"


def _known(found: tuple[Round, int] | None) -> tuple[Round, int]:
    if found is None:
        raise NotFound("this pool has had no rolling maintenance", hint="begin one")
    return found
