"""What people may wish of pools, as those who show it see it: the other half of ports.py, whose
rules hold here."""

from __future__ import annotations

from typing import Protocol

from outlast.manager.ports import Task
from outlast.wire.backups import RestoreWish, ScheduleWish
from outlast.wire.disks import AdoptWish, BackupWish, DiskMoveWish, SnapshotWish
from outlast.wire.drills import DrillKind
from outlast.wire.equipment import NetworkChange, NetworkWish, StorageWish
from outlast.wire.images import ImageImport, ImportWish
from outlast.wire.shapes import HaSwitch, PoolChange, VmChange, VmCreate, VmDelete
from outlast.wire.templates import TemplateDeploy, TemplateOfVm, TemplateWish


class Acts(Protocol):
    """Wishes to pools. Each is written durably in the pool before its method returns.

    All raise what the agent answers (NotFound, Conflict, InvalidInput, ...), and Unreachable when
    no agent of the pool takes it. `who` is a person's or token's name; it goes into the audit.
    """

    async def start(self, pool_id: str, vm: str, who: str) -> Task: ...

    async def stop(self, pool_id: str, vm: str, who: str) -> Task: ...

    async def kill(self, pool_id: str, vm: str, who: str) -> Task: ...

    async def migrate(self, pool_id: str, vm: str, who: str, to: str = "") -> Task:
        """to: a host, "" = the pool chooses."""

    async def stay(self, pool_id: str, vm: str, who: str) -> Task:
        """Take back the wish to move it."""

    async def ha(self, pool_id: str, vm: str, who: str, switch: HaSwitch) -> Task: ...

    async def pool_ha(self, pool_id: str, who: str, switch: HaSwitch) -> Task: ...

    async def set(self, pool_id: str, vm: str, who: str, change: VmChange) -> Task:
        """Where and when it runs, and its size."""

    async def pool_set(self, pool_id: str, who: str, change: PoolChange) -> Task: ...

    async def create(self, pool_id: str, who: str, wish: VmCreate, *, start: bool = False) -> Task:
        """A new VM, stopped; `start` starts it once it is there."""

    async def deploy(
        self, pool_id: str, who: str, template: str, wish: TemplateDeploy, *, start: bool = False
    ) -> Task:
        """The same out of a template."""

    async def delete(self, pool_id: str, vm: str, who: str, how: VmDelete) -> Task: ...

    async def snapshot(self, pool_id: str, vm: str, who: str, wish: SnapshotWish) -> Task: ...

    async def revert(self, pool_id: str, vm: str, who: str, snapshot: str) -> Task:
        """Its disks as they were; what was written since is lost."""

    async def forget(self, pool_id: str, vm: str, who: str, snapshot: str) -> Task: ...

    async def move_disk(self, pool_id: str, vm: str, who: str, wish: DiskMoveWish) -> Task:
        """To another storage, while it runs or stands still."""

    async def backup(self, pool_id: str, vm: str, who: str, wish: BackupWish) -> Task:
        """Into a folder of the VM's host."""

    async def restore(
        self, pool_id: str, new: str, who: str, wish: RestoreWish, host: str = ""
    ) -> Task:
        """A new VM out of a folder of a host; "" = of the one whose agent takes it."""

    async def schedule(self, pool_id: str, vm: str, who: str, wish: ScheduleWish) -> Task:
        """Have it backed up by itself."""

    async def unschedule(self, pool_id: str, vm: str, who: str) -> Task: ...

    async def adopt(
        self, pool_id: str, domain: str, who: str, wish: AdoptWish, host: str
    ) -> Task: ...

    async def upgrade(self, pool_id: str, who: str) -> Task:
        """The newest protocol that all its hosts speak; there is no way back."""

    async def maintain(self, pool_id: str, host: str, who: str, why: str = "") -> Task: ...

    async def resume(
        self, pool_id: str, host: str, who: str, *, bring_back: bool = False
    ) -> Task: ...

    async def power_off(self, pool_id: str, host: str, who: str) -> Task: ...
    async def power_on(self, pool_id: str, host: str, who: str) -> Task: ...

    async def confirm_off(self, pool_id: str, host: str, who: str, why: str = "") -> Task:
        """That a host is off for certain: a person answers for it."""

    async def leave(self, pool_id: str, host: str, who: str) -> Task:
        """It is a member no more, and stays on."""

    async def remove_host(self, pool_id: str, host: str, who: str) -> Task:
        """Its slot is freed; it must not be a member."""

    async def drill(self, pool_id: str, host: str, who: str, kind: DrillKind) -> Task: ...

    async def create_network(self, pool_id: str, who: str, wish: NetworkWish) -> Task: ...

    async def change_network(
        self, pool_id: str, network: str, who: str, change: NetworkChange
    ) -> Task: ...

    async def remove_network(self, pool_id: str, network: str, who: str) -> Task: ...

    async def add_storage(self, pool_id: str, who: str, wish: StorageWish) -> Task: ...

    async def remove_storage(self, pool_id: str, storage: str, who: str) -> Task: ...

    async def remove_orphan(self, pool_id: str, orphan: str, who: str) -> Task:
        """Delete a disk that no VM names."""

    async def import_image(self, pool_id: str, image: str, who: str, wish: ImageImport) -> Task:
        """By the host whose agent takes it."""

    async def take_upload(self, pool_id: str, image: str, who: str, wish: ImportWish) -> Task: ...

    async def remove_image(self, pool_id: str, image: str, who: str) -> Task: ...

    async def create_template(self, pool_id: str, who: str, wish: TemplateWish) -> Task: ...

    async def template_of_vm(self, pool_id: str, vm: str, who: str, wish: TemplateOfVm) -> Task: ...

    async def remove_template(self, pool_id: str, template: str, who: str) -> Task: ...

    async def cancel(self, task: Task, who: str) -> Task:
        """Have it not be carried out. Raises Conflict for what cannot be taken back."""

    def tasks(self, *, open_only: bool = False) -> list[Task]:
        """Newest first; those that ended in the last hour included."""

    def task(self, task_id: str) -> Task:
        """Raises NotFound."""
