"""Who calls, and may they: in front of every route of the API.

Rules:
1. A call comes with a token ("Authorization: Bearer ...") or with a session's cookie. With the
   cookie each change needs the session's token too, as X-CSRF-Token or as a form's field `csrf`,
   and an Origin, if any, that is this one.
2. Each route names its action once, with `needs`; a test goes through all of them with all roles.
3. Somebody without any right on a pool or VM learns nothing of it, not even whether it exists.
4. Every refused change is in the audit.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPBearer

from outlast.errors import NotFound, Refused
from outlast.manager.errors import NotLoggedIn
from outlast.manager.ports import COOKIE, CSRF_HEADER, Person, Scope
from outlast.manager.service import Manager
from outlast.manager.sessions import ENROL

# for the document only: who calls is found out by person_of
SIGNED = (
    Security(HTTPBearer(auto_error=False, description="a token: olt_...")),
    Security(APIKeyCookie(name=COOKIE, auto_error=False, description="a session of a browser")),
)
FORM = "application/x-www-form-urlencoded"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what the path names: ids that were resolved, "" where it names none."""

    person: Person
    address: str
    scope: Scope
    manager: Manager
    pool_id: str = ""
    vm: str = ""
    host: str = ""
    fresh: bool = False  # gave the password a moment ago, and is half logged in

    def touches(self, pool_id: str) -> bool:
        """May the caller know that there is this pool?"""
        may = self.manager.people.may
        return self.scope.touches(pool_id) or may(self.person, "create", pool_id)


def manager_of(request: Request) -> Manager:
    found = request.app.state.manager
    assert isinstance(found, Manager)
    return found


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""


def needs(action: str) -> Any:
    """A dependency that lets those through who may do `action` where the path says."""

    async def check(request: Request, _bearer: Any = SIGNED[0], _cookie: Any = SIGNED[1]) -> Caller:
        manager, person = manager_of(request), await person_of(request)
        address, scope = address_of(request), manager.people.scope(person)
        try:
            where = _place(manager, request)
            if not manager.people.may(person, action, *where[:2]):
                raise lacks(person, action, there=bool(where[0]))
        except (Refused, NotFound) as error:
            if isinstance(error, NotFound) and _sees_all(manager, request, scope):
                raise
            if request.method not in SAFE:
                await manager.people.audit(
                    person, action, request.url.path[:500], address=address, ok=False,
                    sentence="refused",
                )  # fmt: skip
            if isinstance(error, NotFound):
                raise lacks(person, action, there=True) from None
            raise
        return Caller(person, address, scope, manager, *where)

    check.__dict__["outlast_action"] = action
    return Depends(check)


def lacks(person: Person, action: str, *, there: bool) -> Refused:
    """What somebody without a right is told, there: on a pool or a VM; whether it exists or not."""
    right = f"'{action}' there" if there else f"'{action}'"
    return Refused(
        f"{person.name} may not do this: it needs the right {right}",
        hint="an administrator gives roles",
    )


def logged_in() -> Any:
    """A dependency for what everybody may do who is somebody."""

    async def check(request: Request, _bearer: Any = SIGNED[0], _cookie: Any = SIGNED[1]) -> Caller:
        manager, person = manager_of(request), await person_of(request)
        return Caller(person, address_of(request), manager.people.scope(person), manager)

    check.__dict__["outlast_action"] = ""
    return Depends(check)


def enrolling() -> Any:
    """A dependency for getting a second factor: for people, and for those who have to get one."""

    async def check(request: Request, _bearer: Any = SIGNED[0], _cookie: Any = SIGNED[1]) -> Caller:
        manager = manager_of(request)
        cookie = request.cookies.get(COOKIE, "")
        alone = cookie and "authorization" not in request.headers
        if name := await manager.people.half(cookie, ENROL) if alone else "":
            await check_forgery(request)
            nobody = Person(name, ())
            return Caller(nobody, address_of(request), Scope(False), manager, fresh=True)
        person = await person_of(request)
        if person.token:
            raise Refused("a token has no second factor", hint="log in")
        return Caller(person, address_of(request), manager.people.scope(person), manager)

    check.__dict__["outlast_action"] = ""
    return Depends(check)


async def person_of(request: Request) -> Person:
    """Raises NotLoggedIn, Refused, TooOften."""
    people = manager_of(request).people
    header = request.headers.get("authorization", "")
    if header:
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise NotLoggedIn("the Authorization header is none", hint="Authorization: Bearer ...")
        try:
            return await people.bearer(token.strip(), address_of(request))
        except Refused as error:
            if error.status == 403:
                raise NotLoggedIn(error.sentence, hint=error.hint) from None
            raise
    cookie = request.cookies.get(COOKIE, "")
    person = await people.session(cookie) if cookie else None
    if person is None:
        raise NotLoggedIn("nobody is logged in", hint="log in, or send a token")
    await check_forgery(request)
    return person


async def check_forgery(request: Request) -> None:
    """A change that comes with a cookie comes out of a page of this manager. Raises Refused."""
    if request.method in SAFE:
        return
    csrf = await manager_of(request).people.csrf(request.cookies.get(COOKIE, ""))
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if origin is not None and origin.partition("://")[2] != host:
        raise Refused("this call comes out of another site's page")
    sent = request.headers.get(CSRF_HEADER, "")
    if not sent and request.headers.get("content-type", "").startswith(FORM):
        sent = dict(parse_qsl((await request.body()).decode(errors="replace"))).get("csrf", "")
    if not csrf or not hmac.compare_digest(sent.encode(), csrf.encode()):
        raise Refused(f"the header {CSRF_HEADER} is missing or wrong", hint="load the page again")


def _place(manager: Manager, request: Request) -> tuple[str, str, str]:
    """(pool id, VM name, host name) of the path. Raises NotFound."""
    names = request.path_params
    if "pool" not in names:
        return "", "", ""
    pool_id = manager.reads.find(names["pool"]).id
    vm = manager.reads.vm(pool_id, names["vm"]).vm.name if "vm" in names else ""
    host = manager.reads.host(pool_id, names["host"]).name if "host" in names else ""
    return pool_id, vm, host


def _sees_all(manager: Manager, request: Request, scope: Scope) -> bool:
    """May the caller know what there is where the path leads?"""
    if scope.everything:
        return True
    try:
        return scope.sees_pool(manager.reads.find(request.path_params["pool"]).id)
    except (NotFound, KeyError):
        return False


def action_of(dependency: Callable[..., Any]) -> str | None:
    """The action a route's dependency asks for; None: it is no gate."""
    return getattr(dependency, "outlast_action", None)
