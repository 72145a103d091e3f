"""The views that people have saved, in the table of settings: one line of JSON for each person."""

from __future__ import annotations

import json

from sqlalchemy import Connection, delete, insert, select

from outlast.errors import Conflict
from outlast.manager.repository.schema import settings

VIEWS_MAX = 20


def of(c: Connection, who: str) -> dict[str, str]:
    """Addresses by name, in the order in which they were saved."""
    found = c.execute(select(settings.c.value).where(settings.c.key == _key(who))).scalar()
    return dict(json.loads(found)) if found else {}


def keep(c: Connection, who: str, name: str, at: str) -> None:
    """Raises Conflict when there are too many."""
    known = of(c, who) | {name: at}
    if len(known) > VIEWS_MAX:
        raise Conflict(f"there are {VIEWS_MAX} views already", hint="remove one first")
    _write(c, who, known)


def forget(c: Connection, who: str, name: str) -> None:
    _write(c, who, {k: v for k, v in of(c, who).items() if k != name})


def _write(c: Connection, who: str, known: dict[str, str]) -> None:
    c.execute(delete(settings).where(settings.c.key == _key(who)))
    if known:
        c.execute(insert(settings).values(key=_key(who), value=json.dumps(known)))


def _key(who: str) -> str:
    return f"views:{who}"
