"""The serial console of a VM in the browser: a page, a one-time ticket, a tunnel to an agent.

Rules:
1. A ticket is good once, for half a minute, for the person who got it and for one VM. The tunnel
   needs it, the session's cookie and an Origin that is this one; the right is asked again then.
2. Binary messages are the serial line, both ways. One text before the end says why it ended.
3. It ends with the session, and when nobody typed for half an hour. Opening and end are in the
   audit.
4. After a migration or a restart elsewhere the page asks for another ticket by itself.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import Annotated

from fastapi import APIRouter, Response, WebSocket
from starlette.websockets import WebSocketDisconnect

from outlast.errors import OutlastError
from outlast.manager.ports import COOKIE, Person
from outlast.manager.service import Manager
from outlast.manager.web.gate import View, page
from outlast.manager.web.render import fragment, frame, html
from outlast.manager.web.tunnel import Ticket, pump

router = APIRouter()
REFUSED, ENDED = 4403, 4503  # close codes: not to be tried again, and to be tried again


@router.get("/pools/{pool}/vms/{vm}/console")
async def console_page(pool: str, vm: str, view: Annotated[View, page("console")]) -> Response:
    nonce = secrets.token_urlsafe(16)
    item = view.manager.reads.vm(view.caller.pool_id, view.caller.vm)
    entry = view.manager.reads.pool(view.caller.pool_id)
    values = frame(view) | {"vm": item.vm, "entry": entry, "nonce": nonce}
    return html(fragment("terminal.html", **values), nonce=nonce)


@router.post("/pools/{pool}/vms/{vm}/console")
async def console_ticket(pool: str, vm: str, view: Annotated[View, page("console")]) -> Response:
    word = view.room.tickets.make(view.who, view.caller.pool_id, view.caller.vm)
    return Response(word, media_type="text/plain")


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
    await manager.people.audit(person, "console", object_, address=address, sentence="opened")
    try:
        async with socket.app.state.web.dial(manager, place.pool_id, place.vm) as far:
            why = await pump(manager, socket, far, moved)
    except OutlastError as error:
        why = error.sentence
    finally:
        sentence = f"ended after {moved[0]} bytes: {why}"
        await manager.people.audit(person, "console", object_, address=address, sentence=sentence)
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.send_text(why)
        await socket.close(ENDED)
