"""The part of the agent's API that is about disks of VMs: snapshots and backups.

Rules:
1. Everything here runs on the host that may touch the disks; another one is named, not asked.
2. Questions read files; all of it goes through worker threads.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import BaseModel

from outlast.agent.backups import Backups
from outlast.agent.service import Service
from outlast.agent.snapshots import Snapshots
from outlast.wire.disks import BackupWish, SnapshotWish
from outlast.wire.shapes import parse

log = logging.getLogger("outlast.agent.server")


class DiskApi:
    """Handlers of these calls; lives on the server's event loop."""

    def __init__(self, service: Service, blocking: Callable[..., Awaitable[object]]) -> None:
        self.snapshots, self.backups = Snapshots(service), Backups(service)
        self._blocking = blocking

    def routes(self) -> list[web.RouteDef]:
        vm = "/v1/vms/{name}"
        return [
            web.get(f"{vm}/snapshots", self._list),
            web.post(f"{vm}/snapshots", self._create),
            web.post(f"{vm}/snapshots/{{snapshot}}/revert", self._revert),
            web.delete(f"{vm}/snapshots/{{snapshot}}", self._remove),
            web.post(f"{vm}/backup", self._begin),
            web.get(f"{vm}/backup", self._status),
            web.delete(f"{vm}/backup", self._give_up),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        vm = request.match_info["name"]
        found = await self._blocking(lambda: self.snapshots.all(vm))
        assert isinstance(found, list)
        text = json.dumps([one.model_dump() for one in found])
        return web.Response(text=text, content_type="application/json")

    async def _create(self, request: web.Request) -> web.Response:
        vm, wish = request.match_info["name"], parse(SnapshotWish, await request.read())
        return await self._done(lambda: self.snapshots.create(vm, wish.name, wish.quiesce), 201)

    async def _revert(self, request: web.Request) -> web.Response:
        vm, name = request.match_info["name"], request.match_info["snapshot"]
        return await self._done(lambda: self.snapshots.revert(vm, name))

    async def _remove(self, request: web.Request) -> web.Response:
        vm, name = request.match_info["name"], request.match_info["snapshot"]
        return await self._done(lambda: self.snapshots.remove(vm, name))

    async def _begin(self, request: web.Request) -> web.Response:
        vm, wish = request.match_info["name"], parse(BackupWish, await request.read())
        return await self._done(lambda: self.backups.begin(vm, wish), 202)

    async def _status(self, request: web.Request) -> web.Response:
        return _json(self.backups.status(request.match_info["name"]))

    async def _give_up(self, request: web.Request) -> web.Response:
        return await self._done(lambda: self.backups.give_up(request.match_info["name"]))

    async def _done(self, act: Callable[[], BaseModel], status: int = 200) -> web.Response:
        done = await self._blocking(act)
        assert isinstance(done, BaseModel)
        log.info("%s", getattr(done, "sentence", ""))
        return _json(done, status)


def _json(shape: BaseModel, status: int = 200) -> web.Response:
    return web.Response(
        text=shape.model_dump_json(), status=status, content_type="application/json"
    )
