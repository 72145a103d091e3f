"""What VMs of a pool stand on: networks and storage. Images and templates are in images.py.

Every host says of itself how they stand there; one that does not answer is in the list as not
known. What they share with images and templates is in catalog.py.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from outlast.manager.api.catalog import all_of, definition, one_of, unchanged
from outlast.manager.api.gate import Caller, needs
from outlast.manager.api.match import IfMatch
from outlast.manager.api.once import Once, accepted
from outlast.manager.api.paging import Asked, Page, asked
from outlast.wire.equipment import (
    NetworkChange,
    NetworkInfo,
    NetworkWish,
    OrphanInfo,
    StorageInfo,
    StorageWish,
)

router = APIRouter()


@router.get("/pools/{pool}/networks", tags=["networks"])
async def list_networks(
    pool: str, caller: Annotated[Caller, needs("catalog")], how: Annotated[Asked, asked()]
) -> Page[NetworkInfo]:
    """Networks for VMs, and how each stands on every host."""
    found = await all_of(caller, caller.manager.reads.networks)
    keys = {"name": lambda n: n.name, "vlan": lambda n: n.vlan, "vms": lambda n: len(n.vms)}
    return how.page(found, keys, lambda network: network)


@router.get("/pools/{pool}/networks/{network}", tags=["networks"])
async def one_network(
    pool: str, network: str, caller: Annotated[Caller, needs("catalog")], response: Response
) -> NetworkInfo:
    """One network; its ETag serves If-Match."""
    return await one_of(caller, caller.manager.reads.networks, network, response)


@router.post("/pools/{pool}/networks", tags=["networks"], **accepted())
async def create_network(
    pool: str, wish: NetworkWish, caller: Annotated[Caller, needs("pool-set")], once: Once
) -> Response:
    """A network for VMs: a bridge of this name on every host."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.create_network(caller.pool_id, who, wish, address=caller.address)
    )


@router.patch("/pools/{pool}/networks/{network}", tags=["networks"], **accepted())
async def change_network(
    pool: str, network: str, wish: NetworkChange, caller: Annotated[Caller, needs("pool-set")],
    once: Once, if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Its uplinks, VLAN or MTU; what is not given stays as it is."""
    before = await definition(caller, caller.manager.reads.networks, network, if_match)
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.change_network(
            caller.pool_id, network, who, wish, before=before, address=caller.address
        )
    )


@router.delete("/pools/{pool}/networks/{network}", tags=["networks"], **accepted())
async def remove_network(
    pool: str, network: str, caller: Annotated[Caller, needs("pool-set")], once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Hosts keep its bridge until no VM uses it there."""
    await unchanged(caller, caller.manager.reads.networks, network, if_match)
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.remove_network(caller.pool_id, network, who, address=caller.address)
    )


@router.get("/pools/{pool}/storage", tags=["storage"])
async def list_storage(
    pool: str, caller: Annotated[Caller, needs("catalog")], how: Annotated[Asked, asked()]
) -> Page[StorageInfo]:
    """The pool's own storage and its repositories, and how each stands on every host."""
    found = await all_of(caller, caller.manager.reads.storage)
    keys = {"name": lambda s: "" if s.own else s.name, "kind": lambda s: s.kind,
            "vms": lambda s: len(s.vms)}  # fmt: skip
    return how.page(found, keys, lambda storage: storage)


@router.get("/pools/{pool}/storage/{storage}", tags=["storage"])
async def one_storage(
    pool: str, storage: str, caller: Annotated[Caller, needs("catalog")], response: Response
) -> StorageInfo:
    """One of them; its ETag serves If-Match."""
    return await one_of(caller, caller.manager.reads.storage, storage, response)


@router.post("/pools/{pool}/storage", tags=["storage"], **accepted())
async def add_storage(
    pool: str, wish: StorageWish, caller: Annotated[Caller, needs("pool-set")], once: Once
) -> Response:
    """More storage for disks: every host mounts it by itself, and watches it."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(lambda: acts.add_storage(caller.pool_id, who, wish, address=caller.address))


@router.delete("/pools/{pool}/storage/{storage}", tags=["storage"], **accepted())
async def remove_storage(
    pool: str, storage: str, caller: Annotated[Caller, needs("pool-set")], once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """What is on it stays. One with disks of VMs is kept."""
    await unchanged(caller, caller.manager.reads.storage, storage, if_match)
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.remove_storage(caller.pool_id, storage, who, address=caller.address)
    )


@router.get("/pools/{pool}/orphans", tags=["storage"])
async def list_orphans(
    pool: str, caller: Annotated[Caller, needs("see")], how: Annotated[Asked, asked()]
) -> Page[OrphanInfo]:
    """Disks on the pool's storage that no VM names, and that have not changed for an hour."""
    found = await caller.manager.reads.orphans(caller.pool_id)
    keys = {"name": lambda o: o.name, "size": lambda o: o.size_bytes}
    return how.page(found, keys, lambda orphan: orphan)


@router.delete("/pools/{pool}/orphans/{orphan}", tags=["storage"], **accepted())
async def remove_orphan(
    pool: str, orphan: str, caller: Annotated[Caller, needs("pool-set")], once: Once
) -> Response:
    """Delete such a disk; one that a VM names by now, or that is held open, stays."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.remove_orphan(caller.pool_id, orphan, who, address=caller.address)
    )
