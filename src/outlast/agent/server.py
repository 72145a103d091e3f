"""The agent's API on the network: a unix socket for root, mutual TLS for everybody else.

Rules:
1. Who may what: the unix socket (mode 0600, peer is root or the agent's own user) is role admin;
   over TCP the role stands in the caller's certificate. Of the roles in MAY each may do what stands
   there: hosts read, and hand on work on disks to each other (RELAYED); a monitor has its metrics.
   Everything else takes admin or manager.
2. Every refused call is counted (`refused_calls` in the status) and a note (refusals.py).
3. Every failure is JSON: {"error": {code, sentence, hint, field}}. A bug is code "internal", its
   traceback goes to the log only.
4. Nothing that may block runs on the event loop (workers.py), so that the server never hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from outlast.agent.answers import Answers
from outlast.agent.api import Api, Place
from outlast.agent.arrivals import serve_way
from outlast.agent.console import Desk, serve_console
from outlast.agent.disk_api import RELAYED, DiskApi
from outlast.agent.drill_api import DrillApi
from outlast.agent.equipment_api import EquipmentApi
from outlast.agent.equipping import Equipping
from outlast.agent.image_api import ImageApi
from outlast.agent.metrics_api import PATH as METRICS
from outlast.agent.metrics_api import MetricsApi
from outlast.agent.peers import AgentPeers
from outlast.agent.pool_wishes import switch
from outlast.agent.refusals import Refusals
from outlast.agent.replies import failure, json_list, json_of, number_of
from outlast.agent.service import Service
from outlast.agent.workers import Workers
from outlast.errors import Conflict, InvalidInput, NotFound, OutlastError, Refused
from outlast.model import Line
from outlast.wire.seal import client_context, peer_name, peer_role, server_context
from outlast.wire.shapes import (
    HaSwitch,
    HostMaintain,
    HostServe,
    HostWish,
    LocalVms,
    PoolChange,
    PoolStatus,
    PoolWish,
    VmChange,
    VmCreate,
    VmDelete,
    VmMigrate,
    VmWish,
    parse,
)
from outlast.wire.why import Why

log = logging.getLogger("outlast.agent.server")

BODY_MAX = 1 << 20
PROGRESS_S = 0.5
STOP_WAIT_S = 1.0  # for calls under way when the server stops
READS = frozenset(
    {
        ("GET", "/v1/status"), ("GET", "/v1/local"), ("GET", "/v1/vms/{name}/console"),
        ("GET", "/v1/vms/{name}/screen"), ("GET", "/v1/moves/{name}/way"),
    }
)  # fmt: skip
MAY = {"host": READS | RELAYED, "monitor": frozenset({("GET", METRICS)})}
ROLE, CALLER = web.RequestKey("role", str), web.RequestKey("caller", str)
_CREDENTIALS = struct.Struct("3i")

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """One agent's API server; lives on one event loop.

    socket_path: the unix socket. address: "ip:port" for https, "" for none; then `pki` must hold
    ca.pem, cert.pem and cert.key.
    """

    def __init__(
        self, service: Service, socket_path: Path, *, address: str = "", pki: Path | None = None
    ) -> None:
        self.api = Api(service)
        self._refusals, self._answers = Refusals(service.picture.me.host), Answers()
        self.port = 0  # the one that https listens on, once started
        self._socket_path = socket_path
        self._address, self._pki = address, pki
        self._runner: web.AppRunner | None = None
        self._peer_context: ssl.SSLContext | None = None
        self._peers = AgentPeers(None)
        self.contexts: tuple[ssl.SSLContext, ...] = ()  # in use, once started
        self.blocking = Workers().run

    async def start(self) -> None:
        """Listen. Raises OutlastError saying what is in the way."""
        contexts = None
        if self._address and self._pki is not None:
            contexts = server_context(self._pki), client_context(self._pki)
        self._peer_context = contexts[1] if contexts else None
        self._peers = AgentPeers(self._peer_context)
        self.contexts = contexts or ()
        app = web.Application(middlewares=[self._gate], client_max_size=BODY_MAX)
        app.add_routes(self._routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_WAIT_S)
        await self._runner.setup()
        try:
            await web.SockSite(self._runner, self._unix_socket()).start()
            if contexts:
                host, _, port = self._address.rpartition(":")
                site = web.TCPSite(
                    self._runner, host.strip("[]"), int(port), ssl_context=contexts[0]
                )
                await site.start()
                self.port = int(self._runner.addresses[-1][1])
        except (OSError, ValueError) as error:
            await self.stop()
            raise Conflict(
                f"the agent cannot listen: {error}",
                hint="does another agent run already? see api_address in host.json",
            ) from error

    async def stop(self) -> None:
        await self._peers.close()
        if self._runner is not None:
            await self._runner.cleanup()
        with contextlib.suppress(OSError):
            self._socket_path.unlink()

    def _unix_socket(self) -> socket.socket:
        """The listening socket under its name, never open to others, not even for a moment."""
        folder = self._socket_path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        temporary = folder / f".{secrets.token_hex(4)}.sock"
        try:
            listener.bind(str(temporary))  # nobody can connect before it listens
            temporary.chmod(0o600)
            temporary.replace(self._socket_path)
        except OSError:
            listener.close()
            raise
        listener.setblocking(False)
        return listener

    # ---- who may what

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._admit(request)
            return await handler(request)
        except web.HTTPException as error:
            if error.status in {404, 405}:
                return failure(NotFound(f"there is no {request.method} {request.path}"))
            return failure(InvalidInput(f"the request is refused: {error.reason}"), error.status)
        except OutlastError as error:
            if isinstance(error, Refused):
                self._tell_refused(request, error)
            return failure(error)
        except Exception:
            log.exception("a bug in %s %s", request.method, request.path)
            sentence = "the agent failed in a way it does not know"
            return failure(OutlastError(sentence, hint="see the log of outlast-agent"))

    def _tell_refused(self, request: web.Request, error: Refused) -> None:
        caller, call = request.get(CALLER, ""), f"{request.method} {request.path[:80]}"
        log.warning("refused %s: %s", call, error.sentence)
        told = self._refusals.refused(time.monotonic(), caller, call, error.sentence)
        if told is not None:
            self.api.service.tell(told)

    def _admit(self, request: web.Request) -> None:
        """Finds out the caller's role and refuses what it may not do."""
        if "Origin" in request.headers:
            raise Refused("calls out of web pages are not taken")
        role, name = self._caller(request)
        request[ROLE], request[CALLER] = role, name
        resource = request.match_info.route.resource
        call = (request.method, resource.canonical if resource else request.path)
        if role in MAY and call not in MAY[role]:
            raise Refused(
                f"{role} {name} may not {request.method} {request.path}",
                hint="wishes take a certificate with the role admin or manager",
            )

    def _caller(self, request: web.Request) -> tuple[str, str]:
        transport = request.transport
        if transport is None:
            raise Refused("the caller is gone")
        peer: socket.socket = transport.get_extra_info("socket")
        if peer.family == socket.AF_UNIX:
            raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            uid = _CREDENTIALS.unpack(raw)[1]
            if uid not in {0, os.geteuid()}:
                raise Refused(f"user {uid} may not speak to the agent", hint="run it as root")
            return "admin", f"uid {uid}"
        certificate = transport.get_extra_info("peercert")
        return peer_role(certificate), peer_name(certificate)

    # ---- calls

    def _routes(self) -> list[web.RouteDef]:
        vm = "/v1/vms/{name}"
        wishes = self.api.wishes
        return [
            web.get("/v1/status", self._status),
            web.get("/v1/local", self._local),
            web.get("/v1/timeline", self._timeline),
            web.get("/v1/vms", self._vms),
            web.post("/v1/vms", self._create),
            web.get(vm, self._vm),
            web.patch(vm, self._place),
            web.get("/v1/picture", self._picture),
            web.delete(vm, self._delete),
            web.post(f"{vm}/start", self._wish(wishes.start)),
            web.post(f"{vm}/stop", self._wish(wishes.stop)),
            web.post(f"{vm}/kill", self._wish(wishes.kill)),
            web.get(f"{vm}/console", self._line("console")),
            web.get(f"{vm}/screen", self._line("screen")),
            web.post(f"{vm}/ha", self._vm_ha),
            web.post("/v1/pool/ha", self._pool_ha),
            web.post(f"{vm}/migrate", self._migrate),
            web.delete(f"{vm}/migrate", self._wish(wishes.stay)),
            web.get("/v1/moves/{name}/way", self._way),
            web.post("/v1/hosts/{name}/maintenance", self._maintain),
            web.delete("/v1/hosts/{name}/maintenance", self._serve),
            web.post("/v1/hosts/{name}/off", self._confirm_off),
            web.post("/v1/hosts/{name}/leave", self._wish(self.api.host_wishes.leave)),
            web.delete("/v1/hosts/{name}", self._wish(self.api.host_wishes.remove)),
            web.post("/v1/hosts/{name}/power-off", self._wish(self.api.host_wishes.power_off)),
            web.post("/v1/hosts/{name}/power-on", self._wish(self.api.host_wishes.power_on)),
            web.post("/v1/pool/upgrade", self._upgrade),
            web.patch("/v1/pool/settings", self._set),
            web.get(f"{vm}/why", self._why(self.api.why_vm)),
            web.get("/v1/hosts/{name}/why", self._why(self.api.why_host)),
            *DiskApi(self.api, self.blocking, self._peers).routes(),
            *DrillApi(self.api.service.drills, self.blocking, lambda r: r[CALLER]).routes(),
            *EquipmentApi(Equipping(self.api.service), self.blocking).routes(),
            *ImageApi(Path(self.api.service.pool_dir), self.blocking).routes(),
            *MetricsApi(self.api, self._seen, self.blocking).routes(),
        ]

    async def _status(self, request: web.Request) -> web.Response:
        # an agent that asks needs no third one's opinion
        status = await self._seen(request[ROLE] != "host")
        since = request.query.get("since")
        return json_of(status if since is None else self._answers.answer(status, since))

    async def _seen(self, ask_others: bool) -> PoolStatus:
        peers = await self._look(self.api.holders() if ask_others else {})
        return self.api.status(peers, self._refusals.count)

    async def _look(self, places: Mapping[int, Place]) -> dict[int, LocalVms]:
        """What other hosts say, and this one when it has more to say than its picture."""
        peers = await self._peers.look(places)
        if self.api.moving:
            peers[self.api.slot] = await self._local_now()
        return peers

    async def _local_now(self) -> LocalVms:
        """With the progress of moves, when the hypervisor says it soon."""
        if self.api.moving:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(self.blocking(self.api.local), PROGRESS_S)
        return self.api.local(moves=False)

    async def _local(self, _: web.Request) -> web.Response:
        return json_of(await self._local_now())

    async def _vms(self, _: web.Request) -> web.Response:
        return json_list(self.api.vms(await self._look(self.api.holders())))

    async def _vm(self, request: web.Request) -> web.Response:
        name, recent = request.match_info["name"], number_of(request, "recent", 0)
        peers = await self._look(self.api.holders())
        return json_of(await self.blocking(lambda: self.api.vm(name, peers, int(recent))))

    async def _timeline(self, request: web.Request) -> web.Response:
        since, limit = number_of(request, "since", 0), int(number_of(request, "limit", 200))
        until = number_of(request, "until", 0) or math.inf
        return json_list(await self.blocking(lambda: self.api.timeline(since, limit, until)))

    def _why(self, ask: Callable[[str], Why]) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            name = request.match_info["name"]
            return json_of(await self.blocking(lambda: ask(name)))

        return handler

    async def _create(self, request: web.Request) -> web.Response:
        wish = parse(VmCreate, await request.read())
        return self._wished(request, await self.blocking(lambda: self.api.wishes.create(wish)), 201)

    async def _place(self, request: web.Request) -> web.Response:
        name, change = request.match_info["name"], parse(VmChange, await request.read())
        done = await self.blocking(lambda: self.api.wishes.place(name, change))
        return self._wished(request, done)

    async def _picture(self, _: web.Request) -> web.Response:
        return web.Response(text=self.api.picture(), content_type="application/json")

    async def _delete(self, request: web.Request) -> web.Response:
        how = parse(VmDelete, await request.read() or b"{}")
        name = request.match_info["name"]
        done = await self.blocking(lambda: self.api.wishes.delete(name, how))
        return self._wished(request, done)

    async def _vm_ha(self, request: web.Request) -> web.Response:
        off = switch(parse(HaSwitch, await request.read()), request[CALLER], time.time())
        name = request.match_info["name"]
        return self._wished(request, await self.blocking(lambda: self.api.wishes.set_ha(name, off)))

    async def _pool_ha(self, request: web.Request) -> web.Response:
        off = switch(parse(HaSwitch, await request.read()), request[CALLER], time.time())
        return self._wished(request, await self.blocking(lambda: self.api.pool_wishes.set_ha(off)))

    async def _set(self, request: web.Request) -> web.Response:
        wish = parse(PoolChange, await request.read())
        return self._wished(request, await self.blocking(lambda: self.api.pool_wishes.set(wish)))

    async def _migrate(self, request: web.Request) -> web.Response:
        how = parse(VmMigrate, await request.read() or b"{}")
        name = request.match_info["name"]
        done = await self.blocking(lambda: self.api.wishes.migrate(name, how.to))
        return self._wished(request, done)

    async def _maintain(self, request: web.Request) -> web.Response:
        how, name = parse(HostMaintain, await request.read() or b"{}"), request.match_info["name"]
        done = await self.blocking(lambda: self.api.host_wishes.maintain(name, how.why))
        return self._wished(request, done)

    async def _confirm_off(self, request: web.Request) -> web.Response:
        how, name = parse(HostMaintain, await request.read() or b"{}"), request.match_info["name"]
        by = request[CALLER]
        done = await self.blocking(lambda: self.api.host_wishes.confirm_off(name, how.why, by))
        return self._wished(request, done)

    async def _serve(self, request: web.Request) -> web.Response:
        how, name = parse(HostServe, await request.read() or b"{}"), request.match_info["name"]
        wishes = self.api.host_wishes
        done = await self.blocking(lambda: wishes.serve(name, bring_back=how.bring_back))
        return self._wished(request, done)

    async def _upgrade(self, request: web.Request) -> web.Response:
        return self._wished(request, await self.blocking(self.api.pool_wishes.upgrade))

    async def _way(self, request: web.Request) -> web.StreamResponse:
        name, id_ = request.match_info["name"], request.query.get("id", "")
        caller = request[CALLER] if request[ROLE] == "host" else ""
        return await serve_way(self.blocking, self.api.service, request, name, id_, caller)

    def _wish(self, act: Callable[[str], VmWish | HostWish]) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            name = request.match_info["name"]
            return self._wished(request, await self.blocking(lambda: act(name)))

        return handler

    def _wished(
        self, request: web.Request, done: VmWish | HostWish | PoolWish, status: int = 200
    ) -> web.Response:
        log.info("%s: %s", request[CALLER], done.sentence)
        return json_of(done, status)

    def _line(self, what: Line) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            name, only_here = request.match_info["name"], request[ROLE] == "host"
            place = await self.blocking(lambda: self.api.console_place(name, only_here=only_here))
            opened = partial(self.api.service.open_line, name, what)
            desk = Desk(what, self.blocking, opened, self._peer_context)
            return await serve_console(desk, request, name, place)

        return handler
