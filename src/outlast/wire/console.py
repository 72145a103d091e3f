"""The client's end of a VM's serial console: a web socket with binary messages both ways.

Binary messages are the serial line; one text message before the end says why it ended. It knows
nothing of terminals; the command line and the agent that stands in between use it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import quote

import aiohttp

from outlast.errors import Unreachable
from outlast.wire.client import error_of
from outlast.wire.seal import client_context
from outlast.wire.target import Target, certificates

ClientSocket = aiohttp.ClientWebSocketResponse[bool]
HANDSHAKE_S = 10
MESSAGE_MAX = 1 << 20
HEARTBEAT_S = 20


@asynccontextmanager
async def connect(
    target: Target, vm: str, *, context: ssl.SSLContext | None = None, server_name: str = ""
) -> AsyncIterator[ClientSocket]:
    """An open web socket to the console of a VM.

    context: for https; made from this host's certificates when not given. server_name: whom the
    certificate must name, when it is not the address. Raises what the agent raised, Unreachable.
    """
    if target.socket:
        connector: aiohttp.BaseConnector = aiohttp.UnixConnector(target.socket)
    else:
        connector = aiohttp.TCPConnector(ssl=context or client_context(certificates()))
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=HANDSHAKE_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        url = f"{target.base}/v1/vms/{quote(vm, safe='')}/console"
        named = server_name or None
        try:
            socket = await session.ws_connect(
                url, max_msg_size=MESSAGE_MAX, heartbeat=HEARTBEAT_S, server_hostname=named
            )
        except aiohttp.WSServerHandshakeError as refusal:
            # a refused web socket loses the reason, a plain request brings it
            async with session.get(url, server_hostname=named) as answer:
                raise error_of(await answer.read()) from refusal
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(
                f"no console at {target.text}: {error}", hint="is that agent running?"
            ) from error
        async with socket:
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
