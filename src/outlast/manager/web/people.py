"""Users with their roles, and the tokens and password of whoever looks.

Rules: a token is shown once, on the page that answers its making. What the last administrator may
not lose is decided by the accounts. Every form that fails stays as it was typed, but for passwords.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Response

from outlast.errors import InvalidInput, NotFound, OutlastError, Refused
from outlast.manager.api.logins import own_password
from outlast.manager.api.people import owner_of
from outlast.manager.ports import ROLES, Grant
from outlast.manager.roles import roles
from outlast.manager.web.forms import Form, form_of
from outlast.manager.web.gate import View, page
from outlast.manager.web.render import fragment, redirect
from outlast.manager.web.render import page as whole

router = APIRouter()
EMPTY = Form([])


@router.get("/users")
async def users(view: Annotated[View, page("people")]) -> Response:
    return await _users(view)


async def _users(view: View, error: OutlastError | None = None, form: Form = EMPTY) -> Response:
    values, status = await _known(view), error.status if error else 200
    return whole(
        view, "users.html", at=status, live="page=users", error=error, form=form,
        matrix=roles(), **values,
    )  # fmt: skip


async def users_fragment(view: View, looked: Mapping[str, str]) -> dict[str, str]:
    return {"users": fragment("_users.html", view=view, **(await _known(view)))}


async def _known(view: View) -> dict[str, Any]:
    people = view.manager.people
    return {
        "users": await people.users(),
        "factors": await people.factors.names(),
        "rest_wall_s": people.rest_wall_s,
        "now_s": time.time(),
        "roles": ROLES,
        "names": {e.id: e.name for e in view.manager.reads.pools()},
    }


@router.post("/users")
async def add_user(view: Annotated[View, page("people")]) -> Response:
    form = await form_of(view.request)
    try:
        await view.manager.people.add_user(
            view.person, form["name"], form.raw("password"), (_grant(form),), view.caller.address
        )
    except OutlastError as error:
        return await _users(view, error, form)
    return redirect("/users", view)


@router.post("/users/{user}/change")
async def change_user(user: str, view: Annotated[View, page("people")]) -> Response:
    """Other roles, off or on, or gone: what the pressed button says."""
    form, people = await form_of(view.request), view.manager.people
    wish, address = form["wish"], view.caller.address
    try:
        if wish == "remove":
            await people.remove_user(view.person, user, address)
        elif wish in ("off", "on"):
            await people.change_user(view.person, user, disabled=wish == "off", address=address)
        elif wish in ("need", "need-not"):
            needed = wish == "need"
            await people.change_user(view.person, user, code_needed=needed, address=address)
        elif wish == "factor":
            await people.factors.remove(view.who, user, address)
        elif wish == "role":
            await people.change_user(view.person, user, roles=(_grant(form),), address=address)
        else:
            raise InvalidInput("the form says nothing", hint="load the page again")
    except OutlastError as error:
        return await _users(view, error)
    return redirect("/users", view)


def _grant(form: Form) -> Grant:
    return Grant(form["role"], form["pool"])


# ---- one's own


@router.get("/me")
async def me(view: Annotated[View, page()]) -> Response:
    return await _me(view)


async def _me(
    view: View, error: OutlastError | None = None, made: str = "", form: Form = EMPTY
) -> Response:
    people, owner = view.manager.people, owner_of(view.caller)
    values: dict[str, Any] = {
        "tokens": await people.tokens(owner), "sessions": await people.sessions(owner),
        "factor": await people.factors.of(owner),
        "roles": ROLES, "names": {e.id: e.name for e in view.manager.reads.pools()
                                  if view.scope.touches(e.id)},
        "made": made, "form": form, "error": error,
    }  # fmt: skip
    return whole(view, "me.html", at=error.status if error else 200, **values)


@router.post("/me/tokens")
async def add_token(view: Annotated[View, page()]) -> Response:
    form, owner = await form_of(view.request), owner_of(view.caller)
    try:
        if view.person.token:
            raise Refused("a token makes no tokens", hint="sign in")
        days = form.number("days", 90)
        token, _ = await view.manager.people.add_token(
            view.person, owner, form["name"], (_grant(form),), days, view.caller.address
        )
    except OutlastError as error:
        return await _me(view, error, form=form)
    return await _me(view, made=token)


@router.post("/me/tokens/{token}/remove")
async def remove_token(token: str, view: Annotated[View, page()]) -> Response:
    people = view.manager.people
    if token not in {row.id for row in await people.tokens(owner_of(view.caller))}:
        raise NotFound(f"there is no token '{token[:80]}'")
    await people.remove_token(view.person, token, view.caller.address)
    return redirect("/me", view)


@router.post("/me/sessions/{session}/end")
async def end_session(session: str, view: Annotated[View, page()]) -> Response:
    """One of your own: a browser that you left somewhere."""
    people, caller = view.manager.people, view.caller
    await people.end_session(owner_of(caller), session, view.who, caller.address)
    return redirect("/me", view)


@router.post("/me/password")
async def password(view: Annotated[View, page()]) -> Response:
    """Your own; all your sessions end."""
    form = await form_of(view.request)
    try:
        if form.raw("new") != form.raw("again"):
            raise InvalidInput("the two new passwords differ", hint="type the same one twice")
        await own_password(view.caller, form.raw("old"), form.raw("new"))
    except OutlastError as error:
        return await _me(view, error)
    return redirect("/sign-in", view)
