"""The stream of a page: fragments of what it shows, whenever that changes.

Rules:
1. The address of the stream names what the page shows; nothing else is sent, and no state of a page
   is kept but this connection's own.
2. Changes come in the hub's windows: many of one thing are one fragment. Gauges, which change all
   the time, come every GAUGE_S.
3. A fragment that is the same for all who may see it is made once for each version of what it
   shows. One with buttons is made for its viewer: its forms hold the session's token. A connection
   gets a fragment only when it differs from what it was sent before.
4. A stream that comes back (Last-Event-ID), or that begins after something has changed, gets
   everything its page shows.
5. Who looks is asked anew before each fragment: a role that was taken away counts, and a session
   that ended ends the stream.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import APIRouter, Header, Query
from starlette.responses import StreamingResponse

from outlast.errors import InvalidInput, NotFound, OutlastError, Refused
from outlast.manager.hub import RESET, Batch
from outlast.manager.ports import COOKIE, Person
from outlast.manager.web.equipment import TITLES, stock_fragment
from outlast.manager.web.gate import View, page
from outlast.manager.web.hosts import hosts_fragment
from outlast.manager.web.incidents import incident_fragment
from outlast.manager.web.journal import (
    audit_fragment,
    failovers_fragment,
    recent_fragment,
    tasks_fragment,
    visible_tasks,
)
from outlast.manager.web.people import users_fragment
from outlast.manager.web.pools import head_fragment, host_parts, pool_fragments, rows_fragment
from outlast.manager.web.render import fragment, partial, vm_id
from outlast.manager.web.settings import settings_fragment
from outlast.manager.web.vms import moved_fragment, row_fragment, vm_parts

router = APIRouter()
GAUGE_S = 2.0
PING_S = 15.0
VMS_MAX = 500
Words = Annotated[list[str], Query(max_length=64)]
Text = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True, slots=True)
class Written:
    """A page by its address: of what is in the database, or of all pools."""

    action: str  # the right for it; "" = whoever is signed in
    kinds: frozenset[str]  # of the changes that it shows
    make: Callable[[View, Mapping[str, str]], Awaitable[dict[str, str]]]
    gauges: bool = False


HISTORY = ("failovers", "incident", "recent")
AUDIT = frozenset({"audit"})
WRITTEN = {
    "recent": Written("", frozenset({"events"}), recent_fragment),
    "failovers": Written("", frozenset({"events"}), failovers_fragment),
    "audit": Written("audit", AUDIT, audit_fragment),
    "users": Written("people", AUDIT, users_fragment),  # whatever changes users is in the audit
    "incident": Written("", frozenset({"events", "host"}), incident_fragment, gauges=True),
    "settings": Written("settings", AUDIT, settings_fragment, gauges=True),
    "hosts": Written("", frozenset({"pool", "host"}), hosts_fragment, gauges=True),
}


@dataclass(frozen=True, slots=True)
class Watch:
    """What a page shows. Things are (pool id, name)."""

    pools: bool = False
    pool: str = ""
    host: tuple[str, str] = ("", "")
    one: tuple[str, str] = ("", "")
    vms: frozenset[tuple[str, str]] = frozenset()
    list_: tuple[str, str] = ("", "")  # its address, and how its rows lie
    tasks: bool = False
    stock: tuple[str, str] = ("", "")  # pool id, and which of its pages
    page: tuple[str, str] = ("", "")  # one of WRITTEN, and the query of its address

    @property
    def gauges(self) -> bool:
        own = bool(self.page[0]) and WRITTEN[self.page[0]].gauges
        return own or bool(self.pool or self.host[1] or self.list_[1] or self.stock[1])

    def trembling(self) -> set[tuple[str, str, str]]:
        """What changes without anything having happened."""
        if not self.gauges:
            return set()
        if self.page[0]:
            return {("page", *self.page)}
        if self.list_[1]:
            return {("moved", *self.list_)}
        if self.stock[1]:
            return {("stock", *self.stock)}
        return {("gauges", self.pool or self.host[0], self.host[1])}

    def all(self) -> set[tuple[str, str, str]]:
        """Everything, as dirty things: (what, pool id, name)."""
        found = {("count", "", "")} | {("row", *vm) for vm in self.vms}
        found |= {("moved", *self.list_)} if self.list_[1] else set()
        found |= {("pools", "", "")} if self.pools else set()
        found |= {("pool", self.pool, "")} if self.pool else set()
        found |= {("host", *self.host)} if self.host[1] else set()
        found |= {("one", *self.one)} if self.one[1] else set()
        found |= {("stock", *self.stock)} if self.stock[1] else set()
        found |= {("page", *self.page)} if self.page[0] else set()
        return found | ({("tasks", "", "")} if self.tasks else set())

    def touched(self, batch: Batch) -> set[tuple[str, str, str]]:
        found: set[tuple[str, str, str]] = set()
        for change in batch.changes:
            pool_id, name, kind = change.pool_id, change.name, change.kind
            if kind == RESET:
                return self.all()
            if self.page[0] and kind in WRITTEN[self.page[0]].kinds:
                found.add(("page", *self.page))
            if kind == "task":
                found |= {("count", "", "")} | ({("tasks", "", "")} if self.tasks else set())
                found |= {
                    w for w in self.all() if w[0] in ("one", "host", "stock") and w[1] == pool_id
                }
            if self.pools and kind in ("pool", "host", "vm"):
                found.add(("pools", "", ""))
            if self.pool and pool_id == self.pool:
                found.add(("pool", pool_id, ""))
            if self.host[1] and pool_id == self.host[0]:
                found.add(("host", *self.host))
            mine = self.one == (pool_id, name) or (self.one[0] == pool_id and kind == "pool")
            if self.one[1] and mine:
                found.add(("one", *self.one))
            if (pool_id, name) in self.vms:
                found.add(("row", pool_id, name))
        return found


@router.get("/live")
async def live(
    view: Annotated[View, page()], pools: bool = False, pool: Text = "", host: Text = "",
    one: Text = "", vm: Words = [],  # noqa: B006
    tasks: bool = False, stock: Text = "",
    list_: Annotated[str, Query(alias="list", max_length=2000)] = "",
    order: Text = "", page: Annotated[str, Query(max_length=2000)] = "",
    after: Annotated[int, Query(ge=0, lt=1 << 62)] = 0,
    last_event_id: Annotated[str, Header(alias="Last-Event-ID", max_length=40)] = "",
) -> StreamingResponse:  # fmt: skip
    """Fragments of what the address names, for as long as the page is open."""
    watch = Watch(pools, pool, _pair(host), _pair(one), frozenset(_vms(vm)), (list_, order), tasks,
                  _pair(stock), _page(page))  # fmt: skip
    _check(view, watch)
    since = view.manager.reads.hub.last
    behind = bool(last_event_id) or after != since
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    source = stream(view, watch, since, behind=behind)
    return StreamingResponse(source, media_type="text/event-stream", headers=headers)


def _pair(text: str) -> tuple[str, str]:
    pool_id, _, name = text.partition("/")
    return pool_id, name


def _page(text: str) -> tuple[str, str]:
    """Raises InvalidInput."""
    what, _, query = text.partition("?")
    if what and what not in WRITTEN:
        raise InvalidInput(f"there is no live page {what[:40]!r}", hint="load the page again")
    return what, query


def _vms(words: list[str]) -> Iterator[tuple[str, str]]:
    found = (
        (pool_id, name)
        for pool_id, _, names in (word.partition(":") for word in words)
        for name in names.split(",") if name
    )  # fmt: skip
    return itertools.islice(found, VMS_MAX)


def _check(view: View, watch: Watch) -> None:
    """Raises Refused for what this person may not see."""
    scope = view.scope
    pools = {watch.pool, watch.host[0]} - {""}
    vms = {v for v in (*watch.vms, watch.one) if v[1]}
    if watch.page[0] and not _may(view, watch.page[0]):
        raise Refused(f"{view.who} may not see all of this", hint="load the page again")
    if watch.stock[1] and not (watch.stock[1] in TITLES and view.may("catalog", watch.stock[0])):
        raise Refused(f"{view.who} may not see all of this", hint="load the page again")
    if not all(map(scope.sees_pool, pools)) or not all(scope.sees_vm(*v) for v in vms):
        raise Refused(f"{view.who} may not see all of this", hint="load the page again")


def _may(view: View, what: str) -> bool:
    return not (action := WRITTEN[what].action) or view.may(action)


async def stream(view: View, watch: Watch, since: int, *, behind: bool) -> AsyncIterator[bytes]:
    """since: the change up to which the page, or what is sent first, is known to be."""
    hub, loop = view.manager.reads.hub, asyncio.get_running_loop()
    sent: dict[str, int] = {}
    batches = hub.batches(since)
    following = asyncio.ensure_future(anext(batches, None))
    step_s = GAUGE_S if watch.gauges else PING_S
    next_s, told_s = loop.time() + step_s, loop.time()
    yield b"retry: 1000\n: this is live\n\n"
    try:
        todo = watch.all() if behind else set()
        while True:
            if todo:
                fresh = await _anew(view)
                if fresh is None:
                    return
                text = await _message(fresh, sorted(todo), sent, hub.last)
                if text:
                    told_s = loop.time()
                    yield text
            await asyncio.wait([following], timeout=max(0.0, next_s - loop.time()))
            todo = set()
            if following.done():
                batch = following.result()
                if batch is None:
                    return
                todo = watch.touched(batch)
                if watch.page[0] in HISTORY:
                    for pool_id in {change.pool_id for change in batch.changes}:
                        view.room.catch_up(pool_id)
                following = asyncio.ensure_future(anext(batches, None))
            if loop.time() >= next_s:  # also when changes of other things never cease
                next_s = loop.time() + step_s
                todo |= watch.trembling()
            if loop.time() - told_s >= PING_S:
                told_s = loop.time()
                yield b": still here\n\n"
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await batches.aclose()  # type: ignore[attr-defined]


async def _anew(view: View) -> View | None:
    """The same look with the roles of now; None when it has ended."""
    people, caller = view.manager.people, view.caller
    if caller.person.token:
        token = view.request.headers.get("authorization", "").partition(" ")[2].strip()
        try:
            person: Person | None = await people.bearer(token, caller.address)
        except Refused:
            return None
    else:
        person = await people.session(view.request.cookies.get(COOKIE, ""))
    if person is None or person == caller.person:
        return view if person else None
    return replace(view, caller=replace(caller, person=person, scope=people.scope(person)))


async def _message(
    view: View, todo: list[tuple[str, str, str]], sent: dict[str, int], last: int
) -> bytes:
    """One event with every fragment that is not what was sent before; b"" when none is."""
    parts = []
    for thing in todo:
        made = await _written(view, thing) if thing[0] == "page" else _made(view, thing)
        for target, text in made.items():
            mark = hash(text)
            if sent.get(target) != mark:
                sent[target] = mark
                parts.append(partial(target, text))
    if not parts:
        return b""
    lines = "\n".join(f"data: {line}" for line in "\n".join(parts).split("\n"))
    return f"id: {last}\n{lines}\n\n".encode()


async def _written(view: View, thing: tuple[str, str, str]) -> dict[str, str]:
    """The same for what is in the database; nothing while that is away."""
    _, what, query = thing
    if not _may(view, what):
        return {}
    try:
        return await WRITTEN[what].make(view, dict(parse_qsl(query)))
    except OutlastError:
        return {}


def _made(view: View, thing: tuple[str, str, str]) -> dict[str, str]:
    """Fragments by the id of their element."""
    what, pool_id, name = thing
    if what == "count":
        return {"task-count": fragment("_task_count.html", open_tasks=_open(view))}
    if what == "tasks":
        return {"tasks": tasks_fragment(view)}
    if what == "moved":
        return moved_fragment(view, pool_id, name)
    if what == "stock":
        return stock_fragment(view, pool_id, name)
    if what == "pools":
        shown, last = ("pools", view.person.roles), view.manager.reads.hub.last
        return view.room.fragments(shown, last, lambda: {"pool-rows": rows_fragment(view)})
    try:
        if what == "row":
            return _row(view, pool_id, name)
        if what == "one":
            if not view.scope.sees_vm(pool_id, name):
                return {}
            parts = vm_parts(view, pool_id, name)
            return {"vm-head": fragment("_vm_head.html", view=view, **parts)}
        if not view.scope.sees_pool(pool_id):
            return {}
        if what == "pool" or not name:
            return _pool(view, pool_id, gauges=what == "gauges")
        parts = host_parts(view, view.manager.reads.pool(pool_id), name)
        return {"host-head": fragment("_host_head.html", view=view, **parts)}
    except NotFound as error:
        target = {"row": vm_id(pool_id, name), "one": "vm-head"}.get(what, "host-head")
        return {target: fragment("_gone.html", what=what, id=target, sentence=error.sentence)}


def _row(view: View, pool_id: str, name: str) -> dict[str, str]:
    if not view.scope.sees_vm(pool_id, name):
        raise NotFound(f"{name} is not shown to you any more")
    item, entry = view.manager.reads.vm(pool_id, name), view.manager.reads.pool(pool_id)
    return view.room.fragments(
        ("row", pool_id, name),
        (item.version, entry.name),
        lambda: {vm_id(pool_id, name): row_fragment(entry, item)},
    )


def _pool(view: View, pool_id: str, *, gauges: bool) -> dict[str, str]:
    entry = view.manager.reads.pool(pool_id)
    version = entry.version, entry.stale, view.manager.reads.asked_s(pool_id)
    shared = view.room.fragments(
        ("pool", pool_id), version, lambda: pool_fragments(view.room, entry)
    )
    return shared if gauges else shared | {"pool-head": head_fragment(view, entry)}


def _open(view: View) -> int:
    return sum(not task.done for task in visible_tasks(view))
