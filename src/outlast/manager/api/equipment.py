"""What VMs of a pool are made of and stand on: networks, storage, images, templates.

Rules:
1. Lists ask the pool's agents on the spot: of networks and storage every host says how they stand
   on itself, and one that does not answer is in the list as not known.
2. Names of VMs are those that the caller may see.
3. A network's ETag is of its definition; If-Match holds it against what the pool has now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Response

from outlast.errors import NotFound
from outlast.manager.api.answers import Cursor, Limit, Page, Text, page_of
from outlast.manager.api.gate import Caller, needs
from outlast.manager.api.once import KEY, Once, accepted
from outlast.manager.errors import Changed
from outlast.wire.equipment import (
    NetworkChange,
    NetworkInfo,
    NetworkWish,
    StorageInfo,
    StorageWish,
)
from outlast.wire.images import ImageImport, ImageInfo
from outlast.wire.templates import TemplateDeploy, TemplateInfo, TemplateWish

router = APIRouter()
Named = TypeVar("Named", NetworkInfo, StorageInfo, ImageInfo, TemplateInfo)
Used = TypeVar("Used", NetworkInfo, StorageInfo, TemplateInfo)
IfMatch = Annotated[
    str, Header(alias="If-Match", max_length=200, description="the network's ETag as you saw it")
]


class ImportBody(ImageImport):
    name: str


class TemplateDeployBody(TemplateDeploy):
    start: bool = False  # and start it once it is there


# ---- networks


@router.get("/pools/{pool}/networks", tags=["networks"])
async def list_networks(
    pool: str, caller: Annotated[Caller, needs("catalog")], search: Text = "", sort: Text = "name",
    descending: bool = False, limit: Limit = 50, cursor: Cursor = "",
) -> Page[NetworkInfo]:  # fmt: skip
    """Networks for VMs, and how each stands on every host."""
    found = [_seen(caller, one) for one in await caller.manager.reads.networks(caller.pool_id)]
    keys = {"name": lambda n: n.name, "vlan": lambda n: n.vlan, "vms": lambda n: len(n.vms)}
    return _page(found, keys, search, sort, descending=descending, limit=limit, cursor=cursor)


@router.get("/pools/{pool}/networks/{network}", tags=["networks"])
async def one_network(
    pool: str, network: str, caller: Annotated[Caller, needs("catalog")], response: Response
) -> NetworkInfo:
    """One network; its ETag serves If-Match."""
    found = await _network(caller, network)
    response.headers["ETag"] = network_etag(found)
    return _seen(caller, found)


@router.post("/pools/{pool}/networks", tags=["networks"], **accepted())
async def create_network(
    pool: str, wish: NetworkWish, caller: Annotated[Caller, needs("pool-set")], once: Once,
    key: KEY = "",
) -> Response:  # fmt: skip
    """A network for VMs: a bridge of this name on every host."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.create_network(caller.pool_id, who, wish, address=caller.address)
    )


@router.patch("/pools/{pool}/networks/{network}", tags=["networks"], **accepted())
async def change_network(
    pool: str, network: str, wish: NetworkChange, caller: Annotated[Caller, needs("pool-set")],
    once: Once, key: KEY = "", if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Its uplinks, VLAN or MTU; what is not given stays as it is."""
    before = await _network(caller, network)
    _match(before, if_match)
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.change_network(
            caller.pool_id, network, who, wish, before=definition(before), address=caller.address
        )
    )


@router.delete("/pools/{pool}/networks/{network}", tags=["networks"], **accepted())
async def remove_network(
    pool: str, network: str, caller: Annotated[Caller, needs("pool-set")], once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Hosts keep its bridge until no VM uses it there."""
    if if_match:
        _match(await _network(caller, network), if_match)
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.remove_network(caller.pool_id, network, who, address=caller.address)
    )


async def _network(caller: Caller, name: str) -> NetworkInfo:
    """Raises NotFound."""
    return named(await caller.manager.reads.networks(caller.pool_id), name, "network")


def _match(found: NetworkInfo, if_match: str) -> None:
    """Raises Changed."""
    if if_match not in ("", "*", network_etag(found)):
        raise Changed(f"{found.name} was changed meanwhile", hint="look at it again")


def definition(network: NetworkInfo) -> str:
    """What somebody wished of it, as JSON."""
    return network.model_dump_json(exclude={"hosts", "vms"})


def network_etag(network: NetworkInfo) -> str:
    return f'"{hashlib.blake2b(definition(network).encode(), digest_size=8).hexdigest()}"'


# ---- storage


@router.get("/pools/{pool}/storage", tags=["storage"])
async def list_storage(
    pool: str, caller: Annotated[Caller, needs("catalog")], search: Text = "", sort: Text = "name",
    descending: bool = False, limit: Limit = 50, cursor: Cursor = "",
) -> Page[StorageInfo]:  # fmt: skip
    """The pool's own storage and its repositories, and how each stands on every host."""
    found = [_seen(caller, one) for one in await caller.manager.reads.storage(caller.pool_id)]
    keys = {"name": lambda s: "" if s.own else s.name, "kind": lambda s: s.kind,
            "vms": lambda s: len(s.vms)}  # fmt: skip
    return _page(found, keys, search, sort, descending=descending, limit=limit, cursor=cursor)


@router.get("/pools/{pool}/storage/{storage}", tags=["storage"])
async def one_storage(
    pool: str, storage: str, caller: Annotated[Caller, needs("catalog")]
) -> StorageInfo:
    found = await caller.manager.reads.storage(caller.pool_id)
    return _seen(caller, named(found, storage, "storage"))


@router.post("/pools/{pool}/storage", tags=["storage"], **accepted())
async def add_storage(
    pool: str, wish: StorageWish, caller: Annotated[Caller, needs("pool-set")], once: Once,
    key: KEY = "",
) -> Response:  # fmt: skip
    """More storage for disks: every host mounts it by itself, and watches it."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(lambda: acts.add_storage(caller.pool_id, who, wish, address=caller.address))


@router.delete("/pools/{pool}/storage/{storage}", tags=["storage"], **accepted())
async def remove_storage(
    pool: str, storage: str, caller: Annotated[Caller, needs("pool-set")], once: Once
) -> Response:
    """What is on it stays. One with disks of VMs is kept."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.remove_storage(caller.pool_id, storage, who, address=caller.address)
    )


# ---- images


@router.get("/pools/{pool}/images", tags=["images"])
async def list_images(
    pool: str, caller: Annotated[Caller, needs("catalog")], search: Text = "", sort: Text = "name",
    descending: bool = False, limit: Limit = 50, cursor: Cursor = "",
) -> Page[ImageInfo]:  # fmt: skip
    """Disk images that templates can be made of."""
    found = await caller.manager.reads.images(caller.pool_id)
    keys = {"name": lambda i: i.name, "size": lambda i: i.virtual_bytes,
            "created": lambda i: i.created_wall_s}  # fmt: skip
    return _page(found, keys, search, sort, descending=descending, limit=limit, cursor=cursor)


@router.get("/pools/{pool}/images/{image}", tags=["images"])
async def one_image(
    pool: str, image: str, caller: Annotated[Caller, needs("catalog")]
) -> ImageInfo:
    return named(await caller.manager.reads.images(caller.pool_id), image, "image")


@router.post("/pools/{pool}/images", tags=["images"], **accepted())
async def import_image(
    pool: str, wish: ImportBody, caller: Annotated[Caller, needs("images")], once: Once,
    key: KEY = "",
) -> Response:  # fmt: skip
    """From an https address, or a file in the folder `import` of the pool's storage.

    Takes as long as it takes: the task says how far it is, and can be cancelled.
    """
    acts, who = caller.manager.acts, caller.person.name
    plain = ImageImport(**wish.model_dump(exclude={"name"}, exclude_unset=True))
    return await once(
        lambda: acts.import_image(caller.pool_id, wish.name, who, plain, address=caller.address)
    )


@router.delete("/pools/{pool}/images/{image}", tags=["images"], **accepted())
async def remove_image(
    pool: str, image: str, caller: Annotated[Caller, needs("images")], once: Once
) -> Response:
    """Templates that were made of it keep what they need."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(lambda: acts.remove_image(caller.pool_id, image, who, address=caller.address))


# ---- templates


@router.get("/pools/{pool}/templates", tags=["templates"])
async def list_templates(
    pool: str, caller: Annotated[Caller, needs("catalog")]
) -> list[TemplateInfo]:
    """Of which VMs can be made."""
    return [_seen(caller, one) for one in await caller.manager.reads.templates(caller.pool_id)]


@router.get("/pools/{pool}/templates/{template}", tags=["templates"])
async def one_template(
    pool: str, template: str, caller: Annotated[Caller, needs("catalog")]
) -> TemplateInfo:
    found = await caller.manager.reads.templates(caller.pool_id)
    return _seen(caller, named(found, template, "template"))


@router.post("/pools/{pool}/templates", tags=["templates"], **accepted())
async def create_template(
    pool: str, wish: TemplateWish, caller: Annotated[Caller, needs("images")], once: Once,
    key: KEY = "",
) -> Response:  # fmt: skip
    """Of an image; both share their files."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.create_template(caller.pool_id, who, wish, address=caller.address)
    )


@router.delete("/pools/{pool}/templates/{template}", tags=["templates"], **accepted())
async def remove_template(
    pool: str, template: str, caller: Annotated[Caller, needs("images")], once: Once
) -> Response:
    """One with linked clones stays."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.remove_template(caller.pool_id, template, who, address=caller.address)
    )


@router.post("/pools/{pool}/templates/{template}/deploy", tags=["templates"], **accepted())
async def deploy(
    pool: str, template: str, wish: TemplateDeployBody, caller: Annotated[Caller, needs("create")],
    once: Once, key: KEY = "",
) -> Response:  # fmt: skip
    """A new VM, its disks linked clones; stopped, unless `start` is true."""
    acts, plain = caller.manager.acts, wish.model_dump(exclude={"start"}, exclude_unset=True)
    return await once(
        lambda: acts.deploy(
            caller.pool_id, caller.person.name, template, TemplateDeploy(**plain),
            start=wish.start, address=caller.address,
        )
    )  # fmt: skip


def named(found: list[Named], name: str, noun: str) -> Named:
    """Raises NotFound."""
    for one in found:
        if one.name == name:
            return one
    raise NotFound(f"there is no {noun} {name[:80]!r} in this pool")


def _page(
    found: list[Named], keys: dict[str, Callable[[Named], Any]], search: str, sort: str, *,
    descending: bool, limit: int, cursor: str,
) -> Page[Named]:  # fmt: skip
    """Of those whose name has the words."""
    rows, total, next_cursor = page_of(
        [one for one in found if search.lower() in one.name], keys, lambda one: one.name,
        sort=sort, descending=descending, limit=limit, cursor=cursor,
    )  # fmt: skip
    return Page(items=rows, total=total, next_cursor=next_cursor)


def _seen(caller: Caller, info: Used) -> Used:
    """Rule 2."""
    scope, pool_id = caller.scope, caller.pool_id
    if scope.sees_pool(pool_id):
        return info
    return info.model_copy(update={"vms": [vm for vm in info.vms if scope.sees_vm(pool_id, vm)]})
