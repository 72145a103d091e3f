"""Users, roles, tokens, the audit, known managers. Logging in is in logins.py.

Rules: a token is in an answer once, when it is made; a password never. Somebody without the right
`people` sees and changes his own password and tokens only.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from outlast.errors import NotFound, Refused
from outlast.manager.api import match
from outlast.manager.api.answers import ERRORS, AuditOut, GrantBody, Request
from outlast.manager.api.gate import Caller, logged_in, needs
from outlast.manager.api.match import IfMatch
from outlast.manager.api.paging import Asked, Newest, Page, Text, asked, newest
from outlast.manager.ports import ROLES, Grant
from outlast.manager.repository import records
from outlast.manager.repository.entries import SessionRow
from outlast.manager.repository.people import TokenRow, UserRow
from outlast.manager.roles import Role, roles
from outlast.wire.shapes import Answer

router = APIRouter(responses=ERRORS)

Password = Annotated[str, Field(max_length=500)]
Name = Annotated[str, Field(max_length=200)]


class UserBody(Request):
    name: Name
    password: Password
    roles: list[GrantBody] = Field(default=[], max_length=200)


class UserChange(Request):
    password: Password | None = None
    disabled: bool | None = None
    code_needed: bool | None = None  # a second factor
    roles: list[GrantBody] | None = Field(default=None, max_length=200)


class UserOut(Answer):
    name: str
    origin: str  # local | ldap | oidc
    disabled: bool
    created_wall_s: float
    seen_wall_s: float  # last login; 0 = never
    code_needed: bool
    second_factor: bool
    roles: list[GrantBody]


class UserSessionOut(Answer):
    id: str
    address: str  # from where it was begun
    created_wall_s: float
    expires_wall_s: float


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


class MayOut(Answer):
    action: str
    says: str
    least: str  # VM | pool | everything: the least that the role must be given on; "" = it may not


class RoleOut(Answer):
    name: str
    says: str
    may: list[MayOut]


# ---- roles


@router.get("/roles", tags=["people"])
async def list_roles(
    caller: Annotated[Caller, logged_in()], how: Annotated[Asked, asked("reach")]
) -> Page[RoleOut]:
    """What each role may, action by action. Roles are given on everything, a pool, a folder of VMs
    or a VM."""
    keys = {"reach": lambda role: ROLES.index(role.name), "name": lambda role: role.name}
    return how.page(roles(), keys, _role)


@router.get("/roles/{role}", tags=["people"])
async def one_role(role: str, caller: Annotated[Caller, logged_in()]) -> RoleOut:
    for one in roles():
        if one.name == role:
            return _role(one)
    raise NotFound(f"there is no role '{role[:80]}'", hint="one of: " + ", ".join(ROLES))


# ---- users


@router.get("/users", tags=["people"])
async def list_users(
    caller: Annotated[Caller, needs("people")], how: Annotated[Asked, asked()]
) -> Page[UserOut]:
    people = caller.manager.people
    users, with_factor = await people.users(), await people.factors.names()
    keys = {"name": lambda u: u.name, "created": lambda u: u.created_wall_s}
    return how.page(users, keys, lambda row: _user(row, row.name in with_factor))


@router.post("/users", tags=["people"], status_code=201)
async def add_user(body: UserBody, caller: Annotated[Caller, needs("people")]) -> UserOut:
    roles = tuple(role.grant() for role in body.roles)
    people = caller.manager.people
    made = await people.add_user(caller.person, body.name, body.password, roles, caller.address)
    return _user(made, False)


@router.get("/users/{user}", tags=["people"])
async def one_user(
    user: str, caller: Annotated[Caller, needs("people")], response: Response
) -> UserOut:
    """One user; the ETag serves If-Match."""
    found = await _found(caller, user)
    response.headers["ETag"] = match.etag(_wished(found))
    return found


@router.patch("/users/{user}", tags=["people"])
async def change_user(
    user: str, body: UserChange, caller: Annotated[Caller, needs("people")],
    if_match: IfMatch = "",
) -> UserOut:  # fmt: skip
    """A new password, other roles, switched off or on. The last administrator stays one."""
    await _match(caller, user, if_match)
    roles = None if body.roles is None else tuple(role.grant() for role in body.roles)
    people = caller.manager.people
    changed = await people.change_user(
        caller.person, user, password=body.password, disabled=body.disabled, roles=roles,
        code_needed=body.code_needed, address=caller.address,
    )  # fmt: skip
    return _user(changed, (await people.factors.of(user)).on)


@router.delete("/users/{user}", tags=["people"], status_code=204)
async def remove_user(
    user: str, caller: Annotated[Caller, needs("people")], if_match: IfMatch = ""
) -> None:
    """With all tokens and sessions of that user."""
    await _match(caller, user, if_match)
    await caller.manager.people.remove_user(caller.person, user, caller.address)


@router.delete("/users/{user}/second-factor", tags=["people"], status_code=204)
async def remove_factor(user: str, caller: Annotated[Caller, needs("people")]) -> None:
    """For somebody who lost app and recovery codes. What is needed is asked for anew."""
    people = caller.manager.people
    await people.factors.remove(caller.person.name, (await people.user(user)).name, caller.address)


@router.get("/users/{user}/sessions", tags=["people"])
async def list_sessions(
    user: str, caller: Annotated[Caller, needs("people")], how: Annotated[Asked, asked("created")]
) -> Page[UserSessionOut]:
    """Browsers in which that user is signed in."""
    people = caller.manager.people
    rows = await people.sessions((await people.user(user)).name)
    keys = {"created": lambda s: s.created_wall_s, "expires": lambda s: s.expires_wall_s}
    return how.page(rows, keys, _session, id_=lambda s: s.id, name=lambda s: s.address)


@router.delete("/users/{user}/sessions/{session}", tags=["people"], status_code=204)
async def end_session(user: str, session: str, caller: Annotated[Caller, needs("people")]) -> None:
    """One of them. To end all, whatever comes meanwhile: switch the user off."""
    await caller.manager.people.end_session(user, session, caller.person.name, caller.address)


# ---- tokens


@router.get("/tokens", tags=["people"])
async def list_tokens(
    caller: Annotated[Caller, logged_in()], how: Annotated[Asked, asked()], owner: Text = ""
) -> Page[TokenOut]:
    """Your own; those of all with the right `people`."""
    all_ = caller.manager.people.may(caller.person, "people")
    rows = await caller.manager.people.tokens(owner if all_ else owner_of(caller))
    keys = {"name": lambda t: t.name, "owner": lambda t: t.owner,
            "expires": lambda t: t.expires_wall_s, "used": lambda t: t.used_wall_s}  # fmt: skip
    return how.page(rows, keys, _token, id_=lambda t: t.id)


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
    caller: Annotated[Caller, needs("audit")], how: Annotated[Newest, newest()], who: Text = "",
    action: Text = "", object: Text = "",
) -> Page[AuditOut]:  # fmt: skip
    """Who did what, newest first. Lines are only ever added."""
    before = how.before_id
    rows, total = await caller.manager.repository.read(
        lambda c: records.list_audit(
            c, who=who, action=action, object_=object, before_id=before, limit=how.ask
        )
    )
    return how.page(rows, total, lambda row: AuditOut(**asdict(row)))


@router.get("/managers", tags=["managers"])
async def list_managers(
    caller: Annotated[Caller, needs("pools")], how: Annotated[Asked, asked("id")]
) -> Page[ManagerOut]:
    """Those that share this database and were there within the last day."""
    known = await caller.manager.repository.read(records.all_managers)
    me = caller.manager.tasks.manager
    found = [
        ManagerOut(id=id_, address=address, seen_wall_s=seen, this=id_ == me)
        for id_, (address, seen) in known.items()
    ]
    keys = {"id": lambda m: m.id, "seen": lambda m: m.seen_wall_s}
    return how.page(found, keys, lambda m: m, name=lambda m: m.address, id_=lambda m: m.id)


def owner_of(caller: Caller) -> str:
    return caller.person.name.partition("/")[0]


async def _found(caller: Caller, user: str) -> UserOut:
    """Raises NotFound."""
    people = caller.manager.people
    return _user(await people.user(user), (await people.factors.of(user)).on)


async def _match(caller: Caller, user: str, if_match: str) -> None:
    """Raises Changed."""

    async def now() -> str:
        return _wished(await _found(caller, user))

    await match.check(if_match, user, now)


def _wished(user: UserOut) -> str:
    return user.model_dump_json(exclude={"seen_wall_s"})


def bodies(roles: tuple[Grant, ...]) -> list[GrantBody]:
    return [GrantBody(role=g.role, pool_id=g.pool_id, vm=g.vm) for g in roles]


def _role(role: Role) -> RoleOut:
    return RoleOut(name=role.name, says=role.says, may=[MayOut(**asdict(may)) for may in role.may])


def _user(row: UserRow, has_factor: bool) -> UserOut:
    return UserOut(
        name=row.name, origin=row.origin, disabled=row.disabled,
        created_wall_s=row.created_wall_s, seen_wall_s=row.seen_wall_s,
        code_needed=row.code_needed, second_factor=has_factor, roles=bodies(row.grants),
    )  # fmt: skip


def _session(row: SessionRow) -> UserSessionOut:
    return UserSessionOut(id=row.id, address=row.address, created_wall_s=row.created_wall_s,
                      expires_wall_s=row.expires_wall_s)  # fmt: skip


def _token(row: TokenRow) -> TokenOut:
    return TokenOut(
        id=row.id, name=row.name, owner=row.owner, created_wall_s=row.created_wall_s,
        expires_wall_s=row.expires_wall_s, used_wall_s=row.used_wall_s, roles=bodies(row.grants),
    )  # fmt: skip
