"""The agents' own API, through the manager: the command line says here what it says to an agent.

    /api/v1/pools/{pool}/agent/v1/...        what is behind `agent` is a path of the agents' API

Rules:
1. Paths, bodies, answers and errors are an agent's; rights, tasks and the audit are the manager's.
   A wish is one of acts.py, answered with what the pool said to it.
2. Only what the two tables name is passed on, and each names its right.
3. Names are quoted anew on the way on: none can lead to another path.
4. A VM that was made here is known here before that is answered: the next call names it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from outlast.errors import InvalidInput, NotFound
from outlast.manager.acts import Acts
from outlast.manager.api.gate import Caller, lacks, logged_in, needs
from outlast.manager.api.uploads import begin_upload, send_upload
from outlast.manager.ports import Task
from outlast.wire.client import AgentClient, OutcomeUnknown
from outlast.wire.disks import SnapshotWish
from outlast.wire.drills import DrillWish
from outlast.wire.equipment import NetworkChange, NetworkWish, StorageWish
from outlast.wire.images import ImageClient, ImageImport, ImportWish
from outlast.wire.shapes import (
    HaSwitch,
    HostMaintain,
    HostServe,
    PoolChange,
    VmChange,
    VmCreate,
    VmDelete,
    VmMigrate,
    VmStatus,
    parse,
    parse_list,
)
from outlast.wire.templates import TemplateClient, TemplateDeploy, TemplateOfVm, TemplateWish

DOOR = "/pools/{pool}/agent"
VM, HOST = "/v1/vms/{vm}", "/v1/hosts/{host}"
NETWORK, STORAGE = "/v1/networks/{network}", "/v1/storage/{storage}"
IMAGE, TEMPLATE = "/v1/images/{image}", "/v1/templates/{template}"
KNOWN_S = 5.0

router = APIRouter(include_in_schema=False)
S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that may be made: by whom, of what, and its body."""

    caller: Caller
    names: dict[str, str]  # those of the path
    raw: bytes

    @property
    def acts(self) -> Acts:
        return self.caller.manager.acts

    @property
    def to(self) -> tuple[str, str]:
        """How most wishes begin that name nothing: the pool, and who wishes."""
        return self.caller.pool_id, self.caller.person.name

    @property
    def by(self) -> dict[str, Any]:
        return {"address": self.caller.address}

    def of(self, kind: str) -> tuple[str, str, str]:
        """The same of those that name something."""
        name = {"vm": self.caller.vm, "host": self.caller.host}.get(kind) or self.names[kind]
        return self.caller.pool_id, name, self.caller.person.name

    def body(self, kind: type[S]) -> S:
        """Raises InvalidInput."""
        return parse(kind, self.raw or b"{}")

    async def ask(self, question: Callable[[AgentClient], S], agent: str = "") -> S:
        """agent: the address of the only one that knows; "" = any."""
        manager = self.caller.manager
        if not agent:
            return await manager.reads.ask(self.caller.pool_id, question)
        follower = manager.reads.followers[self.caller.pool_id]
        return await asyncio.to_thread(lambda: question(follower.client(agent)))


Act = Callable[[Call], Awaitable[Task]]
Then = Callable[[Call, Task], Awaitable[BaseModel]]

# what is asked, and the right for it
QUESTIONS = (
    ("/v1/status", "see"), ("/v1/timeline", "see"), ("/v1/picture", "see"),
    ("/v1/pool/drill", "see"), ("/v1/orphans", "see"), (f"{HOST}/why", "see"),
    (VM, "see"), (f"{VM}/why", "see"), (f"{VM}/snapshots", "see"), (f"{VM}/backup", "see"),
    (f"{VM}/disk-move", "see"), (f"{VM}/template", "see"),
    ("/v1/networks", "catalog"), ("/v1/storage", "catalog"),
    ("/v1/images", "catalog"), ("/v1/templates", "catalog"),
)  # fmt: skip


# ---- answers that are more than what the pool said to the wish


async def _importing(call: Call, task: Task) -> BaseModel:
    agent = call.caller.manager.tasks.wish_of(task.id).agent
    return await call.ask(lambda c: ImageClient(c).importing(call.names["image"]), agent)


async def _making(call: Call, _: Task) -> BaseModel:
    return await call.ask(lambda c: TemplateClient(c).making(call.caller.vm))


async def _drilling(call: Call, _: Task) -> BaseModel:
    return await call.ask(lambda c: c.last_drill())


async def _made(call: Call, task: Task) -> BaseModel:
    """Rule 4."""
    reads, until = call.caller.manager.reads, asyncio.get_running_loop().time() + KNOWN_S
    while asyncio.get_running_loop().time() < until:
        if any(vm.name == task.object for vm in reads.pool(task.pool_id).status.vms):
            break
        await asyncio.sleep(0.05)
    return _said(call, task)


def _said(call: Call, task: Task) -> BaseModel:
    """What the pool said. Raises OutcomeUnknown when the way broke before it did."""
    answer = call.caller.manager.tasks.answer(task.id)
    if answer is None:
        raise OutcomeUnknown(task.sentence, hint=task.hint)
    return answer


# ---- wishes


def _drill(call: Call) -> Awaitable[Task]:
    wish, (pool_id, who) = call.body(DrillWish), call.to
    return call.acts.drill(pool_id, wish.host, who, wish.kind, **call.by)


def _deploy(call: Call) -> Awaitable[Task]:
    (pool_id, who), template = call.to, call.names["template"]
    return call.acts.deploy(pool_id, who, template, call.body(TemplateDeploy), **call.by)


def _template_of_vm(call: Call) -> Awaitable[Task]:
    pool_id, vm, who = call.of("vm")
    return call.acts.template_of_vm(pool_id, vm, who, call.body(TemplateOfVm), **call.by)


def _change_network(call: Call) -> Awaitable[Task]:
    pool_id, network, who = call.of("network")
    return call.acts.change_network(pool_id, network, who, call.body(NetworkChange), **call.by)


def _cancel(verb: str, of: Callable[[Call, Task], bool]) -> Act:
    """Take back work that is under way. Raises NotFound when none is."""

    async def cancel(call: Call) -> Task:
        pool_id, who = call.to
        for task in call.acts.tasks(open_only=True):
            if (task.verb, task.pool_id) == (verb, pool_id) and of(call, task):
                return await call.acts.cancel(task, who, **call.by)
        raise NotFound("no such work is under way", hint="it may have ended")

    return cancel


def _of_image(call: Call, task: Task) -> bool:
    return task.object == call.names["image"]


def _of_vm(call: Call, task: Task) -> bool:
    return call.caller.manager.tasks.wish_of(task.id).source == call.caller.vm


@dataclass(frozen=True, slots=True)
class Wished:
    method: str
    path: str
    action: str
    act: Act
    then: Then | None = None


WISHES = (
    Wished("POST", "/v1/vms", "create",
           lambda c: c.acts.create(*c.to, c.body(VmCreate), **c.by), _made),
    Wished("PATCH", VM, "set", lambda c: c.acts.set(*c.of("vm"), c.body(VmChange), **c.by)),
    Wished("DELETE", VM, "delete",
           lambda c: c.acts.delete(*c.of("vm"), c.body(VmDelete), **c.by)),
    Wished("POST", f"{VM}/start", "start", lambda c: c.acts.start(*c.of("vm"), **c.by)),
    Wished("POST", f"{VM}/stop", "stop", lambda c: c.acts.stop(*c.of("vm"), **c.by)),
    Wished("POST", f"{VM}/kill", "kill", lambda c: c.acts.kill(*c.of("vm"), **c.by)),
    Wished("POST", f"{VM}/ha", "ha", lambda c: c.acts.ha(*c.of("vm"), c.body(HaSwitch), **c.by)),
    Wished("POST", f"{VM}/migrate", "migrate",
           lambda c: c.acts.migrate(*c.of("vm"), c.body(VmMigrate).to, **c.by)),
    Wished("DELETE", f"{VM}/migrate", "migrate", lambda c: c.acts.stay(*c.of("vm"), **c.by)),
    Wished("POST", f"{VM}/snapshots", "snapshot",
           lambda c: c.acts.snapshot(*c.of("vm"), c.body(SnapshotWish), **c.by)),
    Wished("POST", f"{VM}/snapshots/{{snapshot}}/revert", "snapshot",
           lambda c: c.acts.revert(*c.of("vm"), c.names["snapshot"], **c.by)),
    Wished("DELETE", f"{VM}/snapshots/{{snapshot}}", "snapshot",
           lambda c: c.acts.forget(*c.of("vm"), c.names["snapshot"], **c.by)),
    Wished("POST", f"{VM}/template", "images", _template_of_vm, _making),
    Wished("DELETE", f"{VM}/template", "images", _cancel("template-of-vm", _of_vm), _making),
    Wished("POST", f"{HOST}/maintenance", "maintain",
           lambda c: c.acts.maintain(*c.of("host"), c.body(HostMaintain).why, **c.by)),
    Wished("DELETE", f"{HOST}/maintenance", "resume",
           lambda c: c.acts.resume(
               *c.of("host"), bring_back=c.body(HostServe).bring_back, **c.by)),
    Wished("POST", f"{HOST}/power-off", "power-off",
           lambda c: c.acts.power_off(*c.of("host"), **c.by)),
    Wished("POST", f"{HOST}/power-on", "power-on",
           lambda c: c.acts.power_on(*c.of("host"), **c.by)),
    Wished("POST", f"{HOST}/off", "confirm-off",
           lambda c: c.acts.confirm_off(*c.of("host"), c.body(HostMaintain).why, **c.by)),
    Wished("DELETE", HOST, "host-remove",
           lambda c: c.acts.remove_host(*c.of("host"), **c.by)),
    Wished("POST", "/v1/pool/ha", "pool-ha",
           lambda c: c.acts.pool_ha(*c.to, c.body(HaSwitch), **c.by)),
    Wished("PATCH", "/v1/pool/settings", "pool-set",
           lambda c: c.acts.pool_set(*c.to, c.body(PoolChange), **c.by)),
    Wished("POST", "/v1/pool/drill", "drill", _drill, _drilling),
    Wished("POST", "/v1/networks", "pool-set",
           lambda c: c.acts.create_network(*c.to, c.body(NetworkWish), **c.by)),
    Wished("PATCH", NETWORK, "pool-set", _change_network),
    Wished("DELETE", NETWORK, "pool-set",
           lambda c: c.acts.remove_network(*c.of("network"), **c.by)),
    Wished("POST", "/v1/storage", "pool-set",
           lambda c: c.acts.add_storage(*c.to, c.body(StorageWish), **c.by)),
    Wished("DELETE", STORAGE, "pool-set",
           lambda c: c.acts.remove_storage(*c.of("storage"), **c.by)),
    Wished("DELETE", "/v1/orphans/{orphan}", "pool-set",
           lambda c: c.acts.remove_orphan(*c.of("orphan"), **c.by)),
    Wished("POST", "/v1/templates", "images",
           lambda c: c.acts.create_template(*c.to, c.body(TemplateWish), **c.by)),
    Wished("DELETE", TEMPLATE, "images",
           lambda c: c.acts.remove_template(*c.of("template"), **c.by)),
    Wished("POST", f"{TEMPLATE}/deploy", "create", _deploy, _made),
    Wished("DELETE", IMAGE, "images", lambda c: c.acts.remove_image(*c.of("image"), **c.by)),
    Wished("POST", f"{IMAGE}/import", "images",
           lambda c: c.acts.import_image(*c.of("image"), c.body(ImageImport), **c.by), _importing),
    Wished("DELETE", f"{IMAGE}/import", "images", _cancel("image-import", _of_image), _importing),
    Wished("POST", f"{IMAGE}/upload/import", "images",
           lambda c: c.acts.take_upload(*c.of("image"), c.body(ImportWish), **c.by), _importing),
)  # fmt: skip


def _question(path: str) -> Callable[..., Awaitable[Response]]:
    async def ask(request: Request, caller: Caller) -> Response:
        on = path.format(**_quoted(request.path_params, caller))
        query = f"?{request.url.query}" if request.url.query else ""
        raw = await caller.manager.reads.ask(caller.pool_id, lambda c: c.call("GET", on + query))
        return _json(raw)

    return ask


def _wish(wished: Wished) -> Callable[..., Awaitable[Response]]:
    async def wish(request: Request, caller: Caller) -> Response:
        _quoted(request.path_params, caller)
        call = Call(caller, dict(request.path_params), await request.body())
        task = await wished.act(call)
        answer = _said(call, task) if wished.then is None else await wished.then(call, task)
        return _json(answer.model_dump_json().encode())

    return wish


@router.get(f"{DOOR}/v1/vms")
async def vms(request: Request, caller: Annotated[Caller, logged_in()]) -> Response:
    """Those that the caller sees."""
    reads, scope = caller.manager.reads, caller.scope
    try:
        pool_id = reads.find(request.path_params["pool"]).id
    except NotFound:
        if scope.everything:
            raise
        raise lacks(caller.person, "see", there=True) from None
    if not caller.touches(pool_id):
        raise lacks(caller.person, "see", there=True)
    found = parse_list(VmStatus, await reads.ask(pool_id, lambda c: c.call("GET", "/v1/vms")))
    shown = [vm.model_dump_json() for vm in found if scope.sees_vm(pool_id, vm.name)]
    return _json(f"[{','.join(shown)}]".encode())


@router.get(f"{DOOR}{IMAGE}/import")
async def import_status(
    request: Request, image: str, caller: Annotated[Caller, needs("catalog")]
) -> Response:
    """How far an import is; the agent that was given it last is asked."""
    call = Call(caller, dict(request.path_params), b"")
    for task in call.acts.tasks():
        if (task.verb, task.pool_id, task.object) == ("image-import", caller.pool_id, image):
            return _json((await _importing(call, task)).model_dump_json().encode())
    raise NotFound(f"nothing is being imported as '{image[:80]}'")


def _quoted(names: dict[str, Any], caller: Caller) -> dict[str, str]:
    """Rule 3. Raises InvalidInput."""
    known = {"vm": caller.vm, "host": caller.host}
    found = {kind: known.get(kind) or str(name) for kind, name in names.items()}
    if any(name in {"", ".", ".."} for name in found.values()):
        raise InvalidInput("a name in the path is none", hint="names are more than dots")
    return {kind: quote(name, safe="") for kind, name in found.items()}


def _json(raw: bytes) -> Response:
    return Response(raw, media_type="application/json")


def _route(method: str, path: str, action: str, answer: Callable[..., Awaitable[Response]]) -> None:
    gate = needs(action)

    async def at(request: Request, caller: Caller = gate) -> Response:
        return await answer(request, caller)

    router.add_api_route(DOOR + path, at, methods=[method], response_model=None)


for _path, _action in QUESTIONS:
    _route("GET", _path, _action, _question(_path))
for _one in WISHES:
    _route(_one.method, _one.path, _one.action, _wish(_one))
router.add_api_route(f"{DOOR}{IMAGE}/upload", begin_upload, methods=["POST"])
router.add_api_route(f"{DOOR}{IMAGE}/upload", send_upload, methods=["PUT"])
