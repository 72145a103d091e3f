"""What happened and what is on its way: failovers and events, tasks, the audit.

Rules:
1. The history is the manager's own copy of the pools' journals: it answers while a pool does not.
2. Events that belong to one failure are told together (stories.py), and each step leads to its
   moment (moments.py).
3. The newest page of each is live; older ones do not change, but for what is forgotten.
"""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response
from sqlalchemy import Connection

from outlast.manager.api.paging import Newest
from outlast.manager.api.tasks import sees_task
from outlast.manager.ports import Task
from outlast.manager.repository import records
from outlast.manager.repository.records import EventRow
from outlast.manager.tones import tone
from outlast.manager.web.gate import View, page
from outlast.manager.web.remaining import left_words
from outlast.manager.web.render import TEMPLATES, drawn, fragment
from outlast.manager.web.render import page as whole
from outlast.manager.web.stories import DEATHS, FAILED, OUT_DAYS, lanes_of, stories
from outlast.manager.web.verbs import words

router = APIRouter()
Text = Annotated[str, Query(max_length=200)]
Cursor = Annotated[str, Query(max_length=2000)]
SPANS_S = {"15m": 900, "1h": 3600, "6h": 21600, "1d": 86400, "7d": 604800}
KINDS = {
    "a host was out": DEATHS, "a VM was started again": ("vm-starts",),
    "a VM had no place": ("no-room", "start-failed", "held-down"),
    "a link or the storage failed": ("link-down", "storage-sick", "beats-lost", "cut-off-stays"),
    "it was planned": ("maintenance", "move-begins", "balancing", "drill-begins"),
}  # fmt: skip
READ_MAX, LINES = 500, 50
RECENT_S, RECENT_MAX = 86400, 8
EXPORT_MAX = 20_000
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@router.get("/failovers")
async def failovers(
    view: Annotated[View, page()], pool: Text = "", host: Text = "", vm: Text = "",
    span: Text = "1h", kind: Text = "", cursor: Cursor = "",
) -> Response:  # fmt: skip
    """What happened: drawn along time for one pool, and step by step for all."""
    looked = {"pool": pool, "host": host, "vm": vm, "span": span, "kind": kind}
    values = await _happened(view, looked, cursor)
    return whole(view, "failovers.html", live=_live("failovers", looked, cursor), **values)


async def failovers_fragment(view: View, looked: Mapping[str, str]) -> dict[str, str]:
    values = await _happened(view, looked)
    return {"failovers": fragment("_failovers.html", view=view, **values)}


async def _happened(view: View, looked: Mapping[str, str], cursor: str = "") -> dict[str, Any]:
    reads, scope = view.manager.reads, view.scope
    pool, host, vm, span = (looked.get(name, "") for name in ("pool", "host", "vm", "span"))
    known = [e for e in reads.pools() if scope.touches(e.id)]
    entry = next((e for e in known if pool in (e.id, e.name)), None)
    seen = None if scope.everything else sorted(scope.pools)
    if entry is not None and vm and scope.sees_vm(entry.id, vm):
        seen = [entry.id]
    how = Newest(READ_MAX, cursor)
    before = how.before_id
    rows, total = await view.manager.repository.read(
        lambda c: records.list_events(
            c, pools_seen=seen, pool_id=entry.id if entry else "", vm=vm, host=host,
            before_id=before, limit=how.ask,
        )
    )  # fmt: skip
    more, rows = how.more(rows), rows[:READ_MAX]
    shown = entry if entry is not None else (known[0] if len(known) == 1 else None)
    length = SPANS_S.get(span, 3600)
    picture = None
    if shown is not None and scope.sees_pool(shown.id):
        names = [h.name for h in shown.status.hosts]
        mine = [r for r in rows if r.pool_id == shown.id]
        now_s = time.time()
        picture = drawn(lanes_of(shown.id, names, mine, now_s - length, now_s))
    kind = looked.get("kind", "")
    told = [s for s in stories(rows) if kind not in KINDS or s.has(KINDS[kind])]
    return {
        "kind": kind, "kinds": KINDS, "stories": told,
        "first": next((s for s in told if len(s.events) > 1), None),
        "total": total, "known": known, "entry": entry, "drawn": shown,
        "picture": picture, "span": span if span in SPANS_S else "1h", "spans": tuple(SPANS_S),
        "host": host, "vm": vm, "more": more, "tone": tone,
        "names": {e.id: e.name for e in known},
    }  # fmt: skip


# ---- for the overview


async def recent(view: View) -> dict[str, Any]:
    """The stories of the last day in pools that the viewer sees as a whole, newest first.

    The room learns by the way when a host failed last in each pool: the rows of the overview say.
    """
    pools = [e.id for e in view.manager.reads.pools()]
    known = [e for e in view.manager.reads.pools() if view.scope.sees_pool(e.id)]
    seen, now_s = [e.id for e in known], time.time()

    def read(c: Connection) -> tuple[list[EventRow], dict[str, EventRow]]:
        rows, _ = records.list_events(c, pools_seen=seen, limit=READ_MAX)
        back_s = now_s - OUT_DAYS * 86400
        last = {id_: records.events_since(c, [id_], FAILED, back_s, limit=1) for id_ in pools}
        return rows, {id_: found[0] for id_, found in last.items() if found}

    rows, view.room.failed = await view.manager.repository.read(read)
    since_s = now_s - RECENT_S
    told = stories([r for r in rows if r.wall_s >= since_s])
    return {"recent": told[:RECENT_MAX], "names": {e.id: e.name for e in known}}


async def recent_fragment(view: View, looked: Mapping[str, str]) -> dict[str, str]:
    return {"recent": fragment("_recent.html", **(await recent(view)))}


# ---- tasks


def visible_tasks(view: View) -> list[Task]:
    return [t for t in view.manager.acts.tasks() if sees_task(view.caller, t)]


@router.get("/tasks")
async def list_tasks(view: Annotated[View, page()]) -> Response:
    """Wishes on their way, and those that ended within the last hour."""
    return whole(view, "tasks.html", live="tasks=1", tasks=visible_tasks(view)[:200])


def tasks_fragment(view: View) -> str:
    return fragment("_tasks.html", view=view, tasks=visible_tasks(view)[:200])


# ---- the audit


@router.get("/audit")
async def audit(
    view: Annotated[View, page("audit")], who: Text = "", action: Text = "", object: Text = "",
    cursor: Cursor = "",
) -> Response:  # fmt: skip
    """Who did what, newest first. Lines are only ever added."""
    looked = {"who": who, "action": action, "object": object}
    values = await _done(view, looked, cursor)
    return whole(view, "audit.html", live=_live("audit", looked, cursor), **values)


@router.get("/audit/export")
async def audit_export(
    view: Annotated[View, page("audit")], who: Text = "", action: Text = "", object: Text = "",
) -> Response:  # fmt: skip
    """The newest lines that fit, as CSV; all there is, up to EXPORT_MAX."""
    rows, _ = await view.manager.repository.read(
        lambda c: records.list_audit(c, who=who, action=action, object_=object, limit=EXPORT_MAX)
    )
    text = await asyncio.to_thread(_csv, rows)
    headers = {"Content-Disposition": 'attachment; filename="audit.csv"',
               "Cache-Control": "no-store"}  # fmt: skip
    return Response(text, 200, headers, "text/csv; charset=utf-8")


def _csv(rows: Sequence[records.AuditRow]) -> str:
    """Cells that a spreadsheet would take for a formula begin with an apostrophe."""
    out = io.StringIO()
    lines = csv.writer(out)
    names = records.AuditRow.__slots__
    lines.writerow(["at", *names])
    for row in rows:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.wall_s))
        cells = [at, *(getattr(row, name) for name in names)]
        lines.writerow([f"'{c}" if str(c)[:1] in FORMULA else c for c in cells])
    return out.getvalue()


async def audit_fragment(view: View, looked: Mapping[str, str]) -> dict[str, str]:
    return {"audit": fragment("_audit.html", view=view, **(await _done(view, looked)))}


async def _done(view: View, looked: Mapping[str, str], cursor: str = "") -> dict[str, Any]:
    who, action, object_ = (looked.get(name, "") for name in ("who", "action", "object"))
    asked = {name: value for name, value in looked.items() if value}
    how = Newest(LINES, cursor)
    before = how.before_id
    rows, total = await view.manager.repository.read(
        lambda c: records.list_audit(
            c, who=who, action=action, object_=object_, before_id=before, limit=how.ask
        )
    )
    return {
        "who": who, "action": action, "object": object_, "rows": rows[:LINES], "total": total,
        "export": "/audit/export" + (f"?{urlencode(asked)}" if asked else ""),
        "more": how.more(rows), "names": {e.id: e.name for e in view.manager.reads.pools()},
    }  # fmt: skip


def _live(what: str, looked: Mapping[str, str], cursor: str) -> str:
    """Rule 3."""
    return "" if cursor else urlencode({"page": f"{what}?{urlencode(looked)}"})


def about(object_: str, names: dict[str, str]) -> str:
    """The object of an audit line with its pool's name for the id."""
    pool_id, slash, name = object_.partition("/")
    return names.get(pool_id, pool_id) + slash + name


def left(task: Task) -> str:
    return left_words(task.percent, time.time() - task.started_wall_s)


TEMPLATES.globals |= {"tone_of": tone, "about": about, "task_words": words, "task_left": left}
