"""The part of the agent's API that is about networks for VMs and storage repositories."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from outlast.agent.equipping import Equipping
from outlast.agent.replies import json_list, json_of
from outlast.wire.equipment import NetworkChange, NetworkWish, StorageWish
from outlast.wire.shapes import PoolWish, parse

log = logging.getLogger("outlast.agent.server")


class EquipmentApi:
    """Handlers of these calls; lives on the server's event loop."""

    def __init__(self, equipping: Equipping, blocking: Callable[..., Awaitable[Any]]) -> None:
        self._equipping, self._blocking = equipping, blocking

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/networks", self._networks),
            web.post("/v1/networks", self._create),
            web.patch("/v1/networks/{name}", self._change),
            web.delete("/v1/networks/{name}", self._remove),
            web.get("/v1/storage", self._storage),
            web.post("/v1/storage", self._add),
            web.delete("/v1/storage/{name}", self._take_away),
            web.get("/v1/orphans", self._orphans),
            web.delete("/v1/orphans/{name}", self._delete_orphan),
        ]

    async def _networks(self, _: web.Request) -> web.Response:
        return json_list(await self._blocking(self._equipping.networks))

    async def _create(self, request: web.Request) -> web.Response:
        wish = parse(NetworkWish, await request.read())
        return await self._done(lambda: self._equipping.create_network(wish), 201)

    async def _change(self, request: web.Request) -> web.Response:
        name, change = request.match_info["name"], parse(NetworkChange, await request.read())
        return await self._done(lambda: self._equipping.change_network(name, change))

    async def _remove(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return await self._done(lambda: self._equipping.remove_network(name))

    async def _storage(self, _: web.Request) -> web.Response:
        return json_list(await self._blocking(self._equipping.storage))

    async def _add(self, request: web.Request) -> web.Response:
        wish = parse(StorageWish, await request.read())
        return await self._done(lambda: self._equipping.add_storage(wish), 201)

    async def _take_away(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return await self._done(lambda: self._equipping.remove_storage(name))

    async def _orphans(self, _: web.Request) -> web.Response:
        return json_list(await self._blocking(self._equipping.orphans))

    async def _delete_orphan(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return await self._done(lambda: self._equipping.remove_orphan(name))

    async def _done(self, act: Callable[[], PoolWish], status: int = 200) -> web.Response:
        done = await self._blocking(act)
        log.info("%s", done.sentence)
        return json_of(done, status)
