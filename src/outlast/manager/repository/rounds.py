"""Rolling maintenance in the database: each pool's last round. Functions of an open connection.

Rule: a round is changed by whoever saw its newest version; somebody else's change is never lost.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select, update

from outlast.manager.repository.schema import rounds
from outlast.readiness.rolling import Round


def of(c: Connection, pool_id: str) -> tuple[Round, int] | None:
    """A pool's last round and its version."""
    row = c.execute(select(rounds).where(rounds.c.pool_id == pool_id)).one_or_none()
    return None if row is None else (Round.model_validate_json(row.body), row.version)


def all_open(c: Connection) -> dict[str, tuple[Round, int]]:
    """By the pool's id."""
    rows = c.execute(select(rounds).where(rounds.c.open == 1))
    return {row.pool_id: (Round.model_validate_json(row.body), row.version) for row in rows}


def begin(c: Connection, pool_id: str, new: Round) -> None:
    """In the place of one that has ended."""
    c.execute(delete(rounds).where(rounds.c.pool_id == pool_id, rounds.c.open == 0))
    c.execute(insert(rounds).values(pool_id=pool_id, version=1, open=1, body=new.model_dump_json()))


def change(c: Connection, pool_id: str, new: Round, seen: int) -> bool:
    """False: it is not version `seen` any more, and nothing was changed."""
    same = (rounds.c.pool_id == pool_id) & (rounds.c.version == seen)
    values = {"version": seen + 1, "open": int(new.open), "body": new.model_dump_json()}
    return c.execute(update(rounds).where(same).values(**values)).rowcount == 1
