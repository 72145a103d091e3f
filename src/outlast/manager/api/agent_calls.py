"""What the manager passes on to agents: two tables, questions and wishes, each with its right.

A wish is one of acts.py; its answer is what the pool said to it, or the state of the work it began.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from outlast.errors import InvalidInput, NotFound
from outlast.manager.acts import Acts
from outlast.manager.api.gate import Caller
from outlast.manager.ports import Task
from outlast.wire.backups import BackupClient, RestoreWish, ScheduleWish
from outlast.wire.client import AgentClient, OutcomeUnknown
from outlast.wire.disk_client import DiskClient
from outlast.wire.disks import AdoptWish, BackupWish, DiskMoveWish, JobStatus, SnapshotWish
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
    parse,
)
from outlast.wire.templates import TemplateClient, TemplateDeploy, TemplateOfVm, TemplateWish

VM, HOST = "/v1/vms/{vm}", "/v1/hosts/{host}"
NETWORK, STORAGE = "/v1/networks/{network}", "/v1/storage/{storage}"
IMAGE, TEMPLATE = "/v1/images/{image}", "/v1/templates/{template}"
FOREIGN, NEW = "/v1/foreign", "/v1/vms/{new}/restore"
KNOWN_S = 5.0

S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that may be made: by whom, of what, and its body."""

    caller: Caller
    names: dict[str, str]  # those of the path
    raw: bytes = b""
    query: Mapping[str, str] = field(default_factory=dict)

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
    (VM, "see"), (f"{VM}/why", "see"), (f"{VM}/snapshots", "see"), ("/v1/schedules", "see"),
    (FOREIGN, "adopt"), (f"{FOREIGN}/{{domain}}", "adopt"),
    ("/v1/networks", "catalog"), ("/v1/storage", "catalog"),
    ("/v1/images", "catalog"), ("/v1/templates", "catalog"),
)  # fmt: skip


# ---- work that takes long: the agent that was given it last knows how it stands


def _importing(c: AgentClient, call: Call) -> JobStatus:
    return ImageClient(c).importing(call.names["image"])


def _casting(c: AgentClient, call: Call) -> JobStatus:
    return TemplateClient(c).making(call.caller.vm)


def _moving(c: AgentClient, call: Call) -> JobStatus:
    return DiskClient(c).disk_move_status(call.caller.vm)


def _backing(c: AgentClient, call: Call) -> JobStatus:
    return DiskClient(c).backup_status(call.caller.vm)


def _restoring(c: AgentClient, call: Call) -> JobStatus:
    return BackupClient(c).restoring(call.names["new"], call.query.get("host", ""))


@dataclass(frozen=True, slots=True)
class Work:
    """Work that takes long, and how it stands."""

    verb: str  # of its tasks
    path: str
    see: str  # the right for asking
    action: str  # the right for having it done, and broken off
    ask: Callable[[AgentClient, Call], JobStatus]
    begin: Act
    of_source: bool = False  # its tasks name what is made, its path what that is made of
    makes_vm: bool = False

    async def begun(self, call: Call, task: Task) -> JobStatus:
        """Raises OutcomeUnknown as `said` does."""
        said(call, task)
        return await call.ask(lambda c: self.ask(c, call), self._agent(call, task))

    async def stands(self, call: Call) -> JobStatus:
        """Raises NotFound when nobody who was asked knows of it."""
        task = self._newest(call)
        if task is None:  # another manager may just have taken it
            await call.caller.manager.tasks.sync()
            task = self._newest(call)
        agent = self._agent(call, task) if task else ""
        found = await call.ask(lambda c: self.ask(c, call), agent)
        if self.makes_vm and found.state == "done":
            await _known(call, call.names["new"])
        return found

    def _agent(self, call: Call, task: Task) -> str:
        return call.caller.manager.tasks.wish_of(task.id).agent

    def _newest(self, call: Call, *, open_only: bool = False) -> Task | None:
        """The task of it that was wished last."""
        name = call.names.get("image") or call.names.get("new") or call.caller.vm
        for task in call.acts.tasks(open_only=open_only):
            if (task.verb, task.pool_id) == (self.verb, call.caller.pool_id):
                source = call.caller.manager.tasks.wish_of(task.id).source
                if name == (source if self.of_source else task.object):
                    return task
        return None

    async def cancel(self, call: Call) -> Task:
        """Raises NotFound when none is under way."""
        if (task := self._newest(call, open_only=True)) is None:
            raise NotFound("no such work is under way", hint="it may have ended")
        return await call.acts.cancel(task, call.caller.person.name, **call.by)


# ---- answers that are more than what the pool said to the wish


async def _drilling(call: Call, _: Task) -> BaseModel:
    return await call.ask(lambda c: c.last_drill())


async def _made(call: Call, task: Task) -> BaseModel:
    answer = said(call, task)
    await _known(call, task.object)
    return answer


async def _known(call: Call, vm: str) -> None:
    """Wait until a VM that was made is known here: the next call names it."""
    reads, until = call.caller.manager.reads, asyncio.get_running_loop().time() + KNOWN_S
    while asyncio.get_running_loop().time() < until:
        if any(one.name == vm for one in reads.pool(call.caller.pool_id).status.vms):
            break
        await asyncio.sleep(0.05)


def said(call: Call, task: Task) -> BaseModel:
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


def _move_disk(call: Call) -> Awaitable[Task]:
    return call.acts.move_disk(*call.of("vm"), call.body(DiskMoveWish), **call.by)


def _backup(call: Call) -> Awaitable[Task]:
    if "here" in call.query:
        raise InvalidInput("what is exported is a file of the VM's host", hint="export it there")
    return call.acts.backup(*call.of("vm"), call.body(BackupWish), **call.by)


def _restore(call: Call) -> Awaitable[Task]:
    wish, host = call.body(RestoreWish), call.query.get("host", "")
    return call.acts.restore(*call.of("new"), wish, host, **call.by)


def _adopt(call: Call) -> Awaitable[Task]:
    wish, host = call.body(AdoptWish), call.query["host"]
    return call.acts.adopt(*call.of("domain"), wish, host, **call.by)


def _schedule(call: Call) -> Awaitable[Task]:
    return call.acts.schedule(*call.of("vm"), call.body(ScheduleWish), **call.by)


@dataclass(frozen=True, slots=True)
class Wished:
    method: str
    path: str
    action: str
    act: Act
    then: Then | None = None


# each is begun by POST, asked about by GET, broken off by DELETE
WORK = (
    Work("image-import", f"{IMAGE}/import", "catalog", "images", _importing,
         lambda c: c.acts.import_image(*c.of("image"), c.body(ImageImport), **c.by)),
    Work("template-of-vm", f"{VM}/template", "see", "images", _casting, _template_of_vm,
         of_source=True),
    Work("disk-move", f"{VM}/disk-move", "see", "migrate", _moving, _move_disk),
    Work("backup", f"{VM}/backup", "see", "backup", _backing, _backup),
    Work("restore", NEW, "see", "backup", _restoring, _restore, makes_vm=True),
)  # fmt: skip
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
    Wished("PUT", f"{VM}/schedule", "backup", _schedule),
    Wished("DELETE", f"{VM}/schedule", "backup",
           lambda c: c.acts.unschedule(*c.of("vm"), **c.by)),
    Wished("POST", f"{FOREIGN}/{{domain}}/adopt", "adopt", _adopt, _made),
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
    Wished("POST", f"{HOST}/leave", "host-remove", lambda c: c.acts.leave(*c.of("host"), **c.by)),
    Wished("DELETE", HOST, "host-remove",
           lambda c: c.acts.remove_host(*c.of("host"), **c.by)),
    Wished("POST", "/v1/pool/ha", "pool-ha",
           lambda c: c.acts.pool_ha(*c.to, c.body(HaSwitch), **c.by)),
    Wished("PATCH", "/v1/pool/settings", "pool-set",
           lambda c: c.acts.pool_set(*c.to, c.body(PoolChange), **c.by)),
    Wished("POST", "/v1/pool/drill", "drill", _drill, _drilling),
    Wished("POST", "/v1/pool/upgrade", "pool-set", lambda c: c.acts.upgrade(*c.to, **c.by)),
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
    Wished("POST", f"{IMAGE}/upload/import", "images",
           lambda c: c.acts.take_upload(*c.of("image"), c.body(ImportWish), **c.by),
           WORK[0].begun),
)  # fmt: skip
