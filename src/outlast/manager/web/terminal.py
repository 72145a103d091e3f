"""The serial console and the screen of a VM in the browser: a page, a ticket, a tunnel.

Rules:
1. A ticket is good once, for half a minute, for the person who got it, for one VM and for either
   its console or its screen. The tunnel needs it, the session's cookie and an Origin that is this
   one; the right is asked again then.
2. Binary messages are the serial line or VNC (RFB), both ways. One text before the end says why.
3. It ends with the session, and when nobody typed for half an hour. Opening and end are in the
   audit.
4. After a migration or a restart elsewhere the page asks for another ticket by itself.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Response, WebSocket
from starlette.websockets import WebSocketDisconnect

from outlast.errors import OutlastError
from outlast.manager.ports import COOKIE, Person
from outlast.manager.service import Manager
from outlast.manager.web.gate import View, page
from outlast.manager.web.render import fragment, frame, html
from outlast.manager.web.static import FILES
from outlast.manager.web.tunnel import Ticket, pump
from outlast.model import Line

router = APIRouter()
MODULES = [name for name in FILES if name.startswith("vendor/novnc/")]
REFUSED, ENDED = 4403, 4503  # close codes: not to be tried again, and to be tried again


@router.get("/pools/{pool}/vms/{vm}/console")
async def console_page(pool: str, vm: str, view: Annotated[View, page("console")]) -> Response:
    nonce = secrets.token_urlsafe(16)
    return html(fragment("terminal.html", nonce=nonce, **_values(view)), nonce=nonce)


@router.get("/pools/{pool}/vms/{vm}/screen")
async def screen_page(pool: str, vm: str, view: Annotated[View, page("console")]) -> Response:
    return html(fragment("screen.html", modules=MODULES, **_values(view)))


@router.post("/pools/{pool}/vms/{vm}/console")
async def console_ticket(pool: str, vm: str, view: Annotated[View, page("console")]) -> Response:
    return _ticket(view, "console")


@router.post("/pools/{pool}/vms/{vm}/screen")
async def screen_ticket(pool: str, vm: str, view: Annotated[View, page("console")]) -> Response:
    return _ticket(view, "screen")


def _values(view: View) -> dict[str, Any]:
    item = view.manager.reads.vm(view.caller.pool_id, view.caller.vm)
    return frame(view) | {"vm": item.vm, "entry": view.manager.reads.pool(view.caller.pool_id)}


def _ticket(view: View, what: Line) -> Response:
    caller = view.caller
    word = view.room.tickets.make(view.who, caller.pool_id, caller.vm, what)
    host = view.manager.reads.vm(caller.pool_id, caller.vm).vm.host
    return Response(word, media_type="text/plain", headers={"X-Host": host})


@router.websocket("/console")
async def tunnel(socket: WebSocket, ticket: str = "") -> None:
    manager: Manager = socket.app.state.manager
    origin = socket.headers.get("origin", "")
    person = await manager.people.session(socket.cookies.get(COOKIE, ""))
    if person is None or origin.partition("://")[2] != socket.headers.get("host", "-"):
        await socket.close(REFUSED)
        return
    found = socket.app.state.web.tickets.take(ticket, person.name)
    if found is None or not manager.people.may(person, "console", found.pool_id, found.vm):
        await socket.close(REFUSED)
        return
    await socket.accept()
    await _serve(manager, socket, person, found)


async def _serve(manager: Manager, socket: WebSocket, person: Person, place: Ticket) -> None:
    address = socket.client.host if socket.client else ""
    object_, moved, why = f"{place.pool_id}/{place.vm}", [0], "the browser ended it"
    await manager.people.audit(
        person, "console", object_, address=address, sentence=f"{place.what} opened"
    )
    try:
        async with socket.app.state.web.dial(manager, place.pool_id, place.vm, place.what) as far:
            why = await pump(manager, socket, far, place.what, moved)
    except OutlastError as error:
        why = error.sentence
    finally:
        sentence = f"{place.what} ended after {moved[0]} bytes: {why}"
        await manager.people.audit(person, "console", object_, address=address, sentence=sentence)
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.send_text(why)
        await socket.close(ENDED)
