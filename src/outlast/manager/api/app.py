"""The web application: the API, its document, metrics, health, one shape for all errors.

Rules:
1. Every failure is {"error": {code, sentence, hint, field}}, also those of the framework. A bug is
   code "internal"; its traceback goes to the log only. A status of 500 and more has an id in the
   header X-Request-ID, and a line of the log has the same.
2. Nothing is cached by browsers and proxies unless a route says so.
3. /api/v1/health tells no names and needs no login: 200 while this manager can do its work.
"""

from __future__ import annotations

import json
import logging
import math
import re
import secrets

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outlast import __version__
from outlast.errors import InvalidInput, NotFound, OutlastError
from outlast.manager.api import (
    agent_door,
    disks,
    equipment,
    hooks,
    images,
    logins,
    people,
    pools,
    rolling,
    series,
    settings,
    snapshots,
    tasks,
    uploads,
    vms,
)
from outlast.manager.api.answers import ERRORS
from outlast.manager.errors import NotLoggedIn, TooOften
from outlast.manager.metrics import router as metrics_router
from outlast.manager.service import Manager
from outlast.wire.shapes import BadField, error_body

log = logging.getLogger("outlast.manager.api")

BODY_MAX = 1 << 20
PREFIX = "/api/v1"
REQUEST_ID = "X-Request-ID"
UPLOAD = re.compile(rf"{PREFIX}/pools/[^/]+/(agent/v1/)?images/[^/]+/upload$")
AGENT = re.compile(rf"{PREFIX}/pools/[^/]+/agent/")


def build(manager: Manager) -> FastAPI:
    """The application of a manager that has been made; the caller starts and stops it."""
    app = FastAPI(
        title="Outlast manager", version=__version__, openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None, redoc_url=None,
        description="Pools of KVM/QEMU hosts: what they are, and wishes about them.",
    )  # fmt: skip
    app.state.manager = manager
    for part in (
        pools, series, rolling, vms, equipment, images, uploads, tasks, logins, people, hooks,
        settings, snapshots, disks, agent_door,
    ):  # fmt: skip
        app.include_router(part.router, prefix=PREFIX, responses=ERRORS)
    app.include_router(metrics_router)
    app.add_api_route(f"{PREFIX}/health", _health, methods=["GET"], tags=["managers"])
    app.add_exception_handler(OutlastError, _outlast)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _hung_up)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(Bounds)
    return app


class Bounds:
    """Refuses bodies that are too large before they are read; those of images are passed on in
    pieces, and may be of any length."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        most = math.inf if scope["method"] == "PUT" and UPLOAD.match(scope["path"]) else BODY_MAX
        if not length.isdigit() or int(length) > most:
            await _too_large()(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise HTTPException(413, "the body is too large")
            return message

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                more = [(n, v) for n, v in _HEADERS if n not in known]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, counted, told)


_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"strict-transport-security", b"max-age=31536000"),
)


async def _health(request: Request) -> Response:
    manager: Manager = request.app.state.manager
    body = {"ok": not manager.trouble, "sentence": manager.trouble or "it works"}
    status = 503 if manager.trouble else 200
    return Response(json.dumps(body), status, media_type="application/json")


def failure(error: OutlastError, status: int = 0) -> Response:
    """An error as it is sent."""
    body = json.dumps({"error": error_body(error).model_dump()})
    answer = Response(body, status or error.status, media_type="application/json")
    if isinstance(error, NotLoggedIn):
        answer.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooOften):
        answer.headers["Retry-After"] = str(error.wait_s)
    return answer


async def _outlast(request: Request, error: Exception) -> Response:
    assert isinstance(error, OutlastError)
    answer = failure(error)
    if answer.status_code >= 500:
        # no warning: what a pool's agents said, or that they or the database are away, which is
        # told once where it is noticed
        log.info("%s: %s", _named(request, answer), error.sentence)
    return answer


def _named(request: Request, answer: Response) -> str:
    """The request for the log, by an id that the answer has, too."""
    id_ = answer.headers[REQUEST_ID] = secrets.token_hex(6)
    return f"request {id_}, {request.method} {request.url.path}"


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    field = ".".join(place[1:]) if len(place) > 1 else ""
    what = str(first["msg"]).removeprefix("Value error, ")
    what, _, hint = what.partition("; ")
    sentence = f"{field}: {what}" if field else f"the request is not one: {what}"
    if first["type"] == "extra_forbidden":
        sentence = f"there is no field '{field}'"
    return failure(BadField(sentence[:500], hint=hint, field=field[:200]))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code in (404, 405):
        said = f"there is no {request.method} {request.url.path[:200]}"
        if found := AGENT.match(request.url.path):
            call = f"{request.method} /{request.url.path[found.end() :][:200]}"
            hint = "say it to an agent: on a host of the pool, or with --agent https://HOST:7791"
            return failure(NotFound(f"the manager does not pass on {call}", hint=hint))
        return failure(NotFound(said, hint=f"see {PREFIX}/openapi.json"))
    status = 422 if error.status_code == 400 else error.status_code
    return failure(InvalidInput(f"the request is refused: {error.detail}"), status)


async def _hung_up(request: Request, error: Exception) -> Response:
    """Nobody is left to read the answer, and nobody has to do anything about it."""
    log.info("the caller of %s %s hung up", request.method, request.url.path)
    return failure(InvalidInput("the body is not whole", hint="send it again"))


async def _bug(request: Request, error: Exception) -> Response:
    sentence = "the manager failed in a way it does not know"
    answer = failure(OutlastError(sentence, hint="see the log of the manager"))
    log.error("a bug in %s", _named(request, answer), exc_info=error)
    return answer


def _too_large() -> Response:
    sentence = f"the body is larger than {BODY_MAX >> 20} MiB, or its length is none"
    return failure(InvalidInput(sentence), 413)
