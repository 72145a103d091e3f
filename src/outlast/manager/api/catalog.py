"""What networks, storage, images and templates have in common as things of the API.

Rules:
1. They are asked of the pool's agents on the spot, each time.
2. Names of VMs are those that the caller may see.
3. An ETag is of what somebody wished of a thing, not of how it stands on hosts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Response

from outlast.errors import NotFound
from outlast.manager.api import match
from outlast.manager.api.gate import Caller
from outlast.wire.equipment import NetworkInfo, StorageInfo
from outlast.wire.images import ImageInfo
from outlast.wire.templates import TemplateInfo

Thing = TypeVar("Thing", NetworkInfo, StorageInfo, ImageInfo, TemplateInfo)
Ask = Callable[[str], Awaitable[list[Thing]]]  # all of a pool


async def all_of(caller: Caller, ask: Ask[Thing]) -> list[Thing]:
    """Of the pool that the path names."""
    return [_seen(caller, one) for one in await ask(caller.pool_id)]


async def one_of(caller: Caller, ask: Ask[Thing], name: str, response: Response) -> Thing:
    """With its ETag in the response. Raises NotFound."""
    found = _named(await ask(caller.pool_id), name)
    response.headers["ETag"] = match.etag(wished(found))
    return _seen(caller, found)


async def unchanged(caller: Caller, ask: Ask[Thing], name: str, if_match: str) -> None:
    """Raises Changed when it is not what the caller saw, NotFound when it is gone."""

    async def now() -> str:
        return wished(_named(await ask(caller.pool_id), name))

    await match.check(if_match, name, now)


async def definition(caller: Caller, ask: Ask[Thing], name: str, if_match: str) -> str:
    """What somebody wished of it, as JSON: asked once, also for If-Match. Raises as `unchanged`."""
    found = wished(_named(await ask(caller.pool_id), name))

    async def now() -> str:
        return found

    await match.check(if_match, name, now)
    return found


def wished(info: NetworkInfo | StorageInfo | ImageInfo | TemplateInfo) -> str:
    return info.model_dump_json(exclude={"hosts", "vms", "stored_bytes"})


def _named(found: list[Thing], name: str) -> Thing:
    """Raises NotFound."""
    for one in found:
        if one.name == name:
            return one
    raise NotFound(f"there is no {name[:80]!r} among these in this pool", hint="see the list")


def _seen(caller: Caller, info: Thing) -> Thing:
    """Rule 2."""
    scope, pool_id = caller.scope, caller.pool_id
    if isinstance(info, ImageInfo) or scope.sees_pool(pool_id):
        return info
    return info.model_copy(update={"vms": [vm for vm in info.vms if scope.sees_vm(pool_id, vm)]})
