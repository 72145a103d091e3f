"""A VM's serial console or screen over a web socket: from this host, or through to another.

Rules:
1. Binary messages are the serial line, or the screen's VNC (RFB). One text message before the end
   says why it ended.
2. Each direction waits for its other end (no growing buffers). Whoever ends first ends both.
3. One on another host is fetched from that host's agent with this host's own certificate;
   that agent serves it from its hypervisor or not at all, so there are no circles.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import WSMsgType, web

from outlast.agent.api import Place
from outlast.agent.peers import base_url
from outlast.errors import OutlastError, PoolTrouble
from outlast.hypervisor.driver import Console
from outlast.model import Line
from outlast.wire.console import connect
from outlast.wire.target import parse_target
from outlast.wire.websocket import HEARTBEAT_S, MESSAGE_MAX

CHUNK = 16 * 1024
ENDS = {
    "console": "the VM stopped, or somebody else took it",
    "screen": "the VM stopped or moved",
}


@dataclass(frozen=True, slots=True)
class Desk:
    """What serving a console takes: a thread for what blocks, this host's VMs, a way to others."""

    what: Line
    blocking: Callable[[Callable[[], Any]], Awaitable[Any]]
    opened: Callable[[], Console]
    context: ssl.SSLContext | None


async def serve_console(
    desk: Desk, request: web.Request, name: str, place: Place
) -> web.WebSocketResponse:
    """Serve until one side ends. Raises OutlastError before the web socket is open."""
    if place.api:
        return await _through(desk, request, name, place)
    console: Console = await desk.blocking(desk.opened)
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MESSAGE_MAX)
    try:
        await socket.prepare(request)
        reader = _Reader(desk.what, console, socket, asyncio.get_running_loop())
        reader.start()
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                await desk.blocking(partial(console.send, message.data))
            elif message.type is WSMsgType.ERROR:
                break
    except OutlastError as error:
        await _end(socket, error.sentence)
    finally:
        console.close()  # also wakes the reader
    return socket


class _Reader(threading.Thread):
    """Carries the VM's output to the web socket; each piece is sent before the next is read."""

    def __init__(
        self,
        what: Line,
        console: Console,
        socket: web.WebSocketResponse,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(name=what, daemon=True)
        self._console, self._socket, self._loop = console, socket, loop

    def run(self) -> None:
        why = f"the {self.name} has ended: {ENDS[self.name]}"
        with contextlib.suppress(RuntimeError, ConnectionError, asyncio.CancelledError):
            try:
                while data := self._console.recv(CHUNK):
                    self._wait(self._socket.send_bytes(data))
            except OutlastError as error:
                why = error.sentence
            self._wait(_end(self._socket, why))

    def _wait(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()  # type: ignore[arg-type]


async def _through(
    desk: Desk, request: web.Request, name: str, place: Place
) -> web.WebSocketResponse:
    """Connect the caller with the agent of the VM's host."""
    if desk.context is None:
        raise PoolTrouble(
            f"'{name}' runs on {place.host}, and this agent has no certificate to go there with",
            hint=f"ask on {place.host} itself",
        )
    target = parse_target(base_url(place.api))
    there = connect(target, name, desk.what, context=desk.context, server_name=place.host)
    async with there as far:
        near = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MESSAGE_MAX)
        await near.prepare(request)

        async def back() -> None:
            why = f"the connection to {place.host} broke"
            async for message in far:
                if message.type is WSMsgType.BINARY:
                    await near.send_bytes(message.data)
                elif message.type is WSMsgType.TEXT:
                    why = message.data
            await _end(near, why)

        task = asyncio.create_task(back())
        try:
            async for message in near:
                if message.type is WSMsgType.BINARY:
                    await far.send_bytes(message.data)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await task
    return near


async def _end(socket: web.WebSocketResponse, why: str) -> None:
    if not socket.closed:
        with contextlib.suppress(ConnectionError):
            await socket.send_str(why)
        await socket.close()
