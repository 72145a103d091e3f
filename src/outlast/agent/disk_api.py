"""The part of the agent's API that is about disks of VMs: snapshots, backups, moves to another
storage, templates, VMs out of backups, and domains to be adopted.

Rules:
1. Work on disks is done by the host that holds the VM's lease. A call that comes to another one is
   handed on to it (RELAYED), once: who was handed a call answers it, whatever he finds.
2. What lies on one host alone, like its foreign domains, is asked for with ?host=NAME, and handed
   on in the same way.
3. Questions read files; all of it goes through worker threads.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web
from pydantic import BaseModel

from outlast.agent.adopting import Adopting
from outlast.agent.api import Api, Place
from outlast.agent.backups import Backups
from outlast.agent.casting import Casting
from outlast.agent.deploying import Deploying
from outlast.agent.disk_moves import DiskMoves
from outlast.agent.hostfile import var_dir
from outlast.agent.peers import FOR, AgentPeers
from outlast.agent.replies import json_of
from outlast.agent.restoring import Restoring
from outlast.agent.scheduling import Scheduling
from outlast.agent.snapshots import Snapshots
from outlast.errors import NotFound
from outlast.wire.backups import RestoreWish, ScheduleWish
from outlast.wire.disks import AdoptWish, BackupWish, DiskMoveWish, SnapshotWish
from outlast.wire.shapes import parse
from outlast.wire.templates import TemplateDeploy, TemplateOfVm, TemplateWish

log = logging.getLogger("outlast.agent.server")

VM = "/v1/vms/{name}"
FOREIGN, NEW = "/v1/foreign", "/v1/vms/{new}/restore"
RELAYED = frozenset(
    {("POST", f"{VM}/snapshots"), ("DELETE", f"{VM}/snapshots/{{snapshot}}"), ("GET", FOREIGN),
     ("GET", f"{FOREIGN}/{{domain}}"), ("POST", f"{FOREIGN}/{{domain}}/adopt")}
    | {(method, f"{VM}/{what}") for method in ("POST", "GET", "DELETE")
       for what in ("backup", "disk-move", "template")}
    | {(method, NEW) for method in ("POST", "GET", "DELETE")}
)  # fmt: skip

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class DiskApi:
    """Handlers of these calls; lives on the server's event loop."""

    def __init__(
        self, api: Api, blocking: Callable[..., Awaitable[object]], peers: AgentPeers
    ) -> None:
        service = api.service
        self._api, self._peers = api, peers
        self.snapshots, self.backups = Snapshots(service, api.wishes), Backups(service)
        self.adopting = Adopting(service, api.wishes, var_dir() / "adopted")
        self.moves = DiskMoves(service, api.wishes)
        self.deploying, self.casting = Deploying(service, api.wishes), Casting(service)
        self.restoring, self.scheduling = Restoring(service, api.wishes), Scheduling(service)
        self._blocking = blocking

    def routes(self) -> list[web.RouteDef]:
        return [
            web.route(route.method, route.path, self._relayed(route.handler))
            if (route.method, route.path) in RELAYED else route
            for route in self._routes()
        ]  # fmt: skip

    def _place_of(self, request: web.Request) -> Place | None:
        """The other host that has to answer; None: this one. Raises NotFound, PoolTrouble."""
        if FOR in request.headers or "here" in request.query:
            return None
        if host := request.query.get("host", ""):
            return self._api.place_of(host)
        vm = request.match_info.get("name", "")
        return self._api.home(vm) if vm and self._peers.able else None

    def _relayed(self, handler: Handler) -> Handler:
        """Rules 1 and 2."""

        async def handle(request: web.Request) -> web.StreamResponse:
            place = self._place_of(request)
            if place is None:
                return await handler(request)
            body = await request.read()
            log.info("%s %s is handed on to %s", request.method, request.path, place.host)
            status, said = await self._peers.forward(
                place, request.method, request.rel_url.raw_path, body
            )
            if status == NotFound.status and request.method == "GET":
                return await handler(request)  # done here while it stood still, before its start
            return web.Response(body=said, status=status, content_type="application/json")

        return handle

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{VM}/snapshots", self._list),
            web.post(f"{VM}/snapshots", self._create),
            web.post(f"{VM}/snapshots/{{snapshot}}/revert", self._revert),
            web.delete(f"{VM}/snapshots/{{snapshot}}", self._remove),
            web.post(f"{VM}/backup", self._begin),
            web.get(f"{VM}/backup", self._status),
            web.delete(f"{VM}/backup", self._give_up),
            web.post(f"{VM}/disk-move", self._move),
            web.get(f"{VM}/disk-move", self._moving),
            web.delete(f"{VM}/disk-move", self._stay),
            web.post(f"{VM}/template", self._cast),
            web.get(f"{VM}/template", self._casting),
            web.delete(f"{VM}/template", self._cast_no_more),
            web.get("/v1/templates", self._templates),
            web.post("/v1/templates", self._make_template),
            web.delete("/v1/templates/{template}", self._remove_template),
            web.post("/v1/templates/{template}/deploy", self._deploy),
            web.get(FOREIGN, self._foreign),
            web.get(f"{FOREIGN}/{{domain}}", self._look),
            web.post(f"{FOREIGN}/{{domain}}/adopt", self._adopt),
            web.post(NEW, self._restore),
            web.get(NEW, self._restoring),
            web.delete(NEW, self._restore_no_more),
            web.get("/v1/schedules", self._schedules),
            web.put(f"{VM}/schedule", self._schedule),
            web.delete(f"{VM}/schedule", self._unschedule),
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
        return json_of(self.backups.status(request.match_info["name"]))

    async def _give_up(self, request: web.Request) -> web.Response:
        return await self._done(lambda: self.backups.give_up(request.match_info["name"]))

    async def _move(self, request: web.Request) -> web.Response:
        vm, wish = request.match_info["name"], parse(DiskMoveWish, await request.read())
        return await self._done(lambda: self.moves.begin(vm, wish), 202)

    async def _moving(self, request: web.Request) -> web.Response:
        return json_of(self.moves.status(request.match_info["name"]))

    async def _stay(self, request: web.Request) -> web.Response:
        return await self._done(lambda: self.moves.give_up(request.match_info["name"]))

    async def _cast(self, request: web.Request) -> web.Response:
        vm, wish = request.match_info["name"], parse(TemplateOfVm, await request.read())
        return await self._done(lambda: self.casting.begin(vm, wish), 202)

    async def _casting(self, request: web.Request) -> web.Response:
        return json_of(self.casting.status(request.match_info["name"]))

    async def _cast_no_more(self, request: web.Request) -> web.Response:
        return await self._done(lambda: self.casting.give_up(request.match_info["name"]))

    async def _templates(self, _: web.Request) -> web.Response:
        return await self._list_of(self.deploying.all)

    async def _make_template(self, request: web.Request) -> web.Response:
        wish = parse(TemplateWish, await request.read())
        return await self._done(lambda: self.deploying.create(wish), 201)

    async def _remove_template(self, request: web.Request) -> web.Response:
        name = request.match_info["template"]
        return await self._done(lambda: self.deploying.remove(name))

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

    async def _restore(self, request: web.Request) -> web.Response:
        vm, wish = request.match_info["new"], parse(RestoreWish, await request.read())
        return await self._done(lambda: self.restoring.begin(vm, wish), 202)

    async def _restoring(self, request: web.Request) -> web.Response:
        return json_of(self.restoring.status(request.match_info["new"]))

    async def _restore_no_more(self, request: web.Request) -> web.Response:
        return await self._done(lambda: self.restoring.give_up(request.match_info["new"]))

    async def _schedules(self, _: web.Request) -> web.Response:
        return await self._list_of(self.scheduling.all)

    async def _schedule(self, request: web.Request) -> web.Response:
        vm, wish = request.match_info["name"], parse(ScheduleWish, await request.read())
        return await self._done(lambda: self.scheduling.set(vm, wish))

    async def _unschedule(self, request: web.Request) -> web.Response:
        return await self._done(lambda: self.scheduling.remove(request.match_info["name"]))

    async def _list_of(self, ask: Callable[[], Sequence[BaseModel]]) -> web.Response:
        found = await self._blocking(ask)
        assert isinstance(found, list)
        text = json.dumps([one.model_dump() for one in found])
        return web.Response(text=text, content_type="application/json")

    async def _done(self, act: Callable[[], BaseModel], status: int = 200) -> web.Response:
        done = await self._blocking(act)
        assert isinstance(done, BaseModel)
        log.info("%s", getattr(done, "sentence", ""))
        return json_of(done, status)
