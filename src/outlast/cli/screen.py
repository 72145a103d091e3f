"""`outlast vm screen`: a VM's screen for a VNC viewer on this machine, over the agents' TLS.

Rules:
1. The viewer's end is a unix socket that only this user can open; nothing listens on a network.
2. Each viewer has a connection of its own, wherever the VM is at that moment: after a move the
   viewer connects again. Each direction waits for its other end.
3. The socket is gone when the command ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import WSMsgType

from outlast.cli.context import say, warn
from outlast.errors import Conflict, OutlastError
from outlast.wire.console import connect
from outlast.wire.target import Target
from outlast.wire.websocket import ClientSocket

CHUNK = 16 * 1024


def run_screen(target: Target, vm: str, path: Path) -> None:
    """Until Ctrl-C. Raises OutlastError when there is no screen to be had, or no socket."""
    asyncio.run(_until_told(target, vm, path))


async def _until_told(target: Target, vm: str, path: Path) -> None:
    async with offered(target, vm, path):
        say(f"the screen of {vm} is at {path}: vncviewer {path}")
        warn("Ctrl-C ends it")
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()


@contextlib.asynccontextmanager
async def offered(target: Target, vm: str, path: Path) -> AsyncIterator[None]:
    """The socket, for as long as the body runs."""
    async with connect(target, vm, "screen"):
        pass  # what is in the way is said now, not to the first viewer

    async def viewer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with connect(target, vm, "screen") as screen:
                await _between(screen, reader, writer)
        except (OutlastError, OSError) as error:
            warn(str(getattr(error, "sentence", error)))
        finally:
            writer.close()

    before = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(viewer, path)
    except OSError as error:
        raise Conflict(f"{path} cannot be made: {error.strerror}", hint="--socket PATH") from error
    finally:
        os.umask(before)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def _between(
    screen: ClientSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Until either side ends."""

    async def typed() -> None:
        while data := await reader.read(CHUNK):
            await screen.send_bytes(data)

    async def seen() -> None:
        async for message in screen:
            if message.type is WSMsgType.BINARY:
                writer.write(message.data)
                await writer.drain()
            elif message.type is WSMsgType.TEXT:
                warn(message.data)

    both = [asyncio.ensure_future(work()) for work in (typed, seen)]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    for task in both:
        task.cancel()
    await asyncio.gather(*both, return_exceptions=True)
