"""Wishes on their way to pools: handed over once, watched until done, never lost (acts_port.py).

Promises:
1. A wish is written down, with its line of the audit, before a pool hears of it: no database, no
   wish. The pool's own commands work without the manager.
2. A wish goes to one agent. Another one is tried only when the first certainly did not take it, or
   when taking it twice does no harm.
3. When the manager that asks dies, another one (or the next start) looks in the pool for what came
   of it; it is reported, and never wished a second time by itself.
4. A task ends once, whoever sees it: `records.change_task` decides.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from outlast.errors import (
    NotFound,
    OutlastError,
    PoolTrouble,
    StorageTrouble,
    Unreachable,
)
from outlast.manager import jobs
from outlast.manager.fleet import Fleet
from outlast.manager.follower import Follower
from outlast.manager.outcome import AT_ONCE, Wish, judge
from outlast.manager.ports import Task
from outlast.manager.repository import records
from outlast.manager.repository.records import AuditRow
from outlast.manager.repository.store import Repository
from outlast.wire.client import AgentClient, OutcomeUnknown
from outlast.wire.disks import SnapshotDone
from outlast.wire.shapes import HostWish, PoolWish, VmWish

log = logging.getLogger("outlast.manager.tasks")

KEPT_S = 3600.0  # ended tasks that are shown
DEAD_S = 10.0  # a manager that has not been seen for so long is dead
# wished twice, these are refused or done twice
ONCE_ONLY = frozenset((
    "create", "migrate", "drill", "network-create", "network-remove", "storage-add",
    "storage-remove", "orphan-remove", "image-import", "image-remove", "template-create",
    "template-of-vm", "template-remove", "snapshot", "snapshot-remove",
    "disk-move", "backup", "restore", "adopt",
))  # fmt: skip

NO_WISH = Wish()
Answer = VmWish | HostWish | PoolWish | SnapshotDone
Ask = Callable[[AgentClient], Answer]


class Tasks:
    """All open wishes and those that ended lately. On one event loop."""

    def __init__(
        self, repository: Repository, fleet: Fleet, followers: Mapping[str, Follower], *,
        manager: str = "", wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.manager = manager or secrets.token_hex(8)
        self.leads = not repository.shared  # writes down how tasks end
        self._repository, self._fleet, self._followers = repository, fleet, followers
        self._wall = wall
        self._tasks: dict[str, Task] = {}
        self._wishes: dict[str, Wish] = {}
        self._asked_s: dict[str, float] = {}  # answers asked for later than this count
        self._answers: dict[str, Answer] = {}  # what pools said to wishes that this manager gave
        self._running: set[asyncio.Task[Any]] = set()
        self._asking: set[str] = set()  # jobs whose agent is being asked
        self.ended: Callable[[Task], Awaitable[None]] | None = None

    # ---- what is read

    def tasks(self, *, open_only: bool = False) -> list[Task]:
        found = [t for t in self._tasks.values() if not (open_only and t.done)]
        return sorted(found, key=lambda t: (-t.started_wall_s, t.id))

    def task(self, task_id: str) -> Task:
        found = self._tasks.get(task_id)
        if found is None:
            raise NotFound(f"there is no task '{task_id[:80]}'", hint="it may be too old")
        return found

    def wish_of(self, task_id: str) -> Wish:
        """What it looks for, with the address of the agent that took it."""
        return self._wishes.get(task_id, NO_WISH)

    def answer(self, task_id: str) -> Answer | None:
        """What the pool said to the wish; None: it was not heard here."""
        return self._answers.get(task_id)

    # ---- a new wish

    async def wish(
        self, verb: str, pool_id: str, object_: str, who: str, ask: Ask, wish: Wish = NO_WISH, *,
        address: str = "", before: str = "", after: str = "", said: str = "", agent: str = "",
    ) -> Task:  # fmt: skip
        """Write it down, hand it over, watch it. Raises what the agent answers, StorageTrouble.

        before, after: for the audit; said: for the task, and the audit when it has no `after`.
        agent: the address of the only one to be asked; "" = any.
        """
        self._fleet.pool(pool_id)
        task = Task(
            secrets.token_hex(6), verb, pool_id, object_, who, self._wall(), "asking", None,
            said or f"{verb} {object_ or 'the pool'}",
        )  # fmt: skip
        line = AuditRow(
            task.started_wall_s, who, address, verb, _named(task), True, "wished", before,
            after or said,
        )  # fmt: skip

        def note(c: Connection) -> None:
            records.add_task(c, task, self.manager, wish.to_json())
            records.add_audit(c, line)

        await self._repository.write(note)
        wish = replace(wish, agent=agent)
        self._keep(task, wish)
        # a caller that hangs up must not leave the wish half way
        running = asyncio.ensure_future(self._hand_over(task, wish, ask))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return await asyncio.shield(running)

    async def _hand_over(self, task: Task, wish: Wish, ask: Ask) -> Task:
        try:
            answer, agent = await asyncio.to_thread(self._ask, task, ask, wish.agent)
            self._answers[task.id] = answer
            version = answer.version if isinstance(answer, VmWish) else 0
            wish = replace(wish, version=version, agent=agent)
            task = replace(task, phase="watching", sentence=answer.sentence)
        except OutcomeUnknown as error:
            wish = replace(wish, doubt=True)
            task = replace(task, phase="watching", sentence=error.sentence, hint=error.hint)
        except OutlastError as error:
            await self._fail(task, wish, error)
            raise
        except Exception:
            log.exception("a bug while handing over %s", task)
            await self._fail(task, wish, OutlastError("the manager failed; see its log"))
            raise
        self._keep(task, wish)
        self._asked_s[task.id] = self._fleet.now_s()
        follower = self._followers.get(task.pool_id)
        if follower is not None:
            follower.hurry()
        if task.verb in AT_ONCE and not wish.doubt:
            return await self._end(_carried_out(task, self._wall()), wish)
        await self._repository.write(lambda c: records.change_task(c, task, wish.to_json()))
        return task

    def _ask(self, task: Task, ask: Ask, agent: str = "") -> tuple[Answer, str]:
        """In a thread: the first agent that takes it or refuses it, and its address."""
        follower = self._followers.get(task.pool_id)
        if follower is None:
            raise PoolTrouble("this manager does not follow the pool", hint="see its log")
        trouble: OutlastError = Unreachable("no address of this pool is known")
        for address in (agent,) if agent else follower.addresses():
            try:
                return ask(follower.client(address)), address
            except OutcomeUnknown as error:
                trouble = error
                if task.verb in ONCE_ONLY:
                    raise
            except (Unreachable, PoolTrouble) as error:
                trouble = error
            except StorageTrouble as error:
                trouble = error
                if task.verb in ONCE_ONLY:
                    raise
        raise trouble

    async def _fail(self, task: Task, wish: Wish, error: OutlastError) -> None:
        failed = replace(
            task, phase="failed", done=True, failed=True, sentence=error.sentence,
            hint=error.hint, ended_wall_s=self._wall(),
        )  # fmt: skip
        try:
            await self._end(failed, wish)
        except OutlastError:
            log.warning("that %s failed could not be written down: %s", task.id, error.sentence)

    # ---- what comes of it

    def heard(self, pool_id: str) -> None:
        """A pool has answered: what of its open tasks does that settle?"""
        for task in [t for t in self._tasks.values() if t.pool_id == pool_id and not t.done]:
            if task.phase == "watching":
                self._look(task)

    def _look(self, task: Task) -> None:
        entry = self._fleet.pool(task.pool_id)
        if entry.stale or self._fleet.asked_s(task.pool_id) <= self._asked_s.get(task.id, 0):
            return
        wish = self._wishes[task.id]
        if task.verb in jobs.KINDS:
            self._look_at_job(task, wish)
            return
        judged = judge(task, wish, entry.status, self._wall())
        if judged == task:
            if task.verb == "create" and wish.start and not wish.start_asked and self.leads:
                self._start_created(task, wish)
            return
        self._settle(judged, wish)

    def _settle(self, judged: Task, wish: Wish) -> None:
        if not judged.done:
            self._keep(judged, wish)
        elif self.leads:
            self._run(self._end_quietly(judged, wish))

    def _look_at_job(self, task: Task, wish: Wish) -> None:
        """Its agent is asked, once at a time."""
        follower = self._followers.get(task.pool_id)
        if follower is None or task.id in self._asking:
            return
        self._asking.add(task.id)

        async def look() -> None:
            try:
                judged, known = await asyncio.to_thread(
                    jobs.follow, task, wish, follower.addresses(), follower.client, self._wall()
                )
                self._settle(replace(judged, ended_wall_s=self._wall() * judged.done), known)
            finally:
                self._asking.discard(task.id)

        self._run(look())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        running = asyncio.ensure_future(work)
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    def _start_created(self, task: Task, wish: Wish) -> None:
        """The second half of "create and start": wishing it twice does no harm."""
        asked = replace(wish, start_asked=True)
        self._asked_s[task.id] = math.inf  # what the pool says meanwhile settles nothing
        self._keep(task, asked)

        async def start() -> None:
            try:
                answer, _ = await asyncio.to_thread(
                    self._ask, replace(task, verb="start"), lambda c: c.start(task.object)
                )
                version = answer.version if isinstance(answer, VmWish) else 0
                done = replace(asked, version=version)
                self._keep(task, done)
                await self._repository.write(lambda c: records.change_task(c, task, done.to_json()))
            except OutlastError as error:
                await self._fail(task, asked, error)
            finally:
                self._asked_s[task.id] = self._fleet.now_s()

        self._run(start())

    async def _end_quietly(self, task: Task, wish: Wish) -> None:
        try:
            await self._end(task, wish)
        except OutlastError as error:
            # tried again at the pool's next word; that the database is away is told once
            log.info("the end of task %s is not written down yet: %s", task.id, error.sentence)

    async def _end(self, task: Task, wish: Wish) -> Task:
        """Write down how it ended; whoever is first counts."""
        line = AuditRow(
            task.ended_wall_s, task.who, "", task.verb, _named(task), not task.failed, task.sentence
        )

        def end(c: Connection) -> bool:
            first = records.change_task(c, task, wish.to_json())
            if first and (task.failed or task.phase == "done"):
                records.add_audit(c, line)
            return first

        first = await self._repository.write(end)
        self._keep(task, wish)
        if first and self.ended is not None:
            await self.ended(task)
        return task

    # ---- with other managers

    async def sync(self) -> None:
        """Take over what other managers wrote down. Raises StorageTrouble."""
        since = self._wall() - KEPT_S
        stored = await self._repository.read(lambda c: records.fresh_tasks(c, since))
        seen = await self._repository.read(records.all_managers)
        known = set()
        for task, manager, value in stored:
            known.add(task.id)
            mine = self._tasks.get(task.id)
            orphan = task.phase == "asking" and manager != self.manager
            if orphan and self._wall() - seen.get(manager, ("", 0.0))[1] > DEAD_S:
                wish = replace(Wish.of_json(value), doubt=True)
                self._keep(replace(task, phase="watching", sentence=LOST), wish)
            elif mine is None or (task.done and not mine.done) or _further(task, mine):
                self._keep(task, Wish.of_json(value))
        old = [t.id for t in self._tasks.values() if t.done and t.ended_wall_s < since]
        for task_id in old:
            self._forget(task_id)

    async def close(self) -> None:
        """Wait for wishes that are on their way; they are short."""
        if self._running:
            await asyncio.wait(self._running, timeout=5)

    # ---- inside

    def _keep(self, task: Task, wish: Wish) -> None:
        before = self._tasks.get(task.id)
        self._tasks[task.id], self._wishes[task.id] = task, wish
        if before != task:
            self._fleet.hub.publish("task", task.pool_id, task.id)

    def _forget(self, task_id: str) -> None:
        for kept in (self._tasks, self._wishes, self._asked_s, self._answers):
            kept.pop(task_id, None)


LOST = "the manager that handed it over ended before it had an answer; the pool is being looked at"


def _further(stored: Task, mine: Task) -> bool:
    return stored.phase == "watching" and mine.phase == "asking"


def _carried_out(task: Task, wall_s: float) -> Task:
    """One that is done as soon as the pool has written it."""
    return replace(task, phase="done", done=True, percent=100.0, ended_wall_s=wall_s)


def _named(task: Task) -> str:
    return f"{task.pool_id}/{task.object}" if task.object else task.pool_id
