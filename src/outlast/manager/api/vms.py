"""VMs: lists over all pools, one VM, wishes about it.

Rules:
1. A VM is named by its pool (id, or a name that only one has) and its own name or uuid.
2. A VM's ETag is of the version of its record, and behind it of all that is shown: If-Match holds
   the first against what an agent says now (match.py), If-None-Match both.
3. The list is built from texts that were made when a VM changed, not when somebody asks.
"""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from outlast.manager.api import match
from outlast.manager.api.answers import ERRORS, VmOut
from outlast.manager.api.gate import Caller, logged_in, needs
from outlast.manager.api.match import IfMatch
from outlast.manager.api.once import Once, accepted
from outlast.manager.api.paging import Cursor, Limit, Page, Text
from outlast.manager.ports import PoolEntry, VmItem, VmQuery
from outlast.wire.shapes import HaSwitch, VmChange, VmCreate, VmDelete, VmMigrate
from outlast.wire.why import Why

router = APIRouter(tags=["VMs"])
_KEPT_MAX = 300_000


class VmCreateBody(VmCreate):
    start: bool = False  # and start it once it is there


class _Texts:
    """VMs as JSON, kept until they change."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[int, str]] = {}

    def of(self, item: VmItem) -> str:
        place = (item.pool_id, item.vm.name)
        kept = self._kept.get(place)
        if kept is None or kept[0] != item.version:
            if len(self._kept) >= _KEPT_MAX:
                self._kept.clear()
            kept = self._kept[place] = item.version, item.vm.model_dump_json()[1:]
        return kept[1]


_texts = _Texts()


@router.get("/vms", response_model=Page[VmOut], responses=ERRORS)
async def list_vms(
    caller: Annotated[Caller, logged_in()], search: Text = "",
    pool: Annotated[str, Query(max_length=100, description="id or name")] = "",
    host: Text = "", state: Annotated[str, Query(description="several with commas",
                                                 max_length=200)] = "",
    ha: bool | None = None, sort: Text = "name", descending: bool = False, limit: Limit = 50,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1, cursor: Cursor = "",
) -> Response:  # fmt: skip
    """VMs of all pools that the caller sees: filtered, sorted, with the total count."""
    reads = caller.manager.reads
    pool_id = reads.find(pool).id if pool else ""
    found = reads.vms(
        VmQuery(search, pool_id, host, state, ha, sort, descending, cursor, page, limit,
                caller.scope)
    )  # fmt: skip
    fronts: dict[str, str] = {}
    for item in found.items:
        if item.pool_id not in fronts:
            fronts[item.pool_id] = _front(reads.pool(item.pool_id))
    items = ",".join(fronts[item.pool_id] + _texts.of(item) for item in found.items)
    next_cursor = json.dumps(found.next_cursor)
    body = f'{{"items":[{items}],"total":{found.total},"next_cursor":{next_cursor}}}'
    return Response(body, media_type="application/json")


@router.get("/pools/{pool}/vms/{vm}", response_model=VmOut, responses=ERRORS)
async def one_vm(
    pool: str, vm: str, caller: Annotated[Caller, needs("see")],
    if_none_match: Annotated[str, Header(max_length=200)] = "",
) -> Response:  # fmt: skip
    """One VM; its ETag serves If-Match."""
    reads = caller.manager.reads
    item = reads.vm(caller.pool_id, caller.vm)
    body = _front(reads.pool(item.pool_id)) + _texts.of(item)
    headers = {"ETag": etag_of(item)}
    if if_none_match == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


@router.get("/pools/{pool}/vms/{vm}/why")
async def why_vm(pool: str, vm: str, caller: Annotated[Caller, needs("see")]) -> Why:
    """Why a VM is where and as it is; asks an agent."""
    return await caller.manager.reads.why(caller.pool_id, caller.vm)


@router.post("/pools/{pool}/vms", **accepted())
async def create_vm(
    pool: str, wish: VmCreateBody, caller: Annotated[Caller, needs("create")], once: Once,
) -> Response:  # fmt: skip
    """A new VM; stopped, unless `start` is true."""
    acts, plain = caller.manager.acts, wish.model_dump(exclude={"start"}, exclude_unset=True)
    return await once(
        lambda: acts.create(
            caller.pool_id, caller.person.name, VmCreate(**plain), start=wish.start,
            address=caller.address,
        )
    )  # fmt: skip


@router.post("/pools/{pool}/vms/{vm}/start", **accepted())
async def start_vm(
    pool: str, vm: str, caller: Annotated[Caller, needs("start")],
    once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    await _match(caller, if_match)
    acts = caller.manager.acts
    return await once(
        lambda: acts.start(caller.pool_id, caller.vm, caller.person.name, address=caller.address)
    )


@router.post("/pools/{pool}/vms/{vm}/stop", **accepted())
async def stop_vm(
    pool: str, vm: str, caller: Annotated[Caller, needs("stop")], once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Ask the system inside to shut down."""
    await _match(caller, if_match)
    acts = caller.manager.acts
    return await once(
        lambda: acts.stop(caller.pool_id, caller.vm, caller.person.name, address=caller.address)
    )


@router.post("/pools/{pool}/vms/{vm}/kill", **accepted())
async def kill_vm(
    pool: str, vm: str, caller: Annotated[Caller, needs("kill")], once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """End it at once."""
    await _match(caller, if_match)
    acts = caller.manager.acts
    return await once(
        lambda: acts.kill(caller.pool_id, caller.vm, caller.person.name, address=caller.address)
    )


@router.post("/pools/{pool}/vms/{vm}/migrate", **accepted())
async def migrate_vm(
    pool: str, vm: str, wish: VmMigrate, caller: Annotated[Caller, needs("migrate")], once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Move it while it runs, to a host or where there is room."""
    await _match(caller, if_match)
    acts = caller.manager.acts
    return await once(
        lambda: acts.migrate(
            caller.pool_id, caller.vm, caller.person.name, wish.to, address=caller.address
        )
    )


@router.post("/pools/{pool}/vms/{vm}/stay", **accepted())
async def stay_vm(
    pool: str, vm: str, caller: Annotated[Caller, needs("migrate")], once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Take back the wish to move it."""
    await _match(caller, if_match)
    acts = caller.manager.acts
    return await once(
        lambda: acts.stay(caller.pool_id, caller.vm, caller.person.name, address=caller.address)
    )


@router.post("/pools/{pool}/vms/{vm}/ha", **accepted())
async def switch_vm_ha(
    pool: str, vm: str, wish: HaSwitch, caller: Annotated[Caller, needs("ha")], once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Its high availability, on or off for a while."""
    await _match(caller, if_match)
    acts = caller.manager.acts
    return await once(
        lambda: acts.ha(caller.pool_id, caller.vm, caller.person.name, wish, address=caller.address)
    )


@router.patch("/pools/{pool}/vms/{vm}", **accepted())
async def change_vm(
    pool: str, vm: str, wish: VmChange, caller: Annotated[Caller, needs("set")], once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Where and when it runs, and its size; what is not given stays as it is."""
    await _match(caller, if_match)
    acts = caller.manager.acts
    return await once(
        lambda: acts.set(
            caller.pool_id, caller.vm, caller.person.name, wish, address=caller.address
        )
    )


@router.delete("/pools/{pool}/vms/{vm}", **accepted())
async def delete_vm(
    pool: str, vm: str, caller: Annotated[Caller, needs("delete")], once: Once,
    force: bool = False, with_disks: bool = False, if_match: IfMatch = "",
) -> Response:  # fmt: skip
    await _match(caller, if_match)
    acts, how = caller.manager.acts, VmDelete(force=force, with_disks=with_disks)
    return await once(
        lambda: acts.delete(
            caller.pool_id, caller.vm, caller.person.name, how, address=caller.address
        )
    )


def etag_of(item: VmItem) -> str:
    return match.etag(str(item.vm.definition), _texts.of(item))


async def _match(caller: Caller, if_match: str) -> None:
    """Raises Changed when the VM's record is not the one that the caller saw."""

    async def now() -> str:
        found = await caller.manager.reads.fresh_vm(caller.pool_id, caller.vm)
        return str(found.definition)

    await match.check(if_match, caller.vm, now)


def _front(entry: PoolEntry) -> str:
    name, stale = json.dumps(entry.name), "true" if entry.stale else "false"
    return (
        f'{{"pool_id":"{entry.id}","pool":{name},"stale":{stale},"seen_wall_s":{entry.seen_wall_s},'
    )
