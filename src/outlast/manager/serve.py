"""Listens: https by granian, one process, one event loop; ends gracefully on SIGTERM and SIGINT.

Promises:
1. On SIGTERM all streams end at once, calls under way have STOP_S, then the process ends with 0.
2. TLS always; there is no way to listen without it.
3. The page's part (manager/web) is taken in when it is there: `attach(app, reads, acts, people)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import logging
import resource
import signal
import socket
from collections.abc import Callable

from fastapi import FastAPI
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server.embed import Server

from outlast.errors import Conflict
from outlast.manager.api.app import build
from outlast.manager.config import Config, Place, split_address
from outlast.manager.service import Manager

log = logging.getLogger("outlast.manager.serve")

STOP_S = 10.0
STREAMS_MAX = 10_000  # calls at a time; each open stream is one
PAGES = "outlast.manager.web"


async def serve(
    place: Place, config: Config, *, ready: Callable[[str], None] = lambda _: None,
    stop: asyncio.Event | None = None,
) -> None:  # fmt: skip
    """Until a signal comes or `stop` is set. Raises OutlastError saying what is in the way.

    ready: is told the address once this manager listens.
    """
    cert, key = place.tls(config)
    host, port = split_address(config.listen)
    _check_free(host, port)
    ending = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, RuntimeError):  # not in the main thread
            loop.add_signal_handler(number, ending.set)
    _allow_files()
    manager = Manager(place, config)
    await manager.start()
    server = Server(
        pages(build(manager), manager), address=host, port=port, interface=Interfaces.ASGINL,
        http=HTTPModes.auto, ssl_cert=cert, ssl_key=key, log_level=LogLevels.warning,
        websockets=True, backlog=1024, backpressure=STREAMS_MAX,
    )  # fmt: skip
    serving = asyncio.ensure_future(server.serve())
    ended = asyncio.ensure_future(ending.wait())
    try:
        await _listens(host, port, serving)
        ready(f"https://{config.listen}")
        await asyncio.wait([serving, ended], return_when=asyncio.FIRST_COMPLETED)
    finally:
        log.info("stopping")
        manager.reads.hub.close()  # streams end, so that the server has nothing to wait for
        await asyncio.sleep(0)
        server.stop()  # type: ignore[no-untyped-call]
        ended.cancel()
        await asyncio.wait([serving], timeout=STOP_S)
        await manager.stop()
    if serving.done() and (error := serving.exception()) is not None:
        raise Conflict(f"the manager cannot serve: {error}", hint="see its log") from error


def pages(app: FastAPI, manager: Manager) -> FastAPI:
    """The application with the pages, if this installation has them."""
    if importlib.util.find_spec(PAGES) is not None:
        attach = getattr(importlib.import_module(PAGES), "attach", None)
        if attach is not None:
            attach(app, manager.reads, manager.acts, manager.people)
    return app


def _allow_files() -> None:
    """As many open connections as the system allows; the soft limit is made for other programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 2 * STREAMS_MAX), hard), hard))


def _check_free(host: str, port: int) -> None:
    """Raises Conflict when nobody can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Conflict(
                f"the manager cannot listen on {host}:{port}: {error.strerror}",
                hint="does another one run already? see listen in manager.json",
            ) from error


async def _listens(host: str, port: int, serving: asyncio.Future[None]) -> None:
    """Returns when somebody can connect, or when serving has failed."""
    for _ in range(200):
        if serving.done():
            return
        with contextlib.suppress(OSError):
            target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
            _, writer = await asyncio.open_connection(target, port)
            writer.close()
            return
        await asyncio.sleep(0.05)
