"""Audit, history, tasks, known pools, answered calls. Functions of an open connection.

Rules: the audit is only added to. Of two managers that end a task, one does (`end_task` says who).
Lists are newest first and paged by id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from outlast.manager.ports import Task
from outlast.manager.repository.schema import audit, calls, events, managers, pools, tasks
from outlast.wire.shapes import TimelineEntry


@dataclass(frozen=True, slots=True)
class AuditRow:
    wall_s: float
    who: str
    address: str
    action: str
    object: str
    ok: bool
    sentence: str
    before: str = ""
    after: str = ""
    id: int = 0


@dataclass(frozen=True, slots=True)
class EventRow:
    id: int
    pool_id: str
    wall_s: float
    host: str
    code: str
    vm: str
    sentence: str
    fields: dict[str, object]


# ---- audit


def add_audit(c: Connection, row: AuditRow) -> None:
    values = {name: getattr(row, name) for name in AuditRow.__slots__ if name != "id"}
    c.execute(insert(audit).values(**values))


def list_audit(
    c: Connection, *, who: str = "", action: str = "", object_: str = "", before_id: int = 0,
    limit: int = 50,
) -> tuple[list[AuditRow], int]:  # fmt: skip
    """At most `limit` rows, and how many there are in all."""
    wanted: list[ColumnElement[bool]] = []
    if who:
        wanted.append(audit.c.who == who)
    if action:
        wanted.append(audit.c.action == action)
    if object_:
        wanted.append(audit.c.object == object_)
    total = c.execute(select(func.count()).select_from(audit).where(*wanted)).scalar_one()
    if before_id:
        wanted.append(audit.c.id < before_id)
    names = [audit.c[name] for name in AuditRow.__slots__]
    rows = c.execute(select(*names).where(*wanted).order_by(audit.c.id.desc()).limit(limit))
    return [AuditRow(*row) for row in rows], total


# ---- history


def add_events(c: Connection, pool_id: str, entries: Iterable[TimelineEntry]) -> int:
    """Those that are not there yet; how many that were."""
    rows = [_event_values(pool_id, entry) for entry in entries]
    if not rows:
        return 0
    make = postgresql.insert if c.dialect.name == "postgresql" else sqlite.insert
    added = 0
    for start in range(0, len(rows), 500):
        wish = make(events).values(rows[start : start + 500])
        added += len(c.execute(wish.on_conflict_do_nothing().returning(events.c.id)).all())
    return added


def _event_values(pool_id: str, entry: TimelineEntry) -> dict[str, object]:
    note = entry.id or hashlib.sha256(entry.model_dump_json().encode()).hexdigest()[:32]
    return {
        "pool_id": pool_id, "note": note, "wall_s": entry.wall_s, "host": entry.host,
        "code": entry.code, "vm": str(entry.fields.get("vm") or ""), "sentence": entry.sentence,
        "fields": json.dumps(entry.fields),
    }  # fmt: skip


def newest_event_s(c: Connection, pool_id: str) -> float:
    """When the newest known event of a pool was; 0 = there is none."""
    newest = select(func.max(events.c.wall_s)).where(events.c.pool_id == pool_id)
    return float(c.execute(newest).scalar() or 0)


def list_events(
    c: Connection, *, pools_seen: Sequence[str] | None, pool_id: str = "", vm: str = "",
    host: str = "", code: str = "", before_id: int = 0, limit: int = 50,
) -> tuple[list[EventRow], int]:  # fmt: skip
    """pools_seen: ids of the pools that the asker sees; None = all."""
    wanted: list[ColumnElement[bool]] = []
    if pools_seen is not None:
        wanted.append(events.c.pool_id.in_(pools_seen))
    for column, value in (("pool_id", pool_id), ("vm", vm), ("host", host), ("code", code)):
        if value:
            wanted.append(events.c[column] == value)
    total = c.execute(select(func.count()).select_from(events).where(*wanted)).scalar_one()
    if before_id:
        wanted.append(events.c.id < before_id)
    rows = c.execute(select(events).where(*wanted).order_by(events.c.id.desc()).limit(limit))
    return [event_of(row) for row in rows], total


def events_after(c: Connection, after_id: int, limit: int) -> list[EventRow]:
    """Oldest first."""
    wanted = select(events).where(events.c.id > after_id).order_by(events.c.id).limit(limit)
    return [event_of(row) for row in c.execute(wanted)]


def events_since(
    c: Connection, pool_ids: Sequence[str], codes: Iterable[str], since_wall_s: float, *,
    vm: str = "", limit: int,
) -> list[EventRow]:  # fmt: skip
    """Those with one of these codes, newest first."""
    wanted = [events.c.pool_id.in_(pool_ids), events.c.wall_s >= since_wall_s,
              events.c.code.in_(sorted(codes))]  # fmt: skip
    if vm:
        wanted.append(events.c.vm == vm)
    rows = c.execute(select(events).where(*wanted).order_by(events.c.wall_s.desc()).limit(limit))
    return [event_of(row) for row in rows]


def newest_lines(c: Connection) -> dict[str, int]:
    """The newest id of the history and of the audit, by the kind of change that new ones are."""
    newest = c.execute(select(func.max(audit.c.id))).scalar()
    return {"events": newest_event_id(c), "audit": int(newest or 0)}


def newest_event_id(c: Connection) -> int:
    return int(c.execute(select(func.max(events.c.id))).scalar() or 0)


def oldest_event_id(c: Connection) -> int:
    """0 when there is none."""
    return int(c.execute(select(func.min(events.c.id))).scalar() or 0)


def forget_events(c: Connection, before_wall_s: float) -> int:
    return c.execute(delete(events).where(events.c.wall_s < before_wall_s)).rowcount


def event_of(row: Row[Any]) -> EventRow:
    return EventRow(
        row.id, row.pool_id, row.wall_s, row.host, row.code, row.vm, row.sentence,
        json.loads(row.fields),
    )  # fmt: skip


# ---- tasks


_TASK = (
    "id", "verb", "pool_id", "object", "who", "started_wall_s", "phase", "sentence", "done",
    "failed", "ended_wall_s", "hint",
)  # fmt: skip


def add_task(c: Connection, task: Task, manager: str, wish: dict[str, object]) -> None:
    values = {name: getattr(task, name) for name in _TASK}
    c.execute(insert(tasks).values(**values, manager=manager, wish=json.dumps(wish)))


def change_task(c: Connection, task: Task, wish: dict[str, object]) -> bool:
    """True when this call changed it; False when it was over already."""
    values = {name: getattr(task, name) for name in _TASK if name not in ("id", "started_wall_s")}
    wanted = update(tasks).where(tasks.c.id == task.id, tasks.c.done.is_(False))
    return c.execute(wanted.values(**values, wish=json.dumps(wish))).rowcount == 1


def fresh_tasks(
    c: Connection, ended_after_wall_s: float
) -> list[tuple[Task, str, dict[str, object]]]:
    """Open ones and those that ended later than that: task, manager that asks, wish."""
    wanted = select(tasks).where(
        tasks.c.done.is_(False) | (tasks.c.ended_wall_s > ended_after_wall_s)
    )
    found = []
    for row in c.execute(wanted.order_by(tasks.c.started_wall_s.desc())):
        plain = {name: row._mapping[name] for name in _TASK}
        task = Task(percent=100.0 if row.done and not row.failed else None, **plain)
        found.append((task, str(row.manager), json.loads(row.wish)))
    return found


def forget_tasks(c: Connection, ended_before_wall_s: float) -> int:
    old = tasks.c.done.is_(True) & (tasks.c.ended_wall_s < ended_before_wall_s)
    return c.execute(delete(tasks).where(old)).rowcount


# ---- pools


def put_pool(c: Connection, pool_id: str, name: str, agents: Sequence[str], wall_s: float) -> None:
    c.execute(delete(pools).where(pools.c.id == pool_id))
    row = {"id": pool_id, "name": name, "agents": json.dumps(list(agents))}
    c.execute(insert(pools).values(added_wall_s=wall_s, **row))


def remove_pool(c: Connection, pool_id: str) -> bool:
    return c.execute(delete(pools).where(pools.c.id == pool_id)).rowcount == 1


def all_pools(c: Connection) -> list[tuple[str, str, tuple[str, ...]]]:
    """(id, name, addresses), by name."""
    rows = c.execute(select(pools).order_by(pools.c.name, pools.c.id))
    return [(row.id, row.name, tuple(json.loads(row.agents))) for row in rows]


# ---- calls with a key


def begin_call(
    c: Connection, who: str, key: str, request: str, wall_s: float
) -> tuple[str, int, str] | None:
    """None: the call is new, and noted. Else the noted call: request, status, body."""
    row = {"who": who, "key": key, "request": request, "wall_s": wall_s}
    try:
        with c.begin_nested():
            c.execute(insert(calls).values(status=0, body="", **row))
        return None
    except IntegrityError:
        wanted = select(calls).where(calls.c.who == who, calls.c.key == key)
        found = c.execute(wanted).one()
        return found.request, found.status, found.body


def end_call(c: Connection, who: str, key: str, status: int, body: str) -> None:
    """status 0 forgets the call, so that it may be made again."""
    same = (calls.c.who == who) & (calls.c.key == key)
    if status == 0:
        c.execute(delete(calls).where(same))
    else:
        c.execute(update(calls).where(same).values(status=status, body=body))


def forget_calls(c: Connection, before_wall_s: float) -> int:
    return c.execute(delete(calls).where(calls.c.wall_s < before_wall_s)).rowcount


# ---- managers


def saw_manager(c: Connection, manager: str, address: str, wall_s: float) -> None:
    done = c.execute(update(managers).where(managers.c.id == manager).values(seen_wall_s=wall_s))
    if done.rowcount == 0:
        row = {"id": manager, "address": address, "seen_wall_s": wall_s}
        c.execute(insert(managers).values(**row))


def all_managers(c: Connection) -> dict[str, tuple[str, float]]:
    """id -> (address, when it was seen last)."""
    return {row.id: (row.address, row.seen_wall_s) for row in c.execute(select(managers))}


def forget_manager(c: Connection, manager: str) -> None:
    c.execute(delete(managers).where(managers.c.id == manager))


def forget_managers(c: Connection, before_wall_s: float) -> int:
    return c.execute(delete(managers).where(managers.c.seen_wall_s < before_wall_s)).rowcount
