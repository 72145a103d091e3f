"""What people may wish of VMs' disks: snapshots, backups and what becomes of them, other storage
(acts_port.py)."""

from __future__ import annotations

from collections.abc import Callable

from outlast.manager.equipping import Equipping, begun
from outlast.manager.fleet import Fleet
from outlast.manager.outcome import Wish
from outlast.manager.ports import Task
from outlast.manager.tasks import NO_WISH, Answer, Tasks
from outlast.wire.backups import BackupClient, RestoreWish, ScheduleWish
from outlast.wire.client import AgentClient
from outlast.wire.disk_client import DiskClient
from outlast.wire.disks import AdoptWish, BackupWish, DiskMoveWish, SnapshotWish
from outlast.wire.shapes import HaOffInfo, VmStatus


class DiskActs(Equipping):
    """Its part of Acts. VMs may be named by uuid as well; pools know them by name."""

    def __init__(self, tasks: Tasks, fleet: Fleet) -> None:
        super().__init__(tasks)
        self._fleet = fleet

    async def snapshot(
        self, pool_id: str, vm: str, who: str, wish: SnapshotWish, *, address: str = ""
    ) -> Task:
        return await self._of_vm(
            "snapshot", pool_id, vm, who, lambda c, n: DiskClient(c).snapshot(n, wish),
            f"snapshot {wish.name}", address,
        )  # fmt: skip

    async def revert(
        self, pool_id: str, vm: str, who: str, snapshot: str, *, address: str = ""
    ) -> Task:
        """Its disks as they were; what was written since is lost."""
        return await self._of_vm(
            "snapshot-revert", pool_id, vm, who, lambda c, n: DiskClient(c).revert(n, snapshot),
            f"its disks as in snapshot {snapshot}", address,
        )  # fmt: skip

    async def forget(
        self, pool_id: str, vm: str, who: str, snapshot: str, *, address: str = ""
    ) -> Task:
        return await self._of_vm(
            "snapshot-remove", pool_id, vm, who, lambda c, n: DiskClient(c).forget(n, snapshot),
            f"without snapshot {snapshot}", address,
        )  # fmt: skip

    async def move_disk(
        self, pool_id: str, vm: str, who: str, wish: DiskMoveWish, *, address: str = ""
    ) -> Task:
        """By the VM's host; the task shows how far it is."""
        return await self._of_vm(
            "disk-move", pool_id, vm, who, lambda c, n: begun(DiskClient(c).move_disk(n, wish)),
            f"disk {wish.disk} in {wish.to or 'the pool itself'}", address,
            Wish(to=wish.to, count=wish.disk),
        )  # fmt: skip

    async def backup(
        self, pool_id: str, vm: str, who: str, wish: BackupWish, *, address: str = ""
    ) -> Task:
        """Into a folder of the VM's host; the task shows how far it is."""
        return await self._of_vm(
            "backup", pool_id, vm, who, lambda c, n: begun(DiskClient(c).backup(n, wish)),
            f"a backup in {wish.folder}", address,
        )  # fmt: skip

    async def restore(
        self, pool_id: str, new: str, who: str, wish: RestoreWish, host: str = "", *,
        address: str = "",
    ) -> Task:  # fmt: skip
        """A new VM out of a folder of a host; the task shows how far it is."""
        return await self._tasks.wish(
            "restore", pool_id, new, who, lambda c: begun(BackupClient(c).restore(new, wish, host)),
            Wish(source=host), address=address, after=f"made of {wish.folder}",
        )  # fmt: skip

    async def schedule(
        self, pool_id: str, vm: str, who: str, wish: ScheduleWish, *, address: str = ""
    ) -> Task:
        return await self._of_vm(
            "schedule-set", pool_id, vm, who, lambda c, n: BackupClient(c).schedule(n, wish),
            wish.model_dump_json(), address,
        )  # fmt: skip

    async def unschedule(self, pool_id: str, vm: str, who: str, *, address: str = "") -> Task:
        return await self._of_vm(
            "schedule-remove", pool_id, vm, who, lambda c, n: BackupClient(c).unschedule(n),
            "backed up no more by itself", address,
        )  # fmt: skip

    async def adopt(
        self, pool_id: str, domain: str, who: str, wish: AdoptWish, host: str, *, address: str = ""
    ) -> Task:
        """A VM out of a domain of that host's libvirt."""
        return await self._tasks.wish(
            "adopt", pool_id, wish.name, who, lambda c: DiskClient(c).adopt(domain, wish, host),
            address=address, after=f"the domain {domain} of {host}",
        )  # fmt: skip

    async def _of_vm(
        self, verb: str, pool_id: str, vm: str, who: str,
        ask: Callable[[AgentClient, str], Answer], after: str, address: str,
        wish: Wish = NO_WISH, said: str = "",
    ) -> Task:  # fmt: skip
        """after: what is wished of it, for the audit."""
        found = self._fleet.vm(pool_id, vm).vm
        return await self._tasks.wish(
            verb, pool_id, found.name, who, lambda c: ask(c, found.name), wish, address=address,
            before=_vm_was(found), after=after, said=said,
        )  # fmt: skip


def _vm_was(vm: VmStatus) -> str:
    there = f"{vm.state} on {vm.host}" if vm.host else vm.state
    return f"{there}, {ha_was(vm.ha_off) if vm.ha else 'best effort'}"


def ha_was(off: HaOffInfo | None) -> str:
    return "HA on" if off is None else f"HA off: {off.why}"
