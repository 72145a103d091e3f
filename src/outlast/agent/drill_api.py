"""The part of the agent's API that is about fire drills."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from aiohttp import web

from outlast.agent.replies import json_of
from outlast.agent.service import Drilling
from outlast.storage.drills import DrillRecord
from outlast.wire.drills import DrillInfo, DrillWish
from outlast.wire.shapes import parse

log = logging.getLogger("outlast.agent.server")


class DrillApi:
    """Handlers of these calls; caller: the name of who calls."""

    def __init__(
        self, drills: Drilling, blocking: Callable[..., Awaitable[DrillRecord]],
        caller: Callable[[web.Request], str],
    ) -> None:  # fmt: skip
        self._drills, self._blocking, self._caller = drills, blocking, caller

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/pool/drill", self._last), web.post("/v1/pool/drill", self._begin)]

    async def _last(self, _: web.Request) -> web.Response:
        return _answer(self._drills.newest())

    async def _begin(self, request: web.Request) -> web.Response:
        wish, caller = parse(DrillWish, await request.read()), self._caller(request)
        by = f"{wish.who} through {caller}" if wish.who else caller
        made = await self._blocking(lambda: self._drills.wish(wish.host, wish.kind, wish.vm, by))
        log.info("%s: a drill '%s' of %s", by, made.kind, made.host)
        return _answer(made)


def _answer(drill: DrillRecord) -> web.Response:
    return json_of(DrillInfo.model_validate(asdict(drill)))
