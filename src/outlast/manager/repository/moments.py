"""What was seen at each moment of the pools' histories. Functions of an open connection.

Rules:
1. Evidence is kept beside the events that have all of it, packed, so that lists of events stay
   light. It goes with its event; of more than KEPT_MAX the oldest go first.
2. A pool's moments are in the order of their times, whichever came here first.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, insert, select, tuple_

from outlast.manager.repository import records
from outlast.manager.repository.records import EventRow, event_of
from outlast.manager.repository.schema import events, moments
from outlast.wire.shapes import TimelineEntry

KEPT_MAX = 20_000
ADDED_MAX = 500  # with one statement
LOOK_BACK_S = 3600.0  # an older picture says nothing about a moment


@dataclass(frozen=True, slots=True)
class Seen:
    """What the host of `event` saw as it wrote it."""

    event: EventRow
    evidence: Mapping[str, object]


def add_events(c: Connection, pool_id: str, entries: Sequence[TimelineEntry]) -> int:
    """Notes with their evidence; how many were new. Again changes nothing."""
    added = records.add_events(c, pool_id, entries)
    if added:
        _keep_seen(c, pool_id, entries)
    return added


def _keep_seen(c: Connection, pool_id: str, entries: Sequence[TimelineEntry]) -> None:
    packed = {
        e.id: zlib.compress(json.dumps(e.evidence).encode())
        for e in entries if e.id and e.evidence.get("blocks")
    }  # fmt: skip
    names = sorted(packed)
    for start in range(0, len(names), ADDED_MAX):
        found = select(events.c.id, events.c.note).where(
            events.c.pool_id == pool_id, events.c.note.in_(names[start : start + ADDED_MAX]),
            events.c.id.not_in(select(moments.c.event_id)),
        )  # fmt: skip
        rows = [{"event_id": row.id, "evidence": packed[row.note]} for row in c.execute(found)]
        if rows:
            c.execute(insert(moments), rows)


def one(c: Connection, pool_id: str, event_id: int) -> EventRow | None:
    wanted = select(events).where(events.c.pool_id == pool_id, events.c.id == event_id)
    row = c.execute(wanted).one_or_none()
    return event_of(row) if row else None


def around(c: Connection, row: EventRow, count: int) -> list[EventRow]:
    """At most `count` moments before it and after it, with itself; oldest first."""
    at = tuple_(events.c.wall_s, events.c.id)
    here = tuple_(row.wall_s, row.id)
    mine = select(events).where(events.c.pool_id == row.pool_id).limit(count)
    before = c.execute(
        mine.where(at < here).order_by(events.c.wall_s.desc(), events.c.id.desc())
    ).all()
    after = c.execute(mine.where(at > here).order_by(events.c.wall_s, events.c.id)).all()
    return [*map(event_of, reversed(before)), row, *map(event_of, after)]


def seen_at(c: Connection, row: EventRow) -> Seen | None:
    """The newest that was seen at this moment or before it."""
    wanted: list[ColumnElement[bool]] = [
        events.c.pool_id == row.pool_id, events.c.wall_s >= row.wall_s - LOOK_BACK_S,
        tuple_(events.c.wall_s, events.c.id) <= tuple_(row.wall_s, row.id),
    ]  # fmt: skip
    joined = select(events, moments.c.evidence).join(moments, moments.c.event_id == events.c.id)
    newest = joined.where(*wanted).order_by(events.c.wall_s.desc(), events.c.id.desc()).limit(1)
    found = c.execute(newest).one_or_none()
    return Seen(event_of(found), json.loads(zlib.decompress(found.evidence))) if found else None


def evidence_of(c: Connection, event_ids: Sequence[int]) -> dict[int, Mapping[str, object]]:
    """What was seen at those of these events that have something."""
    found: dict[int, Mapping[str, object]] = {}
    for start in range(0, len(event_ids), ADDED_MAX):
        some = event_ids[start : start + ADDED_MAX]
        wanted = select(moments.c.event_id, moments.c.evidence)
        for row in c.execute(wanted.where(moments.c.event_id.in_(some))):
            found[row.event_id] = json.loads(zlib.decompress(row.evidence))
    return found


def forget(c: Connection, before_event_id: int) -> None:
    """Of events older than that, and the oldest of too many."""
    kept = select(moments.c.event_id).order_by(moments.c.event_id.desc()).offset(KEPT_MAX).limit(1)
    last = c.execute(kept).scalar() or 0
    old = (moments.c.event_id < before_event_id) | (moments.c.event_id <= last)
    c.execute(delete(moments).where(old))
