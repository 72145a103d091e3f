"""Webhooks and their deliveries in the database. Functions of an open connection.

Rules: an event is handed to a webhook once (`deliveries_once`); a delivery that is due belongs to
whoever claims it, for CLAIM_S. What a webhook signs with is readable here, as it has to be used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from outlast.errors import NotFound
from outlast.manager.repository import records
from outlast.manager.repository.schema import deliveries, events, pools, webhooks

CLAIM_S = 60.0
STEP = 500


@dataclass(frozen=True, slots=True)
class Hook:
    id: str
    url: str
    secret: str
    codes: tuple[str, ...]  # beginnings of codes; empty = every event
    after_id: int  # the newest event that was handed over
    created_wall_s: float

    def wants(self, code: str) -> bool:
        return not self.codes or code.startswith(self.codes)


@dataclass(frozen=True, slots=True)
class Delivery:
    id: int
    webhook: str
    event_id: int
    tries: int
    next_wall_s: float  # 0 = it is over
    status: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that was claimed, with all that is needed to make it."""

    delivery: Delivery
    url: str
    secret: str
    body: str


def add_hook(c: Connection, hook: Hook) -> None:
    """It gets what happens from now on."""
    row = {"id": hook.id, "url": hook.url, "secret": hook.secret, "codes": ",".join(hook.codes)}
    newest = records.newest_event_id(c)
    c.execute(insert(webhooks).values(after_id=newest, created_wall_s=hook.created_wall_s, **row))


def remove_hook(c: Connection, hook_id: str) -> None:
    """Raises NotFound."""
    if c.execute(delete(webhooks).where(webhooks.c.id == hook_id)).rowcount == 0:
        raise NotFound(f"there is no webhook '{hook_id[:80]}'")
    c.execute(delete(deliveries).where(deliveries.c.webhook == hook_id))


def all_hooks(c: Connection) -> list[Hook]:
    rows = c.execute(select(webhooks).order_by(webhooks.c.created_wall_s, webhooks.c.id))
    return [
        Hook(
            row.id, row.url, row.secret, tuple(filter(None, row.codes.split(","))), row.after_id,
            row.created_wall_s,
        )
        for row in rows
    ]  # fmt: skip


def hand_over(c: Connection, wall_s: float) -> int:
    """New events become deliveries; how many."""
    made = 0
    make = postgresql.insert if c.dialect.name == "postgresql" else sqlite.insert
    for hook in all_hooks(c):
        found = records.events_after(c, hook.after_id, STEP)
        rows = [
            {"webhook": hook.id, "event_id": event.id, "tries": 0, "next_wall_s": wall_s,
             "status": 0, "sentence": ""}
            for event in found if hook.wants(event.code)
        ]  # fmt: skip
        if rows:
            c.execute(make(deliveries).values(rows).on_conflict_do_nothing())
        if found:
            last = found[-1].id
            c.execute(update(webhooks).where(webhooks.c.id == hook.id).values(after_id=last))
        made += len(rows)
    return made


def claim(c: Connection, wall_s: float, limit: int) -> list[Due]:
    """Deliveries that are due; nobody else gets them for CLAIM_S."""
    wanted = (
        select(deliveries, webhooks.c.url, webhooks.c.secret)
        .join(webhooks, webhooks.c.id == deliveries.c.webhook)
        .where(deliveries.c.next_wall_s > 0, deliveries.c.next_wall_s <= wall_s)
        .order_by(deliveries.c.next_wall_s, deliveries.c.id)
        .limit(limit)
    )
    if c.dialect.name == "postgresql":
        wanted = wanted.with_for_update(of=deliveries, skip_locked=True)
    found = []
    for row in c.execute(wanted).all():
        one = Delivery(row.id, row.webhook, row.event_id, row.tries + 1, 0, 0, "")
        body = _body(c, row.event_id)
        if body is None:  # the event was forgotten meanwhile
            end(c, one.id, 0, 0, "the event is too old and was forgotten")
            continue
        same = deliveries.c.id == one.id
        c.execute(
            update(deliveries).where(same).values(tries=one.tries, next_wall_s=wall_s + CLAIM_S)
        )
        found.append(Due(one, row.url, row.secret, body))
    return found


def end(c: Connection, delivery_id: int, next_wall_s: float, status: int, sentence: str) -> None:
    """How a try went; next_wall_s: 0 = it is over."""
    values = {"next_wall_s": next_wall_s, "status": status, "sentence": sentence[:500]}
    c.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(**values))


def list_deliveries(
    c: Connection, hook_id: str, before_id: int, limit: int
) -> tuple[list[Delivery], int]:
    """Newest first, and how many there are."""
    mine = deliveries.c.webhook == hook_id
    total = c.execute(select(func.count()).select_from(deliveries).where(mine)).scalar_one()
    wanted = select(deliveries).where(mine).order_by(deliveries.c.id.desc()).limit(limit)
    if before_id:
        wanted = wanted.where(deliveries.c.id < before_id)
    return [Delivery(*row) for row in c.execute(wanted)], total


def forget(c: Connection, before_event_id: int) -> int:
    """Deliveries that are over, of events older than that."""
    old = (deliveries.c.next_wall_s == 0) & (deliveries.c.event_id < before_event_id)
    return c.execute(delete(deliveries).where(old)).rowcount


def _body(c: Connection, event_id: int) -> str | None:
    wanted = select(events, pools.c.name.label("pool")).outerjoin(
        pools, pools.c.id == events.c.pool_id
    )
    row = c.execute(wanted.where(events.c.id == event_id)).one_or_none()
    if row is None:
        return None
    return json.dumps(
        {"id": row.id, "pool_id": row.pool_id, "pool": row.pool or "",
         "wall_s": row.wall_s, "host": row.host, "code": row.code, "vm": row.vm,
         "sentence": row.sentence, "fields": json.loads(row.fields)}
    )  # fmt: skip
