"""What happened and what is on its way: failovers and events, tasks, the audit.

Rules:
1. The history is the manager's own copy of the pools' journals: it answers while a pool does not.
2. Events that belong to one failure are told together, with the verdict first, then the picture,
   then each step. What caused what is the pool's own word; nothing is guessed from times but which
   steps stand together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from outlast.manager.api.answers import pack, unpack_id
from outlast.manager.api.tasks import sees_task
from outlast.manager.ports import Task
from outlast.manager.repository import records
from outlast.manager.repository.records import EventRow
from outlast.manager.tones import tone
from outlast.manager.web.gate import View, page
from outlast.manager.web.pictures.lanes import Mark, Span, lanes
from outlast.manager.web.render import TEMPLATES, drawn, fragment, host_path
from outlast.manager.web.render import page as whole
from outlast.manager.web.wishes import words

router = APIRouter()
Text = Annotated[str, Query(max_length=200)]
SPANS_S = {"15m": 900, "1h": 3600, "6h": 21600, "1d": 86400, "7d": 604800}
READ_MAX = 500
QUIET = ("lease-taken", "lease-freed", "order-given")  # not drawn: others say the same
DOWN = {"host-silent", "host-off", "not-member", "host-leaves", "storage-sick"}
UP = {"member", "in-service"}


@dataclass(frozen=True, slots=True)
class Story:
    """Events close to each other in one pool, the newest first."""

    pool_id: str
    events: tuple[EventRow, ...]

    @property
    def tone(self) -> str:
        found = {tone(e.code) for e in self.events}
        return next((t for t in ("bad", "warn", "ok") if t in found), "info")

    @property
    def title(self) -> str:
        """The first of the worst: what began it."""
        worst = [e for e in self.events if tone(e.code) == self.tone]
        return worst[-1].sentence

    @property
    def verdict(self) -> str:
        """What came of it for VMs, in numbers."""
        began = {e.vm for e in self.events if e.code in ("vm-starts", "vm-crashed", "no-room")}
        runs = {e.vm for e in self.events if e.code in ("vm-runs", "vm-moved")}
        said = []
        if runs:
            said.append(f"{len(runs)} VM{'s' * (len(runs) > 1)} came up")
        if left := began - runs:
            said.append(f"{len(left)} did not yet: {', '.join(sorted(left)[:4])}")
        seconds = self.events[0].wall_s - self.events[-1].wall_s
        return ("; ".join(said) + f"; {seconds:.1f} s from first to last") if said else ""


GAP_S = 30.0


def stories(rows: Sequence[EventRow]) -> list[Story]:
    """Newest first; rows of one pool within GAP_S of each other stand together."""
    open_: dict[str, list[EventRow]] = {}
    made: list[Story] = []
    for row in sorted(rows, key=lambda r: (-r.wall_s, -r.id)):
        kept = open_.get(row.pool_id)
        if kept and kept[-1].wall_s - row.wall_s > GAP_S:
            made.append(Story(row.pool_id, tuple(kept)))
            kept = None
        if kept is None:
            open_[row.pool_id] = kept = []
        kept.append(row)
    made += [Story(pool_id, tuple(kept)) for pool_id, kept in open_.items()]
    return sorted(made, key=lambda s: -s.events[0].wall_s)


@router.get("/failovers")
async def failovers(
    view: Annotated[View, page()], pool: Text = "", host: Text = "", vm: Text = "",
    span: Text = "1h", cursor: Annotated[str, Query(max_length=2000)] = "",
) -> Response:  # fmt: skip
    """What happened: drawn along time for one pool, and step by step for all."""
    reads, scope = view.manager.reads, view.scope
    known = [e for e in reads.pools() if scope.touches(e.id)]
    entry = next((e for e in known if pool in (e.id, e.name)), None)
    seen = None if scope.everything else sorted(scope.pools)
    if entry is not None and vm and scope.sees_vm(entry.id, vm):
        seen = [entry.id]
    rows, total = await view.manager.repository.read(
        lambda c: records.list_events(
            c, pools_seen=seen, pool_id=entry.id if entry else "", vm=vm, host=host,
            before_id=unpack_id(cursor), limit=READ_MAX,
        )
    )  # fmt: skip
    shown = entry if entry is not None else (known[0] if len(known) == 1 else None)
    length = SPANS_S.get(span, 3600)
    picture = None
    if shown is not None and scope.sees_pool(shown.id):
        names = [h.name for h in shown.status.hosts]
        mine = [r for r in rows if r.pool_id == shown.id]
        picture = drawn(draw(shown.id, names, mine, length))
    more = pack([rows[-1].id]) if len(rows) == READ_MAX else ""
    told = stories(rows)
    values: dict[str, Any] = {
        "stories": told, "first": next((s for s in told if len(s.events) > 1), None),
        "total": total, "known": known, "entry": entry, "drawn": shown,
        "picture": picture, "span": span if span in SPANS_S else "1h", "spans": tuple(SPANS_S),
        "host": host, "vm": vm, "more": more, "tone": tone,
        "names": {e.id: e.name for e in known},
    }  # fmt: skip
    return whole(view, "failovers.html", **values)


def draw(pool_id: str, names: Sequence[str], rows: Sequence[EventRow], length_s: float) -> str:
    now_s = time.time()
    shown = [r for r in rows if r.wall_s > now_s - length_s]
    marks = [
        Mark(
            _lane(r, names), r.wall_s, tone(r.code), r.sentence, host_path(pool_id, _lane(r, names))
        )
        for r in shown
        if r.code not in QUIET
    ]
    return lanes(names, marks, _spans(names, rows, now_s), now_s - length_s, now_s)


def _lane(row: EventRow, names: Sequence[str]) -> str:
    """The host that an event is about; the one that wrote it when it is about none."""
    about = str(row.fields.get("host") or "")
    return about if about in names else row.host


def _spans(names: Sequence[str], rows: Sequence[EventRow], now_s: float) -> list[Span]:
    """When a host was out: from the first word that it is gone until it is back."""
    out: dict[str, float] = {}
    found = []
    for row in sorted(rows, key=lambda r: r.wall_s):
        name = _lane(row, names)
        if row.code in DOWN:
            out.setdefault(name, row.wall_s)
        elif row.code in UP and name in out:
            found.append(Span(name, out.pop(name), row.wall_s, "bad", f"{name} was out"))
    return found + [Span(n, since, now_s, "bad", f"{n} is out") for n, since in out.items()]


# ---- tasks


def visible_tasks(view: View) -> list[Task]:
    return [t for t in view.manager.acts.tasks() if sees_task(view.caller, t)]


@router.get("/tasks")
async def list_tasks(view: Annotated[View, page()]) -> Response:
    """Wishes on their way, and those that ended within the last hour."""
    return whole(view, "tasks.html", live="tasks=1", tasks=visible_tasks(view)[:200])


def tasks_fragment(view: View) -> str:
    return fragment("_tasks.html", tasks=visible_tasks(view)[:200])


# ---- the audit


@router.get("/audit")
async def audit(
    view: Annotated[View, page("audit")], who: Text = "", action: Text = "", object: Text = "",
    cursor: Annotated[str, Query(max_length=2000)] = "",
) -> Response:  # fmt: skip
    """Who did what, newest first. Lines are only ever added."""
    limit = 50
    rows, total = await view.manager.repository.read(
        lambda c: records.list_audit(
            c, who=who, action=action, object_=object, before_id=unpack_id(cursor), limit=limit + 1
        )
    )
    more = pack([rows[limit - 1].id]) if len(rows) > limit else ""
    names = {e.id: e.name for e in view.manager.reads.pools()}
    values: dict[str, Any] = {"who": who, "action": action, "object": object, "names": names}
    return whole(view, "audit.html", rows=rows[:limit], total=total, more=more, **values)


def about(object_: str, names: dict[str, str]) -> str:
    """The object of an audit line with its pool's name for the id."""
    pool_id, slash, name = object_.partition("/")
    return names.get(pool_id, pool_id) + slash + name


TEMPLATES.globals |= {"tone_of": tone, "about": about, "task_words": words}
