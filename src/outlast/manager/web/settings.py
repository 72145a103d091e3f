"""The manager's own settings: what is set and where, what may be changed here, does it work.

Rules: everything goes through the API's own functions. What was tried is told on the page that
answers; a webhook's secret is on the page that answers its making, and nowhere else. What changes
by itself (deliveries, managers, agents) is live, and nobody types in it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Response

from outlast import __version__
from outlast.errors import InvalidInput, OutlastError
from outlast.manager import setup
from outlast.manager.api import hooks as api
from outlast.manager.config import DAYS
from outlast.manager.repository import hooks, records
from outlast.manager.repository.store import HEAD
from outlast.manager.web.forms import Form, form_of
from outlast.manager.web.gate import View, page
from outlast.manager.web.render import fragment, redirect
from outlast.manager.web.render import page as whole

router = APIRouter()
EMPTY = Form([])
LOG = 3  # newest deliveries of each webhook


@router.get("/settings")
async def settings(view: Annotated[View, page("settings")]) -> Response:
    return await _settings(view)


async def _settings(
    view: View, error: OutlastError | None = None, *, told: str = "", secret: str = "",
    form: Form = EMPTY,
) -> Response:  # fmt: skip
    manager = view.manager
    values: dict[str, Any] = await _now(view) | {
        "error": error, "told": told, "secret": secret, "form": form,
        "certificates": await setup.certificates(manager), "now_s": time.time(),
        "looks": manager.directory and manager.directory.looks,
    }  # fmt: skip
    values["days"] = [values["settings"][name] for name in DAYS]
    return whole(
        view, "settings.html", at=error.status if error else 200, live="page=settings", **values
    )


async def settings_fragment(view: View, looked: Mapping[str, str]) -> dict[str, str]:
    """What changes by itself; nobody types in it."""
    values = await _now(view) | {"view": view}
    return {"hooks": fragment("_hooks.html", **values),
            "managers": fragment("_managers.html", **values)}  # fmt: skip


async def _now(view: View) -> dict[str, Any]:
    manager = view.manager
    found = {one.name: one for one in await setup.settings(manager.repository, manager.config)}
    return {
        "settings": found, "managers": await manager.repository.read(records.all_managers),
        "mine": manager.tasks.manager, "leads": manager.leader.leads, "schema": HEAD,
        "version": __version__, "versions": _versions(view), "hooks": await _hooks(view),
        "sqlite": not manager.repository.shared,
    }  # fmt: skip


async def _hooks(view: View) -> list[tuple[hooks.Hook, list[hooks.Delivery]]]:
    """Webhooks with their newest deliveries, for those who may know of them."""
    if not view.may("webhooks"):
        return []
    return await view.manager.repository.read(
        lambda c: [(h, hooks.list_deliveries(c, h.id, 0, LOG)[0]) for h in hooks.all_hooks(c)]
    )


def _versions(view: View) -> list[tuple[str, str, int]]:
    """(pool, version of an agent, how many hosts have it)."""
    return [
        (entry.name, version or "not known", count)
        for entry in view.manager.reads.pools()
        for version, count in sorted(Counter(h.version for h in entry.status.hosts).items())
    ]


@router.post("/settings")
async def change(view: Annotated[View, page("settings")]) -> Response:
    """How long things are kept; an empty field is as manager.json says."""
    form = await form_of(view.request)
    try:
        days = {name: _number(form, name) for name in DAYS if name in form}
        await setup.change(view.manager.repository, view.who, view.caller.address, days)
    except OutlastError as error:
        return await _settings(view, error, form=form)
    return redirect("/settings", view)


def _number(form: Form, name: str) -> int | None:
    if not form[name]:
        return None
    if not form[name].isdecimal() or len(form[name]) > 6:
        raise InvalidInput(f"{name}: {form[name][:40]!r} is no number of days")
    return int(form[name])


@router.post("/settings/try/{what}")
async def try_out(what: str, view: Annotated[View, page("settings")]) -> Response:
    form = await form_of(view.request)
    try:
        told = await setup.try_out(view.manager, what, form["to"], form["name"])
    except OutlastError as error:
        return await _settings(view, error, form=form)
    return await _settings(view, told=told)


@router.post("/settings/webhooks")
async def add_hook(view: Annotated[View, page("webhooks")]) -> Response:
    form = await form_of(view.request)
    try:
        codes = [code.strip() for code in form["codes"].replace(",", " ").split()]
        made = await api.add_hook(api.HookBody(url=form["url"][:1000], codes=codes[:100]),
                                  view.caller)  # fmt: skip
    except OutlastError as error:
        return await _settings(view, error, form=form)
    return await _settings(view, told=f"{made.url} gets what happens from now on",
                           secret=made.secret)  # fmt: skip


@router.post("/settings/webhooks/{webhook}/test")
async def try_hook(webhook: str, view: Annotated[View, page("webhooks")]) -> Response:
    try:
        tried = await api.try_hook(webhook, view.caller)
        if not 200 <= tried.status < 300:
            raise InvalidInput(tried.sentence, hint="it has to answer with 2xx")
    except OutlastError as error:
        return await _settings(view, error)
    return await _settings(view, told=tried.sentence)


@router.post("/settings/webhooks/{webhook}/remove")
async def remove_hook(webhook: str, view: Annotated[View, page("webhooks")]) -> Response:
    try:
        await api.remove_hook(webhook, view.caller)
    except OutlastError as error:
        return await _settings(view, error)
    return redirect("/settings", view)
