"""Sessions and second factors in the database. Functions of an open connection.

Rules: no secret comes in or goes out of here except as a hash; what makes the codes of a second
factor is the exception, as it has to be used. What may happen once says whether it did.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from outlast.manager.repository.schema import factors, recovery_codes, sessions

ID_CHARS = 12


@dataclass(frozen=True, slots=True)
class SessionRow:
    name: str
    csrf: str
    address: str
    created_wall_s: float
    expires_wall_s: float
    stage: str = ""  # "" = whole
    id: str = ""  # the first digits of its hash


@dataclass(frozen=True, slots=True)
class FactorRow:
    name: str
    secret: str
    confirmed: bool
    last_step: int


def add_session(c: Connection, hash_: str, row: SessionRow) -> None:
    c.execute(
        insert(sessions).values(
            hash=hash_, name=row.name, csrf=row.csrf, address=row.address,
            created_wall_s=row.created_wall_s, expires_wall_s=row.expires_wall_s, stage=row.stage,
        )
    )  # fmt: skip


def session(c: Connection, hash_: str) -> SessionRow | None:
    row = c.execute(select(sessions).where(sessions.c.hash == hash_)).one_or_none()
    return None if row is None else _session(row)


def all_sessions(c: Connection, name: str) -> list[SessionRow]:
    rows = c.execute(select(sessions).where(sessions.c.name == name))
    return sorted((_session(row) for row in rows), key=lambda s: s.created_wall_s)


def _session(row: Row[Any]) -> SessionRow:
    return SessionRow(
        row.name,
        row.csrf,
        row.address,
        row.created_wall_s,
        row.expires_wall_s,
        row.stage,
        row.hash[:ID_CHARS],
    )


def remove_session(c: Connection, hash_: str) -> None:
    c.execute(delete(sessions).where(sessions.c.hash == hash_))


def remove_sessions(c: Connection, name: str) -> None:
    """All of one user."""
    c.execute(delete(sessions).where(sessions.c.name == name))


def end_session(c: Connection, name: str, id_: str) -> bool:
    """One of that user; False: there is none. id_: of its row."""
    mine = (sessions.c.name == name) & (func.substr(sessions.c.hash, 1, ID_CHARS) == id_)
    return c.execute(delete(sessions).where(mine)).rowcount > 0


def forget_sessions(c: Connection, wall_s: float) -> int:
    """Those that have ended."""
    return c.execute(delete(sessions).where(sessions.c.expires_wall_s < wall_s)).rowcount


# ---- second factors


def factor(c: Connection, name: str) -> FactorRow | None:
    row = c.execute(select(factors).where(factors.c.name == name)).one_or_none()
    return None if row is None else FactorRow(*row)


def with_factor(c: Connection) -> set[str]:
    """Names of those who have one that is confirmed."""
    wanted = select(factors.c.name).where(factors.c.confirmed.is_(True))
    return set(c.execute(wanted).scalars())


def begin_factor(c: Connection, name: str, secret: str) -> bool:
    """A new one that waits for its first code; False: there is a confirmed one."""
    waiting = (factors.c.name == name) & factors.c.confirmed.is_(False)
    c.execute(delete(factors).where(waiting))
    there = select(func.count()).select_from(factors).where(factors.c.name == name)
    if c.execute(there).scalar_one():
        return False
    c.execute(insert(factors).values(name=name, secret=secret, confirmed=False, last_step=0))
    return True


def confirm_factor(c: Connection, name: str, secret: str, step: int, hashes: Iterable[str]) -> bool:
    """From now on it is asked for; False: it is not the one that waits any more."""
    same = (factors.c.name == name) & (factors.c.secret == secret) & factors.c.confirmed.is_(False)
    done = c.execute(update(factors).where(same).values(confirmed=True, last_step=step))
    if done.rowcount != 1:
        return False
    c.execute(delete(recovery_codes).where(recovery_codes.c.name == name))
    c.execute(insert(recovery_codes), [{"name": name, "hash": hash_} for hash_ in hashes])
    return True


def use_step(c: Connection, name: str, secret: str, step: int) -> bool:
    """True for the first who comes with a code of that step."""
    fresh = (factors.c.name == name) & (factors.c.secret == secret) & (factors.c.last_step < step)
    return c.execute(update(factors).where(fresh).values(last_step=step)).rowcount == 1


def use_recovery_code(c: Connection, name: str, hash_: str) -> bool:
    """True once."""
    same = (recovery_codes.c.name == name) & (recovery_codes.c.hash == hash_)
    return c.execute(delete(recovery_codes).where(same)).rowcount == 1


def count_recovery_codes(c: Connection, name: str) -> int:
    mine = recovery_codes.c.name == name
    return c.execute(select(func.count()).select_from(recovery_codes).where(mine)).scalar_one()


def remove_factor(c: Connection, name: str) -> bool:
    """False: there was none."""
    c.execute(delete(recovery_codes).where(recovery_codes.c.name == name))
    return c.execute(delete(factors).where(factors.c.name == name)).rowcount == 1
