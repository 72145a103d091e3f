"""Logging in, users, roles, tokens, the audit, known managers.

Rules: a token is in an answer once, when it is made; a password never. Somebody without the right
`people` sees and changes his own password and tokens only.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Response
from fastapi import Request as HttpRequest
from pydantic import Field

from outlast.errors import NotFound, Refused
from outlast.manager.api.answers import (
    ERRORS,
    AuditOut,
    Cursor,
    GrantBody,
    Limit,
    Page,
    Request,
    Text,
    pack,
    page_of,
    unpack_id,
)
from outlast.manager.api.gate import Caller, address_of, logged_in, manager_of, needs
from outlast.manager.ports import ACTIONS, COOKIE, Grant, Session
from outlast.manager.repository import records
from outlast.manager.repository.people import TokenRow, UserRow
from outlast.wire.shapes import Answer

router = APIRouter(responses=ERRORS)

Password = Annotated[str, Field(max_length=500)]
Name = Annotated[str, Field(max_length=200)]


class LoginBody(Request):
    name: Name
    password: Password


class SetUpBody(LoginBody):
    code: str = Field(max_length=200)


class SessionOut(Answer):
    name: str
    expires_wall_s: float
    csrf: str  # goes into the header X-CSRF-Token


class MeOut(Answer):
    name: str
    token: bool
    roles: list[GrantBody]
    actions: list[str]  # what the caller may do everywhere


class UserBody(LoginBody):
    roles: list[GrantBody] = Field(default=[], max_length=200)


class UserChange(Request):
    password: Password | None = None
    disabled: bool | None = None
    roles: list[GrantBody] | None = Field(default=None, max_length=200)


class PasswordChange(Request):
    old: Password
    new: Password


class UserOut(Answer):
    name: str
    disabled: bool
    created_wall_s: float
    roles: list[GrantBody]


class TokenBody(Request):
    name: Name
    roles: list[GrantBody] = Field(max_length=200)
    days: float = 365
    owner: Name = ""  # "" = the caller


class TokenOut(Answer):
    id: str
    name: str
    owner: str
    created_wall_s: float
    expires_wall_s: float
    used_wall_s: float
    roles: list[GrantBody]


class NewTokenOut(TokenOut):
    token: str  # shown this once


class ManagerOut(Answer):
    id: str
    address: str
    seen_wall_s: float
    this: bool


# ---- coming and going


@router.post("/login", tags=["people"])
async def login(body: LoginBody, request: HttpRequest, response: Response) -> SessionOut:
    """A session for browsers; programs use tokens."""
    people = manager_of(request).people
    return _opened(await people.login(body.name, body.password, address_of(request)), response)


@router.post("/set-up", tags=["people"])
async def set_up(body: SetUpBody, request: HttpRequest, response: Response) -> SessionOut:
    """Make the first administrator, with the one-time code."""
    people = manager_of(request).people
    session = await people.set_up(body.code, body.name, body.password, address_of(request))
    return _opened(session, response)


@router.post("/logout", tags=["people"], status_code=204)
async def logout(
    request: HttpRequest, response: Response, caller: Annotated[Caller, logged_in()]
) -> None:
    await caller.manager.people.logout(request.cookies.get(COOKIE, ""))
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="strict", path="/")


@router.get("/me", tags=["people"])
async def me(caller: Annotated[Caller, logged_in()]) -> MeOut:
    person, may = caller.person, caller.manager.people.may
    actions = [action for action in ACTIONS if may(person, action)]
    return MeOut(
        name=person.name, token=bool(person.token), roles=_bodies(person.roles), actions=actions
    )


@router.post("/me/password", tags=["people"], status_code=204)
async def change_password(body: PasswordChange, caller: Annotated[Caller, logged_in()]) -> None:
    """Your own; all your sessions end."""
    people, person = caller.manager.people, caller.person
    if person.token:
        raise Refused("a token changes no password", hint="log in")
    await people.login(person.name, body.old, caller.address)
    await people.change_user(person, person.name, password=body.new, address=caller.address)


# ---- users


@router.get("/users", tags=["people"])
async def list_users(
    caller: Annotated[Caller, needs("people")], search: Text = "", sort: Text = "name",
    descending: bool = False, limit: Limit = 50, cursor: Cursor = "",
) -> Page[UserOut]:  # fmt: skip
    found = [u for u in await caller.manager.people.users() if search.lower() in u.name]
    keys = {"name": lambda u: u.name, "created": lambda u: u.created_wall_s}
    rows, total, next_cursor = page_of(
        found, keys, lambda u: u.name, sort=sort, descending=descending, limit=limit, cursor=cursor
    )
    return Page(items=[_user(row) for row in rows], total=total, next_cursor=next_cursor)


@router.post("/users", tags=["people"], status_code=201)
async def add_user(body: UserBody, caller: Annotated[Caller, needs("people")]) -> UserOut:
    roles = tuple(role.grant() for role in body.roles)
    people = caller.manager.people
    return _user(
        await people.add_user(caller.person, body.name, body.password, roles, caller.address)
    )


@router.get("/users/{user}", tags=["people"])
async def one_user(user: str, caller: Annotated[Caller, needs("people")]) -> UserOut:
    return _user(await caller.manager.people.user(user))


@router.patch("/users/{user}", tags=["people"])
async def change_user(
    user: str, body: UserChange, caller: Annotated[Caller, needs("people")]
) -> UserOut:
    """A new password, other roles, switched off or on. The last administrator stays one."""
    roles = None if body.roles is None else tuple(role.grant() for role in body.roles)
    return _user(
        await caller.manager.people.change_user(
            caller.person, user, password=body.password, disabled=body.disabled, roles=roles,
            address=caller.address,
        )
    )  # fmt: skip


@router.delete("/users/{user}", tags=["people"], status_code=204)
async def remove_user(user: str, caller: Annotated[Caller, needs("people")]) -> None:
    """With all tokens and sessions of that user."""
    await caller.manager.people.remove_user(caller.person, user, caller.address)


# ---- tokens


@router.get("/tokens", tags=["people"])
async def list_tokens(
    caller: Annotated[Caller, logged_in()], owner: Text = "", sort: Text = "name",
    descending: bool = False, limit: Limit = 50, cursor: Cursor = "",
) -> Page[TokenOut]:  # fmt: skip
    """Your own; those of all with the right `people`."""
    all_ = caller.manager.people.may(caller.person, "people")
    rows = await caller.manager.people.tokens(owner if all_ else owner_of(caller))
    keys = {"name": lambda t: t.name, "owner": lambda t: t.owner,
            "expires": lambda t: t.expires_wall_s, "used": lambda t: t.used_wall_s}  # fmt: skip
    chosen, total, next_cursor = page_of(
        rows, keys, lambda t: t.id, sort=sort, descending=descending, limit=limit, cursor=cursor
    )
    return Page(items=[_token(row) for row in chosen], total=total, next_cursor=next_cursor)


@router.post("/tokens", tags=["people"], status_code=201)
async def add_token(body: TokenBody, caller: Annotated[Caller, logged_in()]) -> NewTokenOut:
    """A token that may no more than its owner; the answer shows it, nothing else ever does."""
    people, owner = caller.manager.people, body.owner or owner_of(caller)
    if caller.person.token:
        raise Refused("a token makes no tokens", hint="log in")
    if owner != owner_of(caller) and not people.may(caller.person, "people"):
        raise Refused("only administrators make tokens for others")
    roles = tuple(role.grant() for role in body.roles)
    token, row = await people.add_token(
        caller.person, owner, body.name, roles, body.days, caller.address
    )
    return NewTokenOut(token=token, **_token(row).model_dump())


@router.delete("/tokens/{token}", tags=["people"], status_code=204)
async def remove_token(token: str, caller: Annotated[Caller, logged_in()]) -> None:
    people = caller.manager.people
    mine = {row.id for row in await people.tokens(owner_of(caller))}
    if token not in mine and not people.may(caller.person, "people"):
        raise NotFound(f"there is no token '{token[:80]}'")
    await people.remove_token(caller.person, token, caller.address)


# ---- audit, managers


@router.get("/audit", tags=["audit"])
async def list_audit(
    caller: Annotated[Caller, needs("audit")], who: Text = "", action: Text = "",
    object: Text = "", limit: Limit = 50, cursor: Cursor = "",
) -> Page[AuditOut]:  # fmt: skip
    """Who did what, newest first. Lines are only ever added."""
    before = unpack_id(cursor)
    rows, total = await caller.manager.repository.read(
        lambda c: records.list_audit(
            c, who=who, action=action, object_=object, before_id=before, limit=limit + 1
        )
    )
    more = pack([rows[limit - 1].id]) if len(rows) > limit else ""
    items = [AuditOut(**asdict(row)) for row in rows[:limit]]
    return Page(items=items, total=total, next_cursor=more)


@router.get("/managers", tags=["managers"])
async def list_managers(caller: Annotated[Caller, needs("pools")]) -> list[ManagerOut]:
    """Those that share this database and were there within the last day."""
    known = await caller.manager.repository.read(records.all_managers)
    me = caller.manager.tasks.manager
    return [
        ManagerOut(id=id_, address=address, seen_wall_s=seen, this=id_ == me)
        for id_, (address, seen) in sorted(known.items())
    ]


def _opened(session: Session, response: Response) -> SessionOut:
    response.set_cookie(
        COOKIE, session.cookie_token, secure=True, httponly=True, samesite="strict", path="/"
    )
    return SessionOut(
        name=session.person.name, expires_wall_s=session.expires_wall_s, csrf=session.csrf
    )


def owner_of(caller: Caller) -> str:
    return caller.person.name.partition("/")[0]


def _bodies(roles: tuple[Grant, ...]) -> list[GrantBody]:
    return [GrantBody(role=g.role, pool_id=g.pool_id, vm=g.vm) for g in roles]


def _user(row: UserRow) -> UserOut:
    return UserOut(
        name=row.name, disabled=row.disabled, created_wall_s=row.created_wall_s,
        roles=_bodies(row.grants),
    )  # fmt: skip


def _token(row: TokenRow) -> TokenOut:
    return TokenOut(
        id=row.id, name=row.name, owner=row.owner, created_wall_s=row.created_wall_s,
        expires_wall_s=row.expires_wall_s, used_wall_s=row.used_wall_s, roles=_bodies(row.grants),
    )  # fmt: skip
