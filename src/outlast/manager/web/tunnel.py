"""What a console in the browser is made of: one-time tickets, the way to an agent, two pumps.

A screen is the same, with other bytes.

Bytes are passed on before the next are read, so a slow browser slows the line instead of filling
memory. Who may have a ticket is decided elsewhere (terminal.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from outlast.errors import OutlastError, Unreachable
from outlast.manager.ports import COOKIE
from outlast.manager.service import Manager
from outlast.model import Line
from outlast.wire.console import connect
from outlast.wire.seal import client_context
from outlast.wire.target import parse_target

TICKET_S = 30.0
IDLE_S = 1800.0
LOOK_S = 15.0  # how often the session is looked at
TICKETS_MAX = 1000
TYPED = (b"\x04", b"\x05", b"\x06", b"\xff")  # RFB: key, pointer, clipboard, key of QEMU's


@dataclass(frozen=True, slots=True)
class Ticket:
    who: str
    pool_id: str
    vm: str
    what: Line
    until_s: float


class Tickets:
    """On the manager's event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, Ticket] = {}

    def make(self, who: str, pool_id: str, vm: str, what: Line = "console") -> str:
        now_s = self._clock()
        kept = {k: t for k, t in self._kept.items() if t.until_s > now_s}
        self._kept = dict(list(kept.items())[-TICKETS_MAX:])
        word = secrets.token_urlsafe(24)
        self._kept[word] = Ticket(who, pool_id, vm, what, now_s + TICKET_S)
        return word

    def take(self, word: str, who: str) -> Ticket | None:
        """The ticket, once; None for one that is used, old, unknown or somebody else's."""
        found = self._kept.pop(word, None)
        good = found is not None and found.who == who and found.until_s > self._clock()
        return found if good else None


@contextlib.asynccontextmanager
async def dial(manager: Manager, pool_id: str, vm: str, what: Line) -> AsyncIterator[Any]:
    """The line from the first agent that answers. Raises what it answers, Unreachable."""
    follower = manager.reads.followers.get(pool_id)
    if follower is None:
        raise Unreachable("this manager does not follow the pool", hint="see its log")
    context = await asyncio.to_thread(client_context, follower.link.pki)
    trouble: OutlastError = Unreachable("no address of this pool is known")
    for address in follower.addresses():
        there = connect(parse_target(address), vm, what, context=context)
        try:
            socket = await there.__aenter__()
        except Unreachable as error:
            trouble = error
            continue
        try:
            yield socket
        finally:
            await there.__aexit__(None, None, None)
        return
    raise trouble


async def pump(manager: Manager, socket: WebSocket, far: Any, what: Line, moved: list[int]) -> str:
    """Until one of four things ends it; which one, in a sentence."""
    typed_s = [time.monotonic()]

    async def keys() -> str:
        with contextlib.suppress(WebSocketDisconnect, KeyError):
            while True:
                data = await socket.receive_bytes()
                if what == "console" or data[:1] in TYPED:
                    typed_s[0] = time.monotonic()
                moved[0] += len(data)
                await far.send_bytes(data)
        return "the browser ended it"

    async def line() -> str:
        async for message in far:
            if isinstance(message.data, bytes):
                moved[0] += len(message.data)
                await socket.send_bytes(message.data)
            elif isinstance(message.data, str):
                return message.data
        return "the connection to the VM's host broke"

    async def session() -> str:
        cookie = socket.cookies.get(COOKIE, "")
        while not manager.reads.hub.closed:
            await asyncio.sleep(LOOK_S)
            if await manager.people.session(cookie) is None:
                return "you are signed out"
            if time.monotonic() - typed_s[0] > IDLE_S:
                return "nobody typed for half an hour"
        return "the manager stops"

    running = [asyncio.ensure_future(work()) for work in (keys, line, session)]
    try:
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        return next(iter(done)).result()
    except (ConnectionError, RuntimeError, WebSocketDisconnect):
        return "the connection broke"
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
