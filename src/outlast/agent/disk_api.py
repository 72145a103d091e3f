"""The part of the agent's API that is about disks of VMs: snapshots, backups, templates, and
domains to be adopted.

Rules:
1. Everything here runs on the host that may touch the disks; another one is named, not asked.
2. Questions read files; all of it goes through worker threads.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web
from pydantic import BaseModel

from outlast.agent.adopting import Adopting
from outlast.agent.api import Api
from outlast.agent.backups import Backups
from outlast.agent.deploying import Deploying
from outlast.agent.hostfile import var_dir
from outlast.agent.snapshots import Snapshots
from outlast.wire.disks import AdoptWish, BackupWish, SnapshotWish
from outlast.wire.shapes import parse
from outlast.wire.templates import TemplateDeploy

log = logging.getLogger("outlast.agent.server")


class DiskApi:
    """Handlers of these calls; lives on the server's event loop."""

    def __init__(self, api: Api, blocking: Callable[..., Awaitable[object]]) -> None:
        service = api.service
        self.snapshots, self.backups = Snapshots(service), Backups(service)
        self.adopting = Adopting(service, api.wishes, var_dir() / "adopted")
        self.deploying = Deploying(service, api.wishes)
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
            web.get("/v1/templates", self._templates),
            web.post("/v1/templates/{template}/deploy", self._deploy),
            web.get("/v1/foreign", self._foreign),
            web.get("/v1/foreign/{domain}", self._look),
            web.post("/v1/foreign/{domain}/adopt", self._adopt),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        vm = request.match_info["name"]
        return await self._list_of(lambda: self.snapshots.all(vm))

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

    async def _templates(self, _: web.Request) -> web.Response:
        return await self._list_of(self.deploying.all)

    async def _deploy(self, request: web.Request) -> web.Response:
        template, wish = request.match_info["template"], parse(TemplateDeploy, await request.read())
        return await self._done(lambda: self.deploying.deploy(template, wish), 201)

    async def _foreign(self, _: web.Request) -> web.Response:
        return await self._list_of(self.adopting.all)

    async def _look(self, request: web.Request) -> web.Response:
        return await self._done(lambda: self.adopting.look(request.match_info["domain"]))

    async def _adopt(self, request: web.Request) -> web.Response:
        domain, wish = request.match_info["domain"], parse(AdoptWish, await request.read())
        return await self._done(lambda: self.adopting.adopt(domain, wish), 201)

    async def _list_of(self, ask: Callable[[], Sequence[BaseModel]]) -> web.Response:
        found = await self._blocking(ask)
        assert isinstance(found, list)
        text = json.dumps([one.model_dump() for one in found])
        return web.Response(text=text, content_type="application/json")

    async def _done(self, act: Callable[[], BaseModel], status: int = 200) -> web.Response:
        done = await self._blocking(act)
        assert isinstance(done, BaseModel)
        log.info("%s", getattr(done, "sentence", ""))
        return _json(done, status)


def _json(shape: BaseModel, status: int = 200) -> web.Response:
    return web.Response(
        text=shape.model_dump_json(), status=status, content_type="application/json"
    )
