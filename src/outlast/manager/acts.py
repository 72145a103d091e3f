"""What people may wish of pools, each as one call of the agents' API (acts_port.py).

Nothing is decided here: the pool takes a wish or refuses it, and says why.
"""

from __future__ import annotations

from outlast.manager.accounts import Accounts
from outlast.manager.disk_acts import DiskActs, ha_was
from outlast.manager.fleet import Fleet
from outlast.manager.outcome import Wish
from outlast.manager.ports import Task
from outlast.manager.tasks import Tasks
from outlast.readiness import emptying
from outlast.wire.client import AgentClient
from outlast.wire.drills import WHO_MAX, DrillKind, DrillWish
from outlast.wire.shapes import (
    HaSwitch,
    HostStatus,
    HostWish,
    PoolChange,
    VmChange,
    VmCreate,
    VmDelete,
)
from outlast.wire.templates import TemplateClient, TemplateDeploy

WHY_MAX = 200


class Acts(DiskActs):
    """All of it."""

    def __init__(self, tasks: Tasks, fleet: Fleet, accounts: Accounts) -> None:
        super().__init__(tasks, fleet)
        self._accounts = accounts
        tasks.ended = self._ended

    def tasks(self, *, open_only: bool = False) -> list[Task]:
        return self._tasks.tasks(open_only=open_only)

    def task(self, task_id: str) -> Task:
        return self._tasks.task(task_id)

    async def start(self, pool_id: str, vm: str, who: str, *, address: str = "") -> Task:
        return await self._of_vm(
            "start", pool_id, vm, who, lambda c, n: c.start(n), "running", address
        )

    async def stop(self, pool_id: str, vm: str, who: str, *, address: str = "") -> Task:
        return await self._of_vm("stop", pool_id, vm, who, lambda c, n: c.stop(n), "off", address)

    async def kill(self, pool_id: str, vm: str, who: str, *, address: str = "") -> Task:
        return await self._of_vm("kill", pool_id, vm, who, lambda c, n: c.kill(n), "off", address)

    async def migrate(
        self, pool_id: str, vm: str, who: str, to: str = "", *, address: str = ""
    ) -> Task:
        wish = Wish(source=self._fleet.vm(pool_id, vm).vm.host, to=to)
        return await self._of_vm(
            "migrate", pool_id, vm, who, lambda c, n: c.migrate(n, to),
            f"on {to or 'another host'}", address, wish, to and f"to {to}",
        )  # fmt: skip

    async def stay(self, pool_id: str, vm: str, who: str, *, address: str = "") -> Task:
        return await self._of_vm(
            "stay", pool_id, vm, who, lambda c, n: c.stay(n), "stays there", address
        )

    async def ha(
        self, pool_id: str, vm: str, who: str, switch: HaSwitch, *, address: str = ""
    ) -> Task:
        wish, said = _by(switch, who), _ha_words(switch)
        return await self._of_vm(
            "ha", pool_id, vm, who, lambda c, n: c.vm_ha(n, wish), said, address, said=said
        )

    async def pool_ha(self, pool_id: str, who: str, switch: HaSwitch, *, address: str = "") -> Task:
        wish = _by(switch, who)
        return await self._tasks.wish(
            "pool-ha", pool_id, "", who, lambda c: c.pool_ha(wish), address=address,
            before=ha_was(self._fleet.pool(pool_id).status.ha_off), said=_ha_words(switch),
        )  # fmt: skip

    async def set(
        self, pool_id: str, vm: str, who: str, change: VmChange, *, address: str = ""
    ) -> Task:
        found = self._fleet.vm(pool_id, vm).vm
        return await self._tasks.wish(
            "set", pool_id, found.name, who, lambda c: c.place(found.name, change), address=address,
            before=found.model_dump_json(), said=change.model_dump_json(exclude_unset=True),
        )  # fmt: skip

    async def pool_set(
        self, pool_id: str, who: str, change: PoolChange, *, address: str = ""
    ) -> Task:
        before = self._fleet.pool(pool_id).status
        return await self._tasks.wish(
            "pool-set", pool_id, "", who, lambda c: c.pool_set(change), address=address,
            before=before.settings.model_dump_json(),
            said=change.model_dump_json(exclude_none=True),
        )  # fmt: skip

    async def upgrade(self, pool_id: str, who: str, *, address: str = "") -> Task:
        """The pool speaks the newest protocol that all its hosts speak; there is no way back."""
        return await self._tasks.wish(
            "upgrade", pool_id, "", who, lambda c: c.upgrade(), address=address,
            before=f"protocol {self._fleet.pool(pool_id).status.protocol}",
        )  # fmt: skip

    async def create(
        self, pool_id: str, who: str, wish: VmCreate, *, start: bool = False, address: str = ""
    ) -> Task:
        task = await self._tasks.wish(
            "create", pool_id, wish.name, who, lambda c: c.create(wish), Wish(start=start),
            address=address, said=wish.model_dump_json(exclude_unset=True),
        )  # fmt: skip
        await self._accounts.made_vm(who, pool_id, wish.name)
        return task

    async def deploy(
        self, pool_id: str, who: str, template: str, wish: TemplateDeploy, *, start: bool = False,
        address: str = "",
    ) -> Task:  # fmt: skip
        task = await self._tasks.wish(
            "create", pool_id, wish.name, who, lambda c: TemplateClient(c).deploy(template, wish),
            Wish(start=start), address=address,
            said=f"of template {template}: {wish.model_dump_json(exclude_unset=True)}",
        )  # fmt: skip
        await self._accounts.made_vm(who, pool_id, wish.name)
        return task

    async def delete(
        self, pool_id: str, vm: str, who: str, how: VmDelete, *, address: str = ""
    ) -> Task:
        found = self._fleet.vm(pool_id, vm).vm
        return await self._tasks.wish(
            "delete", pool_id, found.name, who,
            lambda c: c.delete(found.name, force=how.force, with_disks=how.with_disks),
            address=address, before=found.model_dump_json(), said=how.model_dump_json(),
        )  # fmt: skip

    async def maintain(
        self, pool_id: str, host: str, who: str, why: str = "", *, address: str = ""
    ) -> Task:
        was = _host_was(self._fleet.host(pool_id, host))
        status = self._fleet.pool(pool_id).status
        count = len(emptying.on(host, status.vms))
        said = f"{why} ({who})" if why else who
        return await self._tasks.wish(
            "maintain", pool_id, host, who, lambda c: c.maintain(host, said), Wish(count=count),
            address=address, before=was, after=f"in maintenance: {said}", said=why,
        )  # fmt: skip

    async def resume(
        self, pool_id: str, host: str, who: str, *, bring_back: bool = False, address: str = ""
    ) -> Task:
        was = _host_was(self._fleet.host(pool_id, host))
        return await self._tasks.wish(
            "resume", pool_id, host, who, lambda c: c.serve(host, bring_back=bring_back),
            Wish(bring_back=bring_back), address=address, before=was,
            after="in service" + (", its VMs come back" if bring_back else ""),
        )  # fmt: skip

    async def power_off(self, pool_id: str, host: str, who: str, *, address: str = "") -> Task:
        was = _host_was(self._fleet.host(pool_id, host))
        return await self._tasks.wish(
            "power-off", pool_id, host, who, lambda c: c.power_off(host), address=address,
            before=was, after="off",
        )  # fmt: skip

    async def power_on(self, pool_id: str, host: str, who: str, *, address: str = "") -> Task:
        was = _host_was(self._fleet.host(pool_id, host))
        return await self._tasks.wish(
            "power-on", pool_id, host, who, lambda c: c.power_on(host), address=address,
            before=was, after="woken",
        )  # fmt: skip

    async def confirm_off(
        self, pool_id: str, host: str, who: str, why: str = "", *, address: str = ""
    ) -> Task:
        """Somebody knows that it is off: what it ran starts elsewhere at once."""
        was, said = _host_was(self._fleet.host(pool_id, host)), _with_name(why, who)
        return await self._tasks.wish(
            "confirm-off", pool_id, host, who, lambda c: c.confirm_off(host, said),
            address=address, before=was, after=f"off: {said}", said=why,
        )  # fmt: skip

    async def leave(self, pool_id: str, host: str, who: str, *, address: str = "") -> Task:
        """It is a member no more, and stays on; before it is removed."""
        was = _host_was(self._fleet.host(pool_id, host))
        return await self._tasks.wish(
            "host-leave", pool_id, host, who, lambda c: c.leave(host), address=address,
            before=was, after="no member",
        )  # fmt: skip

    async def remove_host(self, pool_id: str, host: str, who: str, *, address: str = "") -> Task:
        was = _host_was(self._fleet.host(pool_id, host))
        return await self._tasks.wish(
            "host-remove", pool_id, host, who, lambda c: c.remove_host(host), address=address,
            before=was, after="no host of the pool",
        )  # fmt: skip

    async def drill(
        self, pool_id: str, host: str, who: str, kind: DrillKind, *, address: str = ""
    ) -> Task:
        """A failure of that kind takes place, on purpose; its report is in the timeline."""

        def ask(c: AgentClient) -> HostWish:
            made = c.drill(DrillWish(kind=kind, host=host, who=who[:WHO_MAX]))
            said = f"a drill '{kind}' of {host}, for {made.for_s} s; its report is an event"
            return HostWish(name=host, changed=True, sentence=said)

        return await self._tasks.wish(
            "drill", pool_id, host, who, ask, address=address,
            before=_host_was(self._fleet.host(pool_id, host)), after=f"a drill: {kind}",
        )  # fmt: skip

    async def _ended(self, task: Task) -> None:
        if task.verb == "delete" and not task.failed:
            await self._accounts.gone_vm(task.pool_id, task.object)


def _by(switch: HaSwitch, who: str) -> HaSwitch:
    """Pools note the manager as the one who did it: the person goes into the reason."""
    if switch.on:
        return switch
    return HaSwitch(**(switch.model_dump() | {"why": _with_name(switch.why, who)}))


def _with_name(why: str, who: str) -> str:
    return f"{why} ({who})".strip()[:WHY_MAX]


def _ha_words(switch: HaSwitch) -> str:
    span = f" for {switch.for_s} s" if switch.for_s else ""
    return f"HA {'on' if switch.on else 'off'}{span}" + (f": {switch.why}" if switch.why else "")


def _host_was(host: HostStatus) -> str:
    return f"in maintenance: {host.maintenance}" if host.maintenance else host.state
