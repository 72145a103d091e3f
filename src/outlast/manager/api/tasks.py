"""Tasks, live changes and the history of all pools."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from starlette.responses import StreamingResponse

from outlast.errors import InvalidInput, NotFound, Refused
from outlast.manager.api.answers import ERRORS, EventOut, TaskOut
from outlast.manager.api.gate import Caller, logged_in
from outlast.manager.api.once import Once, accepted
from outlast.manager.api.paging import Asked, Newest, Page, Text, asked, newest
from outlast.manager.cancelling import CANCELS, cancel_of
from outlast.manager.hub import RESET, Batch, Hub
from outlast.manager.ports import Change, Scope, Task
from outlast.manager.repository import records

router = APIRouter()
PING_S = 15.0
WAIT_MAX_S = 60.0
VM_VERBS = frozenset(
    {"start", "stop", "kill", "migrate", "stay", "ha", "set", "create", "delete", "snapshot"}
    | {"snapshot-revert", "snapshot-remove", "disk-move", "backup", "schedule-set"}
    | {"schedule-remove"}
)  # all others are about hosts and whole pools


@router.get("/tasks", tags=["tasks"])
async def list_tasks(
    caller: Annotated[Caller, logged_in()],
    how: Annotated[Asked, asked("started", descending=True)], open: bool | None = None,
    pool: Text = "", object: Text = "", verb: Text = "",
) -> Page[TaskOut]:  # fmt: skip
    """Wishes on their way, and those that ended within the last hour."""
    found = [
        task for task in caller.manager.acts.tasks()
        if sees_task(caller, task) and open in (None, not task.done)
        and pool in ("", task.pool_id) and object in ("", task.object) and verb in ("", task.verb)
    ]  # fmt: skip
    keys = {"started": lambda t: t.started_wall_s, "verb": lambda t: t.verb,
            "object": lambda t: t.object, "who": lambda t: t.who}  # fmt: skip
    show = lambda task: TaskOut(**asdict(task))  # noqa: E731
    return how.page(found, keys, show, name=lambda t: t.object, id_=lambda t: t.id)


@router.get("/tasks/{task}", tags=["tasks"])
async def one_task(
    task: str, caller: Annotated[Caller, logged_in()],
    wait_s: Annotated[
        float, Query(ge=0, le=WAIT_MAX_S, description="answer when it ended, or after so long")
    ] = 0,
) -> TaskOut:  # fmt: skip
    found = await _task(caller, task)
    if not sees_task(caller, found):
        raise NotFound(f"there is no task '{task[:80]}'")
    if wait_s and not found.done:
        found = await _wait(caller, task, wait_s)
    return TaskOut(**asdict(found))


@router.post("/tasks/{task}/cancel", tags=["tasks"], **accepted())
async def cancel_task(task: str, caller: Annotated[Caller, logged_in()], once: Once) -> Response:
    """Have a wish not be carried out; answers with the task of this one.

    Moves, starts, maintenance, imports and templates of VMs can be taken back. What cannot is
    refused, with what to do instead.
    """
    found, acts = await _task(caller, task), caller.manager.acts
    if not sees_task(caller, found):
        raise NotFound(f"there is no task '{task[:80]}'")
    await check_cancel(caller, found)
    return await once(lambda: acts.cancel(found, caller.person.name, address=caller.address))


async def check_cancel(caller: Caller, task: Task) -> None:
    """Raises Refused, and Conflict when nobody can."""
    how = cancel_of(task)
    if not may_cancel(caller, task):
        await caller.manager.people.audit(
            caller.person, "cancel", task.id, address=caller.address, ok=False, sentence="refused"
        )
        raise Refused(
            f"{caller.person.name} may not do this: it needs the right '{how.action}' there"
        )


def may_cancel(caller: Caller, task: Task) -> bool:
    how = CANCELS.get(task.verb)
    if how is None or task.done:
        return False
    vm = task.object if how.of_vm else ""
    return caller.manager.people.may(caller.person, how.action, task.pool_id, vm)


async def _task(caller: Caller, task_id: str) -> Task:
    """One that another manager has just made is not known here yet. Raises NotFound."""
    try:
        return caller.manager.acts.task(task_id)
    except NotFound:
        await caller.manager.tasks.sync()
        return caller.manager.acts.task(task_id)


async def _wait(caller: Caller, task_id: str, wait_s: float) -> Task:
    hub, acts = caller.manager.reads.hub, caller.manager.acts

    async def ended() -> None:
        async for change in hub.changes():
            told = change.kind == RESET or change.name == task_id
            if told and acts.task(task_id).done:
                return

    waiting = asyncio.ensure_future(ended())
    await asyncio.sleep(0)  # it listens from here on; what ended before is seen now
    if not acts.task(task_id).done:
        await asyncio.wait([waiting], timeout=wait_s)
    waiting.cancel()
    return acts.task(task_id)


def sees_task(caller: Caller, task: Task) -> bool:
    scope = caller.scope
    if task.who == caller.person.name:
        return True
    of_a_vm = task.verb in VM_VERBS
    return scope.sees_vm(task.pool_id, task.object) if of_a_vm else scope.sees_pool(task.pool_id)


# ---- history


@router.get("/events", tags=["events"], responses=ERRORS)
async def list_events(
    caller: Annotated[Caller, logged_in()], how: Annotated[Newest, newest()], pool: Text = "",
    vm: Text = "", host: Text = "", code: Text = "",
) -> Page[EventOut]:  # fmt: skip
    """What happened in all pools, newest first. Somebody who sees single VMs only names one."""
    manager, scope = caller.manager, caller.scope
    pool_id = manager.reads.find(pool).id if pool else ""
    seen = None if scope.everything else sorted(scope.pools)
    if pool_id and vm and scope.sees_vm(pool_id, vm):
        seen = [pool_id]
    before = how.before_id
    rows, total = await manager.repository.read(
        lambda c: records.list_events(
            c, pools_seen=seen, pool_id=pool_id, vm=vm, host=host, code=code, before_id=before,
            limit=how.ask,
        )
    )  # fmt: skip
    return how.page(rows, total, lambda row: EventOut(**asdict(row)))


# ---- live


@router.get("/events/stream", tags=["events"], response_class=StreamingResponse, responses=ERRORS)
async def stream_events(
    caller: Annotated[Caller, logged_in()],
    after: Annotated[int | None, Query(ge=0, lt=1 << 62)] = None,
    last_event_id: Annotated[str, Header(alias="Last-Event-ID", max_length=40)] = "",
) -> StreamingResponse:  # fmt: skip
    """Changes as server-sent events: event = kind, data = {id, kind, pool_id, name}.

    With Last-Event-ID (or `after`) those since that id first. "reset" means: changes were missed,
    read everything again. Data names what changed; the newest values are in the API.
    """
    if last_event_id:
        if not last_event_id.isdigit() or int(last_event_id) >= 1 << 62:
            raise InvalidInput("Last-Event-ID is none", hint="begin without one")
        after = int(last_event_id)
    hub = caller.manager.reads.hub
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    source = stream(hub, caller.scope, after, caller)
    return StreamingResponse(source, media_type="text/event-stream", headers=headers)


async def stream(
    hub: Hub, scope: Scope, after: int | None, caller: Caller | None = None
) -> AsyncIterator[bytes]:
    """The text of the stream; a comment now and then, so that a broken line is noticed."""
    yield b"retry: 1000\n: this is live\n\n"
    batches = hub.batches(after)
    following = asyncio.ensure_future(anext(batches, None))
    try:
        while True:
            await asyncio.wait([following], timeout=PING_S)
            if not following.done():
                yield b": still here\n\n"
                continue
            batch = following.result()
            if batch is None:
                return
            text = _text(batch, scope, caller)
            if text:
                yield text
            following = asyncio.ensure_future(anext(batches, None))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await batches.aclose()  # type: ignore[attr-defined]


_made: dict[int, tuple[Batch, bytes]] = {}  # by id(batch): the newest few, for those who see all


def _text(batch: Batch, scope: Scope, caller: Caller | None) -> bytes:
    if not scope.everything:
        return b"".join(_event(c) for c in batch.changes if _sees(c, scope, caller))
    made = _made.get(id(batch))
    if made is None or made[0] is not batch:
        if len(_made) > 8:
            _made.clear()
        made = _made[id(batch)] = batch, b"".join(_event(c) for c in batch.changes)
    return made[1]


def _sees(change: Change, scope: Scope, caller: Caller | None) -> bool:
    if change.kind in (RESET, "pool"):
        return change.kind == RESET or scope.touches(change.pool_id)
    if change.kind in ("events", "audit"):
        return False  # of any pool
    if change.kind == "host":
        return scope.sees_pool(change.pool_id)
    if change.kind == "task":
        try:
            return caller is not None and sees_task(caller, caller.manager.acts.task(change.name))
        except NotFound:
            return False
    return scope.sees_vm(change.pool_id, change.name)


def _event(change: Change) -> bytes:
    data = {"id": change.id, "kind": change.kind, "pool_id": change.pool_id, "name": change.name}
    return f"id: {change.id}\nevent: {change.kind}\ndata: {json.dumps(data)}\n\n".encode()
