"""Rolling maintenance in the browser: choose, see what would happen, follow it, say what is done.

Rules:
1. The page shows the pool's round, whoever began it: close the laptop, look elsewhere.
2. Before it begins, each host's turn is worked out as things are now; the round works it out anew
   when it is that host's turn, and stops rather than do harm.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Response

from outlast.errors import InvalidInput, NotFound, OutlastError
from outlast.manager.api import rolling as api
from outlast.manager.ports import PoolEntry
from outlast.manager.web.forms import Form, form_of
from outlast.manager.web.gate import View, page
from outlast.manager.web.render import TEMPLATES, fragment, html, pool_path, redirect
from outlast.manager.web.render import page as whole
from outlast.readiness.rolling import Round, order
from outlast.wire.shapes import make

router = APIRouter()
EMPTY = Form([])


@router.get("/pools/{pool}/rolling")
async def rolling(pool: str, view: Annotated[View, page("see")]) -> Response:
    """The round that is open; else the last one, and a form for the next."""
    if view.partial == "cli":  # somebody fills the form: what would the command be now
        given = Form(list(view.request.query_params.multi_items()))
        values = {"path": view.request.url.path, "command": command(given)}
        return html(fragment("_cli.html", **values))
    return await _rolling(view)


async def _rolling(
    view: View, form: Form = EMPTY, error: OutlastError | None = None
) -> Response:  # fmt: skip
    entry = view.manager.reads.pool(view.caller.pool_id)
    try:
        found = await view.manager.rounds.of(entry.id)
    except NotFound:
        found = None
    values = _values(view, entry, found)
    if values["may"] and (found is None or not found.open):
        plan = await _plan(view, entry)
        hosts = [("host", turn.host) for turn in plan["turns"]]
        said = command(form or Form([*hosts, ("bring_back", "1")]))
        values |= plan | {"form": form, "command": said}
    live = urlencode({"page": f"rolling?pool={entry.id}"}) if found is not None else ""
    status = error.status if error else 200
    return whole(view, "rolling.html", at=status, live=live, error=error, **values)


async def rolling_fragment(view: View, looked: Mapping[str, str]) -> dict[str, str]:
    """Raises NotFound: no such pool, or no round of it yet."""
    entry = view.manager.reads.pool(looked.get("pool", ""))
    if not view.may("see", entry.id):
        return {}
    found = await view.manager.rounds.of(entry.id)
    return {"rolling": fragment("_rolling.html", **_values(view, entry, found))}


def _values(view: View, entry: PoolEntry, found: Round | None) -> dict[str, Any]:
    may = view.may("maintain", entry.id)
    return {"entry": entry, "round": found, "view": view, "csrf": view.csrf, "may": may}


async def _plan(view: View, entry: PoolEntry) -> dict[str, Any]:
    """Each host's turn, in the order of the round; and those that can have none now, with why."""
    fit = [h.name for h in entry.status.hosts if h.state == "member" and not h.maintenance]
    unfit = [(h.name, h.sentence) for h in entry.status.hosts if h.name not in fit]
    turns, refused = [], None
    try:
        if fit:
            turns = await view.room.foresight.rolling(entry.id, order(entry.status, fit))
    except OutlastError as trouble:
        refused = trouble
    return {"turns": turns, "unfit": unfit, "refused": refused}


@router.post("/pools/{pool}/rolling")
async def begin(pool: str, view: Annotated[View, page("maintain")]) -> Response:
    form = await form_of(view.request)
    chosen = form.all("host")
    try:
        if not chosen:
            raise InvalidInput("no host is chosen", hint="tick at least one")
        body = make(
            api.RollingBody, hosts=chosen, why=form["why"], until=form["until"] or "said",
            bring_back=bool(form["bring_back"]), at_risk=bool(form["at_risk"]),
        )  # fmt: skip
        await api.begin(pool, body, view.caller)
    except OutlastError as error:
        return await _rolling(view, form, error)
    return _back(view)


@router.post("/pools/{pool}/rolling/said")
async def said(pool: str, view: Annotated[View, page("maintain")]) -> Response:
    form = await form_of(view.request)
    return await _then(view, lambda: api.said(pool, _said(form), view.caller))


@router.post("/pools/{pool}/rolling/go-on")
async def go_on(pool: str, view: Annotated[View, page("maintain")]) -> Response:
    return await _then(view, lambda: api.go_on(pool, view.caller))


@router.post("/pools/{pool}/rolling/end")
async def end(pool: str, view: Annotated[View, page("maintain")]) -> Response:
    return await _then(view, lambda: api.end(pool, view.caller))


def _said(form: Form) -> api.SaidBody:
    """Raises BadField."""
    return make(api.SaidBody, host=form["host"])


async def _then(view: View, act: Callable[[], Awaitable[Round]]) -> Response:
    """The page with what came of it, or with why it was refused."""
    try:
        await act()
    except OutlastError as error:
        return await _rolling(view, error=error)
    return _back(view)


def _back(view: View) -> Response:
    entry = view.manager.reads.pool(view.caller.pool_id)
    return redirect(f"{pool_path(entry)}/rolling", view)


def command(form: Form) -> str:
    names = "".join(f" {shlex.quote(name)}" for name in form.all("host"))
    said = "outlast pool maintain-all" + names
    said += f" --why {shlex.quote(form['why'])}" if form["why"] else ""
    said += " --until reboot" if form["until"] == "reboot" else ""
    said += "" if form["bring_back"] else " --no-bring-back"
    return said + (" --at-risk" if form["at_risk"] else "")


def turn_of(round_: Round, number: int) -> tuple[str, str]:
    """How far that host is: tone, and words."""
    if number < round_.at or round_.phase == "done":
        return "ok", "done"
    if number > round_.at or round_.phase == "ended":
        return "off", "not begun" if round_.phase == "ended" else "waits for its turn"
    if round_.stopped:
        return "bad", "stopped"
    words = {"begins": "is next", "empties": "is being emptied", "work": "may be worked on",
             "returns": "comes back"}  # fmt: skip
    return "busy" if round_.phase != "work" else "info", words[round_.phase]


TEMPLATES.globals["turn_of"] = turn_of
