"""Users, roles and tokens in the database. Functions of an open connection.

Rules: no secret comes in or goes out of here except as a hash; refusals are OutlastError.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from outlast.errors import Conflict, NotFound
from outlast.manager.ports import Grant
from outlast.manager.repository.schema import (
    factors,
    grants,
    recovery_codes,
    sessions,
    settings,
    tokens,
    users,
)

SETUP_KEY = "setup-code"
LOCAL = "local"  # the origin of users whose password is kept here


@dataclass(frozen=True, slots=True)
class UserRow:
    name: str
    password: str
    disabled: bool
    created_wall_s: float
    grants: tuple[Grant, ...]
    origin: str = LOCAL
    subject: str = ""  # what the origin calls it; "" = local
    code_needed: bool = False
    seen_wall_s: float = 0.0  # last login, or heard of where he comes from


@dataclass(frozen=True, slots=True)
class TokenRow:
    id: str
    name: str
    owner: str
    created_wall_s: float
    expires_wall_s: float
    used_wall_s: float
    grants: tuple[Grant, ...]


def grants_of(c: Connection, holder: str) -> tuple[Grant, ...]:
    rows = c.execute(
        select(grants.c.role, grants.c.pool_id, grants.c.vm)
        .where(grants.c.holder == holder)
        .order_by(grants.c.pool_id, grants.c.vm, grants.c.role)
    )
    return tuple(Grant(*row) for row in rows)


def set_grants(c: Connection, holder: str, new: Iterable[Grant]) -> None:
    c.execute(delete(grants).where(grants.c.holder == holder))
    for grant in dict.fromkeys(new):
        add_grant(c, holder, grant)


def add_grant(c: Connection, holder: str, grant: Grant) -> None:
    """Nothing happens when it is there already."""
    same = and_(
        grants.c.holder == holder, grants.c.role == grant.role,
        grants.c.pool_id == grant.pool_id, grants.c.vm == grant.vm,
    )  # fmt: skip
    if c.execute(select(func.count()).select_from(grants).where(same)).scalar_one() == 0:
        values = {"role": grant.role, "pool_id": grant.pool_id, "vm": grant.vm}
        c.execute(insert(grants).values(holder=holder, **values))


def forget_vm(c: Connection, pool_id: str, vm: str) -> list[tuple[str, Grant]]:
    """A VM is gone: who makes one of the same name later inherits nothing. Who had what."""
    same = (grants.c.pool_id == pool_id) & (grants.c.vm == vm)
    had = [(row.holder, Grant(row.role, row.pool_id, row.vm))
           for row in c.execute(select(grants).where(same).order_by(grants.c.holder))]  # fmt: skip
    c.execute(delete(grants).where(same))
    return had


# ---- users


def count_users(c: Connection) -> int:
    return c.execute(select(func.count()).select_from(users)).scalar_one()


def user(c: Connection, name: str) -> UserRow | None:
    row = c.execute(select(users).where(users.c.name == name)).one_or_none()
    if row is None:
        return None
    return UserRow(grants=grants_of(c, f"user:{name}"), **row._mapping)


def user_of(c: Connection, origin: str, subject: str) -> UserRow | None:
    """Whom a directory or provider means."""
    same = (users.c.origin == origin) & (users.c.subject == subject)
    name = c.execute(select(users.c.name).where(same)).scalar()
    return None if name is None else user(c, name)


def all_users(c: Connection) -> list[UserRow]:
    names = c.execute(select(users.c.name).order_by(users.c.name)).scalars().all()
    return [found for name in names if (found := user(c, name)) is not None]


def add_user(
    c: Connection, name: str, password: str, roles: Iterable[Grant], wall_s: float, *,
    origin: str = LOCAL, subject: str = "",
) -> None:  # fmt: skip
    """Raises Conflict."""
    row = {"name": name, "password": password, "origin": origin, "subject": subject}
    try:
        with c.begin_nested():
            c.execute(insert(users).values(disabled=False, created_wall_s=wall_s, **row))
    except IntegrityError:
        raise Conflict(f"there is a user '{name}' already") from None
    set_grants(c, f"user:{name}", roles)


def change_user(
    c: Connection, name: str, *, password: str | None = None, disabled: bool | None = None,
    roles: Iterable[Grant] | None = None, code_needed: bool | None = None,
) -> None:  # fmt: skip
    """Raises NotFound, Conflict when no administrator would be left.

    A new password and being switched off end all sessions of that user.
    """
    lock_people(c)
    wished = {"password": password, "disabled": disabled, "code_needed": code_needed}
    values = {column: value for column, value in wished.items() if value is not None}
    if user(c, name) is None:
        raise NotFound(f"there is no user '{name[:80]}'")
    if values:
        c.execute(update(users).where(users.c.name == name).values(**values))
    if roles is not None:
        set_grants(c, f"user:{name}", roles)
    if password is not None or disabled:
        c.execute(delete(sessions).where(sessions.c.name == name))
    _check_admins(c)


def remove_user(c: Connection, name: str) -> None:
    """With its tokens and sessions. Raises NotFound; Conflict when no admin would be left."""
    lock_people(c)
    if c.execute(delete(users).where(users.c.name == name)).rowcount == 0:
        raise NotFound(f"there is no user '{name[:80]}'")
    c.execute(delete(sessions).where(sessions.c.name == name))
    c.execute(delete(factors).where(factors.c.name == name))
    c.execute(delete(recovery_codes).where(recovery_codes.c.name == name))
    c.execute(delete(grants).where(grants.c.holder == f"user:{name}"))
    for token_id in c.execute(select(tokens.c.id).where(tokens.c.owner == name)).scalars().all():
        remove_token(c, token_id)
    _check_admins(c)


def saw_user(c: Connection, name: str, wall_s: float) -> None:
    c.execute(update(users).where(users.c.name == name).values(seen_wall_s=wall_s))


def lock_people(c: Connection) -> None:
    """Two changes at a time could each leave the other's administrator: one after the other."""
    if c.dialect.name == "postgresql":
        c.exec_driver_sql("lock table users in share row exclusive mode")


def _check_admins(c: Connection) -> None:
    left = c.execute(
        select(func.count())
        .select_from(users.join(grants, grants.c.holder == "user:" + users.c.name))
        .where(grants.c.role == "admin", grants.c.pool_id == "", users.c.disabled.is_(False))
    ).scalar_one()
    if left == 0:
        raise Conflict(
            "no administrator would be left", hint="give somebody else the role admin first"
        )


# ---- the first administrator


def setup_code(c: Connection) -> str:
    """The hash of the one-time code; "" = there is none."""
    row = c.execute(select(settings.c.value).where(settings.c.key == SETUP_KEY)).scalar()
    return str(row or "")


def put_setup_code(c: Connection, hash_: str) -> None:
    c.execute(delete(settings).where(settings.c.key == SETUP_KEY))
    c.execute(insert(settings).values(key=SETUP_KEY, value=hash_))


def use_setup_code(c: Connection, hash_: str) -> bool:
    """True for exactly one caller."""
    gone = c.execute(delete(settings).where(settings.c.key == SETUP_KEY, settings.c.value == hash_))
    return gone.rowcount == 1


# ---- tokens


def add_token(c: Connection, row: TokenRow, hash_: str) -> None:
    c.execute(
        insert(tokens).values(
            id=row.id, name=row.name, owner=row.owner, hash=hash_, used_wall_s=0,
            created_wall_s=row.created_wall_s, expires_wall_s=row.expires_wall_s,
        )
    )  # fmt: skip
    set_grants(c, f"token:{row.id}", row.grants)


def token(c: Connection, token_id: str) -> TokenRow | None:
    row = c.execute(select(tokens).where(tokens.c.id == token_id)).one_or_none()
    if row is None:
        return None
    held = grants_of(c, f"token:{row.id}")
    return TokenRow(
        row.id, row.name, row.owner, row.created_wall_s, row.expires_wall_s, row.used_wall_s, held
    )


def token_by_hash(c: Connection, hash_: str) -> TokenRow | None:
    found = c.execute(select(tokens.c.id).where(tokens.c.hash == hash_)).scalar()
    return None if found is None else token(c, found)


def all_tokens(c: Connection, owner: str = "") -> list[TokenRow]:
    """Of one owner, or all."""
    wanted = select(tokens.c.id).order_by(tokens.c.created_wall_s, tokens.c.id)
    if owner:
        wanted = wanted.where(tokens.c.owner == owner)
    ids = c.execute(wanted).scalars().all()
    return [found for id_ in ids if (found := token(c, id_)) is not None]


def token_used(c: Connection, token_id: str, wall_s: float) -> None:
    c.execute(update(tokens).where(tokens.c.id == token_id).values(used_wall_s=wall_s))


def remove_token(c: Connection, token_id: str) -> None:
    """Raises NotFound."""
    if c.execute(delete(tokens).where(tokens.c.id == token_id)).rowcount == 0:
        raise NotFound(f"there is no token '{token_id[:80]}'")
    c.execute(delete(grants).where(grants.c.holder == f"token:{token_id}"))
