"""Webhooks and their deliveries in the database. Functions of an open connection.

Rules: an event is handed to a webhook once (`deliveries_once`); a delivery that is due belongs to
whoever claims it, for CLAIM_S. Of one that is gathered, whatever was not tried yet goes along with
what is due. What a webhook signs with is readable here, as it has to be used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from outlast.errors import NotFound
from outlast.manager.repository import records
from outlast.manager.repository.schema import deliveries, events, pools, webhooks

CLAIM_S = 60.0
STEP = 500
GATHERED_MAX = 1000  # events of one message


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
class Part:
    """A delivery that was claimed, and the event as it is told."""

    delivery: Delivery
    body: str  # JSON


@dataclass(frozen=True, slots=True)
class Due:
    """What goes out at once, with all that is needed for it: one event, or several gathered."""

    webhook: str
    url: str
    secret: str
    parts: tuple[Part, ...]


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


def hand_over(c: Connection, due_wall_s: Callable[[Hook, str], float]) -> int:
    """New events become deliveries, due when `due_wall_s` says so of a code; how many."""
    made = 0
    make = postgresql.insert if c.dialect.name == "postgresql" else sqlite.insert
    for hook in all_hooks(c):
        found = records.events_after(c, hook.after_id, STEP)
        rows = [
            {"webhook": hook.id, "event_id": event.id, "tries": 0, "status": 0, "sentence": "",
             "next_wall_s": due_wall_s(hook, event.code)}
            for event in found if hook.wants(event.code)
        ]  # fmt: skip
        if rows:
            c.execute(make(deliveries).values(rows).on_conflict_do_nothing())
        if found:
            last = found[-1].id
            c.execute(update(webhooks).where(webhooks.c.id == hook.id).values(after_id=last))
        made += len(rows)
    return made


def claim(
    c: Connection, wall_s: float, limit: int, *, gathered: Collection[str] = (),
    resting: Collection[str] = (),
) -> list[Due]:  # fmt: skip
    """What is due; nobody else gets it for CLAIM_S.

    gathered: webhooks whose events go out together; resting: those of them that wait for now.
    """
    open_ = deliveries.c.next_wall_s > 0
    is_due = open_ & (deliveries.c.next_wall_s <= wall_s)
    one_by_one = is_due & deliveries.c.webhook.not_in(gathered)
    due = [
        Due(row.webhook, row.url, row.secret, (part,))
        for row, part in _claimed(c, _with_event().where(one_by_one).limit(limit), wall_s)
    ]
    wanted = select(deliveries.c.webhook).where(is_due, deliveries.c.webhook.in_(gathered))
    for hook in sorted(set(c.execute(wanted).scalars()) - set(resting)):
        along = (deliveries.c.webhook == hook) & open_ & (is_due | (deliveries.c.tries == 0))
        rows = _claimed(c, _with_event().where(along).limit(GATHERED_MAX), wall_s)
        if rows:
            first = rows[0][0]
            due.append(Due(hook, first.url, first.secret, tuple(part for _, part in rows)))
    return due


def _with_event() -> Select[Any]:
    return (
        select(
            deliveries, webhooks.c.url, webhooks.c.secret, pools.c.name.label("pool"),
            events.c.id.label("known"), events.c.pool_id, events.c.wall_s, events.c.host,
            events.c.code, events.c.vm, events.c.sentence.label("said"), events.c.fields,
        )
        .join(webhooks, webhooks.c.id == deliveries.c.webhook)
        .outerjoin(events, events.c.id == deliveries.c.event_id)
        .outerjoin(pools, pools.c.id == events.c.pool_id)
        .order_by(deliveries.c.next_wall_s, deliveries.c.id)
    )  # fmt: skip


def _claimed(c: Connection, wanted: Select[Any], wall_s: float) -> list[tuple[Row[Any], Part]]:
    if c.dialect.name == "postgresql":
        wanted = wanted.with_for_update(of=deliveries, skip_locked=True)
    found = []
    for row in c.execute(wanted).all():
        if row.known is None:  # the event was forgotten meanwhile
            end(c, row.id, 0, 0, "the event is too old and was forgotten")
            continue
        one = Delivery(row.id, row.webhook, row.event_id, row.tries + 1, 0, 0, "")
        same = deliveries.c.id == one.id
        c.execute(
            update(deliveries).where(same).values(tries=one.tries, next_wall_s=wall_s + CLAIM_S)
        )
        found.append((row, Part(one, _body(row))))
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


def _body(row: Row[Any]) -> str:
    return json.dumps(
        {"id": row.event_id, "pool_id": row.pool_id, "pool": row.pool or "",
         "wall_s": row.wall_s, "host": row.host, "code": row.code, "vm": row.vm,
         "sentence": row.said, "fields": json.loads(row.fields)}
    )  # fmt: skip
