"""Pools and hosts: what they are, and wishes about them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from outlast.manager.api.answers import (
    Cursor,
    HostOut,
    Limit,
    Page,
    PoolOut,
    Request,
    Text,
    page_of,
)
from outlast.manager.api.gate import Caller, logged_in, needs
from outlast.manager.api.once import KEY, Once, accepted
from outlast.manager.ports import PoolEntry
from outlast.wire.shapes import HaSwitch, HostMaintain, HostStatus, PoolChange, TimelineEntry
from outlast.wire.why import Why

router = APIRouter()


class DrillBody(Request):
    kind: Literal["power", "network", "storage", "agent"]


class HostServeBody(Request):
    bring_back: bool = False


@router.get("/pools", tags=["pools"])
async def list_pools(
    caller: Annotated[Caller, logged_in()], search: Text = "", stale: bool | None = None,
    sort: Text = "name", descending: bool = False, limit: Limit = 50, cursor: Cursor = "",
) -> Page[PoolOut]:  # fmt: skip
    """All pools that the caller sees anything of."""
    may = caller.manager.people.may
    found = [
        entry for entry in caller.manager.reads.pools()
        if (caller.scope.touches(entry.id) or may(caller.person, "create", entry.id))
        and search.lower() in entry.name.lower() and stale in (None, entry.stale)
    ]  # fmt: skip
    keys = {"name": lambda e: e.name, "seen": lambda e: e.seen_wall_s,
            "vms": lambda e: len(e.status.vms)}  # fmt: skip
    rows, total, next_cursor = page_of(
        found, keys, lambda e: e.id, sort=sort, descending=descending, limit=limit, cursor=cursor
    )
    return Page(items=[_pool(e, caller) for e in rows], total=total, next_cursor=next_cursor)


@router.get("/pools/{pool}", tags=["pools"])
async def one_pool(pool: str, caller: Annotated[Caller, needs("see")]) -> PoolOut:
    """A pool, by id or by a name that only one has."""
    return _pool(caller.manager.reads.pool(caller.pool_id), caller)


@router.get("/pools/{pool}/timeline", tags=["pools"])
async def pool_timeline(
    pool: str, caller: Annotated[Caller, needs("see")],
    limit: Annotated[int, Query(ge=1, le=5000)] = 200,
    since_wall_s: Annotated[float, Query(ge=0, lt=1e12)] = 0,
) -> list[TimelineEntry]:  # fmt: skip
    """The pool's own journal, oldest first; asks an agent."""
    return await caller.manager.reads.timeline(caller.pool_id, limit, since_wall_s)


@router.post("/pools/{pool}/ha", tags=["pools"], **accepted())
async def switch_pool_ha(
    pool: str,
    wish: HaSwitch,
    caller: Annotated[Caller, needs("pool-ha")],
    once: Once,
    key: KEY = "",
) -> Response:
    """High availability of all VMs, on or off for a while."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(lambda: acts.pool_ha(caller.pool_id, who, wish, address=caller.address))


@router.patch("/pools/{pool}/settings", tags=["pools"], **accepted())
async def change_pool(
    pool: str,
    wish: PoolChange,
    caller: Annotated[Caller, needs("pool-set")],
    once: Once,
    key: KEY = "",
) -> Response:
    """Settings of the whole pool; what is not given stays as it is."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(lambda: acts.pool_set(caller.pool_id, who, wish, address=caller.address))


@router.get("/pools/{pool}/hosts", tags=["hosts"])
async def list_hosts(
    pool: str, caller: Annotated[Caller, needs("see")], search: Text = "", state: Text = "",
    sort: Text = "name", descending: bool = False, limit: Limit = 100, cursor: Cursor = "",
) -> Page[HostOut]:  # fmt: skip
    """The hosts of a pool."""
    entry = caller.manager.reads.pool(caller.pool_id)
    found = [
        host for host in entry.status.hosts
        if search.lower() in host.name and state in ("", host.state)
    ]  # fmt: skip
    keys = {"name": lambda h: h.name, "state": lambda h: h.state, "slot": lambda h: h.slot,
            "free": lambda h: h.free_mib or 0, "vms": lambda h: h.vm_count or 0}  # fmt: skip
    rows, total, next_cursor = page_of(
        found, keys, lambda h: h.name, sort=sort, descending=descending, limit=limit, cursor=cursor
    )
    items = [_host(entry, host) for host in rows]
    return Page(items=items, total=total, next_cursor=next_cursor)


@router.get("/pools/{pool}/hosts/{host}", tags=["hosts"])
async def one_host(pool: str, host: str, caller: Annotated[Caller, needs("see")]) -> HostOut:
    reads = caller.manager.reads
    found = reads.host(caller.pool_id, caller.host)
    return _host(reads.pool(caller.pool_id), found)


@router.get("/pools/{pool}/hosts/{host}/why", tags=["hosts"])
async def why_host(pool: str, host: str, caller: Annotated[Caller, needs("see")]) -> Why:
    """Why a host is as it is; asks an agent."""
    return await caller.manager.reads.why_host(caller.pool_id, caller.host)


@router.post("/pools/{pool}/hosts/{host}/maintenance", tags=["hosts"], **accepted())
async def maintain(
    pool: str, host: str, wish: HostMaintain, caller: Annotated[Caller, needs("maintain")],
    once: Once, key: KEY = "",
) -> Response:  # fmt: skip
    """Empty a host while its VMs run, and give it none until it resumes."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.maintain(caller.pool_id, caller.host, who, wish.why, address=caller.address)
    )


@router.post("/pools/{pool}/hosts/{host}/resume", tags=["hosts"], **accepted())
async def resume(
    pool: str, host: str, wish: HostServeBody, caller: Annotated[Caller, needs("resume")],
    once: Once, key: KEY = "",
) -> Response:  # fmt: skip
    """End a host's maintenance."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.resume(
            caller.pool_id, caller.host, who, bring_back=wish.bring_back, address=caller.address
        )
    )


@router.post("/pools/{pool}/hosts/{host}/power-off", tags=["hosts"], **accepted())
async def power_off(
    pool: str, host: str, caller: Annotated[Caller, needs("power-off")], once: Once, key: KEY = ""
) -> Response:
    """Switch a host off."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.power_off(caller.pool_id, caller.host, who, address=caller.address)
    )


@router.post("/pools/{pool}/hosts/{host}/drill", tags=["hosts"], **accepted())
async def drill(
    pool: str, host: str, wish: DrillBody, caller: Annotated[Caller, needs("drill")], once: Once,
    key: KEY = "",
) -> Response:  # fmt: skip
    """Have a failure of a host take place, on purpose; its report is an event."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.drill(caller.pool_id, caller.host, who, wish.kind, address=caller.address)
    )


def _pool(entry: PoolEntry, caller: Caller) -> PoolOut:
    """Numbers count what the caller sees."""
    status, scope = entry.status, caller.scope
    whole = scope.sees_pool(entry.id)
    vms = status.vms if whole else [v for v in status.vms if scope.sees_vm(entry.id, v.name)]
    hosts = status.hosts if whole else []
    return PoolOut(
        id=entry.id, name=entry.name, stale=entry.stale, trouble=entry.trouble,
        seen_wall_s=entry.seen_wall_s, version=entry.version, sentence=status.sentence,
        preset=status.preset, master=status.master if whole else "",
        ha_off=status.ha_off is not None, hosts=len(hosts),
        members=sum(h.state == "member" for h in hosts), vms=len(vms),
        running=sum(v.state == "running" for v in vms),
    )  # fmt: skip


def _host(entry: PoolEntry, host: HostStatus) -> HostOut:
    more = {"pool_id": entry.id, "pool": entry.name, "stale": entry.stale}
    return HostOut.model_validate(host.__dict__ | more)
