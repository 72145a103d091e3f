"""What happened and what is on its way: failovers and events, tasks, the audit.

Rules:
1. The history is the manager's own copy of the pools' journals: it answers while a pool does not.
2. Events that belong to one failure are told together (stories.py), and each step leads to its
   moment (moments.py).
"""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from outlast.manager.api.answers import pack, unpack_id
from outlast.manager.api.tasks import sees_task
from outlast.manager.ports import Task
from outlast.manager.repository import records
from outlast.manager.tones import tone
from outlast.manager.web.gate import View, page
from outlast.manager.web.render import TEMPLATES, drawn, fragment
from outlast.manager.web.render import page as whole
from outlast.manager.web.stories import lanes_of, stories
from outlast.manager.web.wishes import words

router = APIRouter()
Text = Annotated[str, Query(max_length=200)]
SPANS_S = {"15m": 900, "1h": 3600, "6h": 21600, "1d": 86400, "7d": 604800}
READ_MAX = 500


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
        now_s = time.time()
        picture = drawn(lanes_of(shown.id, names, mine, now_s - length, now_s))
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
