"""Snapshots of a VM's disks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from outlast.manager.api.gate import Caller, needs
from outlast.manager.api.once import Once, accepted
from outlast.manager.api.paging import Asked, Page, asked
from outlast.wire.disks import Snapshot, SnapshotWish

router = APIRouter(tags=["vms"])
PATH = "/pools/{pool}/vms/{vm}/snapshots"


@router.get(PATH)
async def list_snapshots(
    pool: str, vm: str, caller: Annotated[Caller, needs("see")],
    how: Annotated[Asked, asked("taken")],
) -> Page[Snapshot]:  # fmt: skip
    """What its disks held at some moments; asks the VM's host."""
    found = await caller.manager.reads.snapshots(caller.pool_id, caller.vm)
    keys = {"name": lambda s: s.name, "taken": lambda s: s.taken_wall_s}
    return how.page(found, keys, lambda snapshot: snapshot)


@router.post(PATH, **accepted())
async def take_snapshot(
    pool: str, vm: str, wish: SnapshotWish, caller: Annotated[Caller, needs("snapshot")], once: Once
) -> Response:
    """Keep what its disks hold now; it may run meanwhile, its memory is not kept."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.snapshot(caller.pool_id, caller.vm, who, wish, address=caller.address)
    )


@router.post(f"{PATH}/{{snapshot}}/revert", **accepted())
async def revert_to_snapshot(
    pool: str, vm: str, snapshot: str, caller: Annotated[Caller, needs("snapshot")], once: Once
) -> Response:
    """Go back to it; what was written since is lost. The VM must be stopped."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.revert(caller.pool_id, caller.vm, who, snapshot, address=caller.address)
    )


@router.delete(f"{PATH}/{{snapshot}}", **accepted())
async def remove_snapshot(
    pool: str, vm: str, snapshot: str, caller: Annotated[Caller, needs("snapshot")], once: Once
) -> Response:
    """Forget it; what the disks hold now stays."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.forget(caller.pool_id, caller.vm, who, snapshot, address=caller.address)
    )
