"""Who looks at a page: the API's own gate, and what a page needs besides.

A form sends the session's token in the field `csrf`, as a page without scripts cannot set a header.
The API's gate holds it against the session; nothing here decides about rights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Depends, Request

from outlast.manager.api.gate import Caller, enrolling, logged_in, needs
from outlast.manager.ports import COOKIE, Person, Scope
from outlast.manager.service import Manager
from outlast.manager.web.room import Room


@dataclass(frozen=True, slots=True)
class View:
    """One look at one page."""

    request: Request
    caller: Caller
    csrf: str

    @property
    def manager(self) -> Manager:
        return self.caller.manager

    @property
    def room(self) -> Room:
        found = self.request.app.state.web
        assert isinstance(found, Room)
        return found

    @property
    def person(self) -> Person:
        return self.caller.person

    @property
    def scope(self) -> Scope:
        return self.caller.scope

    @property
    def who(self) -> str:
        return self.caller.person.name

    def may(self, action: str, pool_id: str = "", vm: str = "") -> bool:
        return self.manager.people.may(self.person, action, pool_id, vm)

    @property
    def partial(self) -> str:
        """Id of the element that a script wants to fill; "" = the whole page is wanted."""
        if self.request.headers.get("hx-request") != "true":
            return ""
        return self.request.headers.get("hx-target", "").partition("#")[2]

    @property
    def scripted(self) -> bool:
        return self.request.headers.get("hx-request") == "true"


def page(action: str = "") -> Any:
    """A dependency for pages: `action` as for the API's `needs`, "" for whoever is signed in."""
    return _view(action, needs(action) if action else logged_in())


def factor_page() -> Any:
    """The same for whoever gets a second factor, signed in or half of it."""
    return _view("", enrolling())


def _view(action: str, gate: Any) -> Any:
    inner = gate.dependency

    async def check(request: Request) -> View:
        caller: Caller = await inner(request)
        request.app.state.web.beats.watch()
        csrf = await caller.manager.people.csrf(request.cookies.get(COOKIE, ""))
        return View(request, caller, csrf)

    check.__dict__["outlast_action"] = action
    return Depends(check)
