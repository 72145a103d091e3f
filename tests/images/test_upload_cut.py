"""An upload whose connection is cut after each byte, those of the request's head included."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from outlast.agent.image_api import ImageApi
from outlast.errors import OutlastError
from outlast.images.pace import tell_share
from outlast.images.share import Share
from outlast.images.uploads import PART, PREFIX, Uploads

SIZE, PIECE, PATIENCE_S = 200, 32, 120


@web.middleware
async def refusing(request: web.Request, handler: Callable[..., object]) -> web.StreamResponse:
    try:
        return await handler(request)  # type: ignore[misc,no-any-return]
    except (OutlastError, ConnectionError) as error:
        return web.Response(status=400, text=str(error))


@pytest.fixture
def pool_dir() -> Iterator[Path]:
    """In memory: each piece is put on the disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        (Path(folder) / "images").mkdir()
        yield Path(folder)


@pytest.fixture
def port(pool_dir: Path) -> Iterator[int]:
    """Of a server with the agent's own handlers."""
    loop, found = asyncio.new_event_loop(), [0]

    async def blocking(act: Callable[[], object]) -> object:
        return await asyncio.to_thread(act)

    async def serve() -> web.AppRunner:
        app = web.Application(middlewares=[refusing])
        app.add_routes(ImageApi(pool_dir, blocking).routes())
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.SockSite(runner, socket.create_server(("127.0.0.1", 0)))
        await site.start()
        found[0] = runner.addresses[0][1]
        return runner

    runner = loop.run_until_complete(serve())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield found[0]
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)


def test_what_has_come_stays_and_the_rest_follows(pool_dir: Path, port: int) -> None:
    data = os.urandom(SIZE)
    uploads, part = Uploads(pool_dir), pool_dir / "images/library" / f"{PREFIX}new" / PART

    def begun() -> int:
        return uploads.begin("new", SIZE, hashlib.sha256(data).hexdigest()).got_bytes

    def request(at: int) -> bytes:
        head = f"PUT /v1/images/new/upload?offset={at} HTTP/1.1\r\nHost: a\r\n"
        return f"{head}Content-Length: {SIZE - at}\r\n\r\n".encode() + data[at:]

    def sent(text: bytes, enough: Callable[[], bool]) -> None:
        """Cut after all of it, when the server has taken what it can."""
        until = time.monotonic() + PATIENCE_S
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(text)
            while not enough():
                assert time.monotonic() < until
                time.sleep(0.001)

    Path(os.environ["OUTLAST_RUN"]).mkdir()
    head = len(request(0)) - SIZE
    for cut in range(head + SIZE):
        tell_share(Share(1.0, PIECE))
        uploads.forget("new")
        begun()
        sent(request(0)[:cut], lambda came=cut - head: begun() > came - PIECE)  # type: ignore[misc]
        got = begun()
        assert part.read_bytes() == data[:got]
        sent(request(got), lambda: begun() == SIZE)
        assert part.read_bytes() == data
