"""Coming and going: the first administrator, signing in with one step or two, signing out.

Rules:
1. Where to go afterwards is a path of this manager; anything else leads to the first page.
2. Forms without a session are safe from other sites by their Origin, which must be this one.
3. What was typed stays, passwords do not; the failure stands above the form.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Request, Response

from outlast.errors import OutlastError, Refused
from outlast.manager.api.gate import address_of, check_forgery, manager_of
from outlast.manager.api.logins import cookie_for
from outlast.manager.outside import BACK, Flow
from outlast.manager.ports import COOKIE, Session
from outlast.manager.sessions import CODE, ENROL
from outlast.manager.web.forms import form_of
from outlast.manager.web.gate import View, page
from outlast.manager.web.render import fragment, html, redirect, theme
from outlast.wire.shapes import BadField

router = APIRouter()
FLOW = "__Host-outlast-flow"  # who is at the provider; strict would not come back with him
FLOW_S = 600


@router.get("/sign-in")
async def sign_in_page(request: Request, next: str = "") -> Response:
    manager = manager_of(request)
    if await manager.people.first_start():
        return redirect("/first-start")
    if await manager.people.session(request.cookies.get(COOKIE, "")) is not None:
        return redirect(inside(next))
    return _form(request, "sign_in.html", next=inside(next))


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    _check_origin(request)
    form, people = await form_of(request), manager_of(request).people
    try:
        session = await people.login(form["name"], form.raw("password"), address_of(request))
    except OutlastError as error:
        known = {"next": inside(form["next"]), "name": form["name"][:80]}
        return _form(request, "sign_in.html", error, **known)
    return _opened(session, inside(form["next"]))


@router.get("/sign-in/code")
async def code_page(request: Request, next: str = "") -> Response:
    people, cookie = manager_of(request).people, request.cookies.get(COOKIE, "")
    if not await people.half(cookie, CODE):
        return redirect("/sign-in")
    csrf = await people.csrf(cookie)
    return _form(request, "sign_in_code.html", next=inside(next), csrf=csrf)


@router.post("/sign-in/code")
async def code(request: Request) -> Response:
    form, people = await form_of(request), manager_of(request).people
    cookie = request.cookies.get(COOKIE, "")
    csrf = await people.csrf(cookie)
    try:
        if not await people.half(cookie, CODE):
            return redirect("/sign-in")
        await check_forgery(request)
        session = await people.code(cookie, form["code"], address_of(request))
    except OutlastError as error:
        return _form(request, "sign_in_code.html", error, next=inside(form["next"]), csrf=csrf)
    return _opened(session, inside(form["next"]))


@router.get("/sign-in/provider")
async def to_provider(request: Request, next: str = "") -> Response:
    """Away to the provider; a cookie remembers that this browser went."""
    provider = manager_of(request).provider
    if provider is None:
        return redirect("/sign-in")
    try:
        address, flow = await provider.begin()
    except OutlastError as error:
        return _form(request, "sign_in.html", error, next=inside(next))
    kept = urlencode({"flow": flow.secret, "next": inside(next)})
    answer = Response(status_code=303, headers={"Location": address})
    answer.set_cookie(
        FLOW, kept, max_age=FLOW_S, secure=True, httponly=True, samesite="lax", path="/"
    )
    return answer


@router.get(BACK)
async def from_provider(request: Request) -> Response:
    """Back from there. The page leads on by itself: a redirect would come without the session's
    cookie, as the way here began at another site."""
    manager = manager_of(request)
    kept = dict(parse_qsl(request.cookies.get(FLOW, "")))
    to = inside(kept.get("next", ""))
    try:
        if manager.provider is None or not kept.get("flow"):
            raise Refused("this login was not begun in this browser", hint="begin it again")
        query = dict(request.query_params)
        outsider = await manager.provider.finish(Flow(kept["flow"]), query)
        session = await manager.people.enter(outsider, address_of(request))
        answer = html(fragment("signed_in.html", theme=theme(request), to=to))
        cookie_for(session, answer)
    except OutlastError as error:
        answer = _form(request, "sign_in.html", error, next=to)
    answer.delete_cookie(FLOW, secure=True, httponly=True, samesite="lax", path="/")
    return answer


@router.get("/first-start")
async def first_start_page(request: Request, code: str = "") -> Response:
    if not await manager_of(request).people.first_start():
        return redirect("/sign-in")
    return _form(request, "first_start.html", code=code[:80])


@router.post("/first-start")
async def first_start(request: Request) -> Response:
    _check_origin(request)
    form, people = await form_of(request), manager_of(request).people
    try:
        if form.raw("password") != form.raw("again"):
            raise BadField(
                "the two passwords differ", hint="type the same one twice", field="again"
            )
        session = await people.set_up(
            form["code"], form["name"], form.raw("password"), address_of(request)
        )
    except OutlastError as error:
        known = {"code": form["code"][:80], "name": form["name"][:80]}
        return _form(request, "first_start.html", error, **known)
    return _opened(session, "/")


@router.post("/sign-out")
async def sign_out(view: Annotated[View, page()]) -> Response:
    await view.manager.people.logout(view.request.cookies.get(COOKIE, ""))
    answer = redirect("/sign-in", view)
    answer.delete_cookie(COOKIE, secure=True, httponly=True, samesite="strict", path="/")
    return answer


def inside(path: str) -> str:
    """The path, when it is one of this manager; else the first page."""
    good = path.startswith("/") and not path.startswith(("//", "/\\", "/sign-"))
    return path if good and path.isprintable() and len(path) < 2000 else "/"


def _opened(session: Session, to: str) -> Response:
    """On to where somebody wanted to go, or to what comes before that."""
    query = urlencode({"next": to})
    way = {CODE: f"/sign-in/code?{query}", ENROL: "/me/factor"}.get(session.stage, to)
    return cookie_for(session, redirect(way))


def _form(
    request: Request, template: str, error: OutlastError | None = None, **known: str
) -> Response:
    values = {"name": "", "code": "", "next": "/", "csrf": ""} | known
    query = urlencode({"next": values["next"]})
    provider = manager_of(request).provider
    label = provider.settings.label if provider else ""
    made = fragment(
        template, theme=theme(request), error=error, query=query, provider=label, **values
    )
    return html(made, error.status if error else 200)


def _check_origin(request: Request) -> None:
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host", ""):
        raise Refused("this form comes out of another site's page")
