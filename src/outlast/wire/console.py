"""The client's end of a VM's serial console or screen: a web socket, binary both ways.

Binary messages are the serial line, or the VNC (RFB) of the screen; one text message before the
end says why it ended. It knows nothing of terminals; the command line and the agent that stands
in between use it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import quote

import aiohttp

from outlast.model import Line
from outlast.wire import websocket
from outlast.wire.target import Target
from outlast.wire.websocket import ClientSocket


@asynccontextmanager
async def connect(
    target: Target, vm: str, what: Line = "console", *, context: ssl.SSLContext | None = None,
    server_name: str = "",
) -> AsyncIterator[ClientSocket]:  # fmt: skip
    """An open web socket to the `console` or `screen` of a VM; see websocket.connect."""
    path = f"/v1/vms/{quote(vm, safe='')}/{what}"
    there = websocket.connect(target, path, what=what, context=context, server_name=server_name)
    async with there as socket:
        yield socket


async def pump(
    socket: ClientSocket,
    outgoing: asyncio.Queue[bytes | None],
    incoming: Callable[[bytes], None],
) -> str:
    """Carry bytes both ways until an end; returns why, "" when this side ended it (a None)."""

    ours = False

    async def send() -> None:
        nonlocal ours
        while (data := await outgoing.get()) is not None:
            await socket.send_bytes(data)
        ours = True
        await socket.close()

    sender = asyncio.create_task(send())
    why = "the connection to the console broke"
    try:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                incoming(message.data)
            elif message.type is aiohttp.WSMsgType.TEXT:
                why = message.data
            elif message.type is aiohttp.WSMsgType.ERROR:
                break
    finally:
        sender.cancel()
    return "" if ours else why
