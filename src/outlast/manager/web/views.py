"""Saved views: addresses of the list of VMs that a person gave names to.

They are the person's own; the address itself can be given to anybody.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from outlast.errors import InvalidInput
from outlast.manager.repository import views
from outlast.manager.web.filters import filter_of
from outlast.manager.web.forms import form_of
from outlast.manager.web.gate import View, page
from outlast.manager.web.render import redirect

router = APIRouter()
NAME_MAX = 40


async def kept(view: View) -> dict[str, str]:
    """Addresses by name."""
    return await view.manager.repository.read(lambda c: views.of(c, view.who))


@router.post("/vms/views")
async def keep_view(view: Annotated[View, page()]) -> Response:
    form = await form_of(view.request)
    name, at = form["name"], filter_of(form["at"]).path(page=1)
    if not 0 < len(name) <= NAME_MAX or not name.isprintable():
        raise InvalidInput(f"a view has a name of 1 to {NAME_MAX} characters", hint="give it one")
    await view.manager.repository.write(lambda c: views.keep(c, view.who, name, at))
    return redirect(at, view)


@router.post("/vms/views/forget")
async def forget_view(view: Annotated[View, page()]) -> Response:
    form = await form_of(view.request)
    await view.manager.repository.write(lambda c: views.forget(c, view.who, form["name"]))
    return redirect(filter_of(form["at"]).path(), view)
