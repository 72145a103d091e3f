"""The own second factor: a picture for the app, its first code, recovery codes, taken away again.

Rules: the secret is on the page that shows the picture, recovery codes on the one that answers the
first code; neither is shown a second time. A wrong first code leaves the picture as it is.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from outlast.errors import OutlastError
from outlast.manager.api.logins import (
    cookie_for,
    end_factor,
    first_code,
    new_factor,
    picture,
)
from outlast.manager.web.forms import form_of
from outlast.manager.web.gate import View, factor_page
from outlast.manager.web.render import fragment, html, redirect, theme

router = APIRouter()


@router.get("/me/factor")
async def begin_page(view: Annotated[View, factor_page()]) -> Response:
    if (await view.manager.people.factors.of(view.who)).on:
        return redirect("/me")
    return _page(view)


@router.post("/me/factor")
async def begin(view: Annotated[View, factor_page()]) -> Response:
    form = await form_of(view.request)
    try:
        uri = await new_factor(view.caller, form.raw("password"))
    except OutlastError as error:
        return _page(view, error=error)
    return _page(view, uri=uri)


@router.post("/me/factor/confirm")
async def confirm(view: Annotated[View, factor_page()]) -> Response:
    form = await form_of(view.request)
    try:
        codes, session = await first_code(view.caller, view.request, form["code"])
    except OutlastError as error:
        waits = await view.manager.people.factors.waiting(view.who)
        return _page(view, uri=waits, error=error)
    return cookie_for(session, _page(view, codes=codes))


@router.post("/me/factor/remove")
async def remove(view: Annotated[View, factor_page()]) -> Response:
    form = await form_of(view.request)
    try:
        await end_factor(view.caller, form.raw("password"), form["code"])
    except OutlastError as error:
        return _page(view, error=error)
    return redirect("/me")


def _page(
    view: View, *, uri: str = "", codes: list[str] | None = None, error: OutlastError | None = None
) -> Response:
    made = fragment(
        "factor.html", theme=theme(view.request), csrf=view.csrf, fresh=view.caller.fresh,
        uri=uri, picture=picture(uri) if uri else "", codes=codes, error=error,
    )  # fmt: skip
    return html(made, error.status if error else 200)
