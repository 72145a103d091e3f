"""Disks of VMs on their way: to other storage, into backups and out of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from outlast.errors import NotFound
from outlast.manager.api import match
from outlast.manager.api.answers import ERRORS
from outlast.manager.api.gate import Caller, needs
from outlast.manager.api.match import IfMatch
from outlast.manager.api.once import Once, accepted
from outlast.manager.api.paging import Asked, Page, asked
from outlast.wire.backups import RestoreWish, ScheduleInfo, ScheduleWish
from outlast.wire.disks import BackupWish, DiskMoveWish

router = APIRouter(tags=["vms"])
VM = "/pools/{pool}/vms/{vm}"


class RestoreBody(RestoreWish):
    name: str  # of the new VM
    host: str = ""  # whose folder it is; "" = the same storage is there on every host


@router.post(f"{VM}/disk-move", **accepted())
async def move_disk(
    pool: str, vm: str, wish: DiskMoveWish, caller: Annotated[Caller, needs("migrate")], once: Once
) -> Response:
    """To another storage of the pool, while the VM runs or stands still; the task says how far."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.move_disk(caller.pool_id, caller.vm, who, wish, address=caller.address)
    )


@router.post(f"{VM}/backup", **accepted())
async def back_up(
    pool: str, vm: str, wish: BackupWish, caller: Annotated[Caller, needs("backup")], once: Once
) -> Response:
    """Into a folder of the VM's host, outside the pool's storage; the task says how far."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.backup(caller.pool_id, caller.vm, who, wish, address=caller.address)
    )


@router.post("/pools/{pool}/restore", **accepted())
async def restore(
    pool: str, wish: RestoreBody, caller: Annotated[Caller, needs("backup")], once: Once
) -> Response:
    """A new VM out of a backup; the VM that was backed up is not touched."""
    acts, who = caller.manager.acts, caller.person.name
    plain = RestoreWish(**wish.model_dump(exclude={"name", "host"}, exclude_unset=True))
    return await once(
        lambda: acts.restore(
            caller.pool_id, wish.name, who, plain, wish.host, address=caller.address
        )
    )


@router.get("/pools/{pool}/schedules")
async def list_schedules(
    pool: str, caller: Annotated[Caller, needs("see")], how: Annotated[Asked, asked("vm")]
) -> Page[ScheduleInfo]:
    """Which VMs are backed up by themselves, when, where to, and how the last one ended."""
    found = await caller.manager.reads.schedules(caller.pool_id)
    keys = {"vm": lambda s: s.vm, "good": lambda s: s.good_wall_s}
    return how.page(found, keys, lambda one: one, name=lambda s: s.vm, id_=lambda s: s.vm)


@router.get(f"{VM}/schedule", responses=ERRORS)
async def one_schedule(
    pool: str, vm: str, caller: Annotated[Caller, needs("see")], response: Response
) -> ScheduleInfo:
    """When it is backed up by itself; its ETag serves If-Match."""
    found = await _scheduled(caller)
    response.headers["ETag"] = match.etag(_wished(found))
    return found


@router.put(f"{VM}/schedule", **accepted())
async def schedule(
    pool: str, vm: str, wish: ScheduleWish, caller: Annotated[Caller, needs("backup")], once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Have it backed up by itself, at a time of the day or after a pause."""
    await _unchanged(caller, if_match)
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.schedule(caller.pool_id, caller.vm, who, wish, address=caller.address)
    )


@router.delete(f"{VM}/schedule", **accepted())
async def unschedule(
    pool: str, vm: str, caller: Annotated[Caller, needs("backup")], once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Back it up no more by itself; backups that were made stay."""
    await _unchanged(caller, if_match)
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.unschedule(caller.pool_id, caller.vm, who, address=caller.address)
    )


async def _scheduled(caller: Caller) -> ScheduleInfo:
    """Of the VM that the path names. Raises NotFound."""
    vm = caller.manager.reads.vm(caller.pool_id, caller.vm).vm.name
    for one in await caller.manager.reads.schedules(caller.pool_id):
        if one.vm == vm:
            return one
    raise NotFound(f"'{vm}' is not backed up by itself", hint=f"outlast vm schedule set {vm}")


async def _unchanged(caller: Caller, if_match: str) -> None:
    """Raises Changed when it is not what the caller saw."""

    async def now() -> str:
        return _wished(await _scheduled(caller))

    await match.check(if_match, f"the schedule of {caller.vm}", now)


def _wished(info: ScheduleInfo) -> str:
    return info.model_dump_json(include=set(ScheduleWish.model_fields))
