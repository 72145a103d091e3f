"""What people may wish of a pool's networks, storage, images and templates (acts_port.py).

All but imports and copies are done as soon as the pool has written it; hosts carry it out by
themselves.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel

from outlast.manager.cancelling import cancel_of
from outlast.manager.outcome import Wish
from outlast.manager.ports import Task
from outlast.manager.tasks import NO_WISH, Tasks
from outlast.wire.client import AgentClient
from outlast.wire.disks import JobStatus
from outlast.wire.equipment import EquipmentClient, NetworkChange, NetworkWish, StorageWish
from outlast.wire.images import ImageClient, ImageImport, ImportWish
from outlast.wire.shapes import PoolWish, VmWish
from outlast.wire.templates import TemplateClient, TemplateOfVm, TemplateWish


class Equipping:
    """Its part of Acts."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def create_network(
        self, pool_id: str, who: str, wish: NetworkWish, *, address: str = ""
    ) -> Task:
        return await self._equip(
            "network-create", pool_id, wish.name, who, address,
            lambda c: EquipmentClient(c).create_network(wish),
            wish,
        )  # fmt: skip

    async def change_network(
        self, pool_id: str, network: str, who: str, change: NetworkChange, *, before: str = "",
        address: str = "",
    ) -> Task:  # fmt: skip
        """before: what it was, for the audit."""
        return await self._equip(
            "network-change", pool_id, network, who, address,
            lambda c: EquipmentClient(c).change_network(network, change),
            change, before,
        )  # fmt: skip

    async def remove_network(
        self, pool_id: str, network: str, who: str, *, address: str = ""
    ) -> Task:
        return await self._equip(
            "network-remove", pool_id, network, who, address,
            lambda c: EquipmentClient(c).remove_network(network),
        )  # fmt: skip

    async def add_storage(
        self, pool_id: str, who: str, wish: StorageWish, *, address: str = ""
    ) -> Task:
        return await self._equip(
            "storage-add", pool_id, wish.name, who, address,
            lambda c: EquipmentClient(c).add_storage(wish),
            wish,
        )  # fmt: skip

    async def remove_storage(
        self, pool_id: str, storage: str, who: str, *, address: str = ""
    ) -> Task:
        return await self._equip(
            "storage-remove", pool_id, storage, who, address,
            lambda c: EquipmentClient(c).remove_storage(storage),
        )  # fmt: skip

    async def remove_orphan(
        self, pool_id: str, orphan: str, who: str, *, address: str = ""
    ) -> Task:
        return await self._equip(
            "orphan-remove", pool_id, orphan, who, address,
            lambda c: EquipmentClient(c).remove_orphan(orphan),
        )  # fmt: skip

    async def import_image(
        self, pool_id: str, image: str, who: str, wish: ImageImport, *, address: str = ""
    ) -> Task:
        """By the host whose agent takes it; the task shows how far it is."""
        return await self._equip(
            "image-import", pool_id, image, who, address,
            lambda c: begun(ImageClient(c).import_(image, wish)), wish,
        )  # fmt: skip

    async def take_upload(
        self, pool_id: str, image: str, who: str, wish: ImportWish, *, address: str = ""
    ) -> Task:
        """The image out of what was sent; it is an import like others from here on."""
        return await self._equip(
            "image-import", pool_id, image, who, address,
            lambda c: begun(ImageClient(c).take(image, wish)), wish,
        )  # fmt: skip

    async def remove_image(self, pool_id: str, image: str, who: str, *, address: str = "") -> Task:
        return await self._equip(
            "image-remove", pool_id, image, who, address, lambda c: ImageClient(c).remove(image)
        )

    async def create_template(
        self, pool_id: str, who: str, wish: TemplateWish, *, address: str = ""
    ) -> Task:
        return await self._equip(
            "template-create", pool_id, wish.name, who, address,
            lambda c: TemplateClient(c).create(wish), wish,
        )  # fmt: skip

    async def template_of_vm(
        self, pool_id: str, vm: str, who: str, wish: TemplateOfVm, *, address: str = ""
    ) -> Task:
        """By the VM's host; the task shows how far it is."""
        return await self._equip(
            "template-of-vm", pool_id, wish.name, who, address,
            lambda c: begun(TemplateClient(c).make(vm, wish)), wish, seeks=Wish(source=vm),
        )  # fmt: skip

    async def remove_template(
        self, pool_id: str, template: str, who: str, *, address: str = ""
    ) -> Task:
        return await self._equip(
            "template-remove", pool_id, template, who, address,
            lambda c: TemplateClient(c).remove(template),
        )  # fmt: skip

    async def cancel(self, task: Task, who: str, *, address: str = "") -> Task:
        """Have a wish not be carried out; the new task is that. Raises Conflict (cancelling.py)."""
        how, wish = cancel_of(task), self._tasks.wish_of(task.id)
        return await self._tasks.wish(
            how.verb, task.pool_id, task.object, who, lambda c: how.ask(c, task, wish),
            address=address, after=how.after, agent=wish.agent if how.same_agent else "",
        )  # fmt: skip

    async def _equip(
        self, verb: str, pool_id: str, name: str, who: str, address: str,
        ask: Callable[[AgentClient], PoolWish | VmWish], wish: BaseModel | None = None,
        before: str = "", seeks: Wish = NO_WISH,
    ) -> Task:  # fmt: skip
        """wish, before: for the audit."""
        after = "removed" if verb.endswith("-remove") else ""
        if wish is not None:
            after = wish.model_dump_json(exclude_unset=True)
        return await self._tasks.wish(
            verb, pool_id, name, who, ask, seeks, address=address, before=before, after=after
        )


def begun(status: JobStatus) -> PoolWish:
    """Work that an agent has begun, as a wish that was written."""
    return PoolWish(changed=True, sentence=status.sentence)
