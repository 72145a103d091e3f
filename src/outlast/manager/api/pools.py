"""Pools and hosts: what they are, and wishes about them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from outlast.manager.api import match
from outlast.manager.api.answers import HostOut, PoolOut, Request
from outlast.manager.api.gate import Caller, logged_in, needs
from outlast.manager.api.match import IfMatch
from outlast.manager.api.once import Once, accepted
from outlast.manager.api.paging import Asked, Newest, Page, Text, asked, newest, pack
from outlast.manager.ports import PoolEntry
from outlast.wire.shapes import (
    Answer,
    HaSwitch,
    HostMaintain,
    HostStatus,
    PoolChange,
    PoolSettingsInfo,
    TimelineEntry,
)
from outlast.wire.why import Why

router = APIRouter()


class DrillBody(Request):
    kind: Literal["power", "network", "storage", "agent"]


class HostServeBody(Request):
    bring_back: bool = False


@router.get("/pools", tags=["pools"])
async def list_pools(
    caller: Annotated[Caller, logged_in()], how: Annotated[Asked, asked()],
    stale: bool | None = None,
) -> Page[PoolOut]:  # fmt: skip
    """All pools that the caller sees anything of."""
    found = [
        entry for entry in caller.manager.reads.pools()
        if caller.touches(entry.id)
        and stale in (None, entry.stale)
    ]  # fmt: skip
    keys = {"name": lambda e: e.name, "seen": lambda e: e.seen_wall_s,
            "vms": lambda e: len(e.status.vms)}  # fmt: skip
    return how.page(found, keys, lambda e: _pool(e, caller), id_=lambda e: e.id)


@router.get("/pools/{pool}", tags=["pools"])
async def one_pool(pool: str, caller: Annotated[Caller, needs("see")]) -> PoolOut:
    """A pool, by id or by a name that only one has."""
    return _pool(caller.manager.reads.pool(caller.pool_id), caller)


class Journal(Answer):
    """Newest first; how many there are is known to nobody before all were read."""

    items: list[TimelineEntry]
    next_cursor: str = ""


@router.get("/pools/{pool}/timeline", tags=["pools"])
async def pool_timeline(
    pool: str, caller: Annotated[Caller, needs("see")], how: Annotated[Newest, newest()],
    since_wall_s: Annotated[float, Query(ge=0, lt=1e12)] = 0,
) -> Journal:  # fmt: skip
    """The pool's own journal; asks an agent. A page ends at a moment of which some may be told."""
    until_s, told = how.before_moment
    asked = how.ask + len(told)
    entries = await caller.manager.reads.timeline(caller.pool_id, asked, since_wall_s, until_s)
    found = [entry for entry in reversed(entries) if entry.id not in told]
    items = found[: how.limit]
    if len(found) <= how.limit:
        return Journal(items=items)
    last_s = items[-1].wall_s
    ids = [entry.id for entry in items if entry.wall_s == last_s]
    more = pack([last_s, ids + list(told if last_s == until_s else ())])
    return Journal(items=items, next_cursor=more)


@router.post("/pools/{pool}/ha", tags=["pools"], **accepted())
async def switch_pool_ha(
    pool: str,
    wish: HaSwitch,
    caller: Annotated[Caller, needs("pool-ha")],
    once: Once,
) -> Response:
    """High availability of all VMs, on or off for a while."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(lambda: acts.pool_ha(caller.pool_id, who, wish, address=caller.address))


@router.get("/pools/{pool}/settings", tags=["pools"])
async def pool_settings(
    pool: str, caller: Annotated[Caller, needs("see")], response: Response
) -> PoolSettingsInfo:
    """What is set for the whole pool, and what that comes to; its ETag serves If-Match."""
    found = caller.manager.reads.pool(caller.pool_id).status.settings
    response.headers["ETag"] = match.etag(found.model_dump_json())
    return found


@router.patch("/pools/{pool}/settings", tags=["pools"], **accepted())
async def change_pool(
    pool: str,
    wish: PoolChange,
    caller: Annotated[Caller, needs("pool-set")],
    once: Once,
    if_match: IfMatch = "",
) -> Response:
    """Settings of the whole pool; what is not given stays as it is."""

    async def now() -> str:
        return (await caller.manager.reads.fresh_pool(caller.pool_id)).settings.model_dump_json()

    await match.check(if_match, "the pool's settings", now)
    acts, who = caller.manager.acts, caller.person.name
    return await once(lambda: acts.pool_set(caller.pool_id, who, wish, address=caller.address))


@router.get("/pools/{pool}/hosts", tags=["hosts"])
async def list_hosts(
    pool: str, caller: Annotated[Caller, needs("see")],
    how: Annotated[Asked, asked(limit=100)], state: Text = "",
) -> Page[HostOut]:  # fmt: skip
    """The hosts of a pool."""
    entry = caller.manager.reads.pool(caller.pool_id)
    found = [host for host in entry.status.hosts if state in ("", host.state)]
    keys = {"name": lambda h: h.name, "state": lambda h: h.state, "slot": lambda h: h.slot,
            "free": lambda h: h.free_mib or 0, "vms": lambda h: h.vm_count or 0}  # fmt: skip
    return how.page(found, keys, lambda host: _host(entry, host))


@router.get("/pools/{pool}/hosts/{host}", tags=["hosts"])
async def one_host(
    pool: str, host: str, caller: Annotated[Caller, needs("see")], response: Response
) -> HostOut:
    """One host; its ETag serves If-Match."""
    reads = caller.manager.reads
    found = reads.host(caller.pool_id, caller.host)
    response.headers["ETag"] = match.etag(_wished(found))
    return _host(reads.pool(caller.pool_id), found)


@router.get("/pools/{pool}/hosts/{host}/why", tags=["hosts"])
async def why_host(pool: str, host: str, caller: Annotated[Caller, needs("see")]) -> Why:
    """Why a host is as it is; asks an agent."""
    return await caller.manager.reads.why_host(caller.pool_id, caller.host)


@router.post("/pools/{pool}/hosts/{host}/maintenance", tags=["hosts"], **accepted())
async def maintain(
    pool: str, host: str, wish: HostMaintain, caller: Annotated[Caller, needs("maintain")],
    once: Once, if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Empty a host while its VMs run, and give it none until it resumes."""
    await _match(caller, if_match)
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.maintain(caller.pool_id, caller.host, who, wish.why, address=caller.address)
    )


@router.post("/pools/{pool}/hosts/{host}/resume", tags=["hosts"], **accepted())
async def resume(
    pool: str, host: str, wish: HostServeBody, caller: Annotated[Caller, needs("resume")],
    once: Once, if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """End a host's maintenance."""
    await _match(caller, if_match)
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.resume(
            caller.pool_id, caller.host, who, bring_back=wish.bring_back, address=caller.address
        )
    )


@router.post("/pools/{pool}/hosts/{host}/power-off", tags=["hosts"], **accepted())
async def power_off(
    pool: str, host: str, caller: Annotated[Caller, needs("power-off")], once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Switch a host off."""
    await _match(caller, if_match)
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.power_off(caller.pool_id, caller.host, who, address=caller.address)
    )


@router.post("/pools/{pool}/hosts/{host}/power-on", tags=["hosts"], **accepted())
async def power_on(
    pool: str, host: str, caller: Annotated[Caller, needs("power-on")], once: Once,
) -> Response:  # fmt: skip
    """Wake a host that is off, over the network."""
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.power_on(caller.pool_id, caller.host, who, address=caller.address)
    )


@router.post("/pools/{pool}/hosts/{host}/confirm-off", tags=["hosts"], **accepted())
async def confirm_off(
    pool: str, host: str, wish: HostMaintain, caller: Annotated[Caller, needs("confirm-off")],
    once: Once, if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Say that a host is off for certain; if it still runs, its VMs would run twice."""
    await _match(caller, if_match)
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.confirm_off(caller.pool_id, caller.host, who, wish.why, address=caller.address)
    )


@router.delete("/pools/{pool}/hosts/{host}", tags=["hosts"], **accepted())
async def remove_host(
    pool: str, host: str, caller: Annotated[Caller, needs("host-remove")], once: Once,
    if_match: IfMatch = "",
) -> Response:  # fmt: skip
    """Take a host that is no member out of the pool for good."""
    await _match(caller, if_match)
    acts, who = caller.manager.acts, caller.person.name
    return await once(
        lambda: acts.remove_host(caller.pool_id, caller.host, who, address=caller.address)
    )


@router.post("/pools/{pool}/hosts/{host}/drill", tags=["hosts"], **accepted())
async def drill(
    pool: str, host: str, wish: DrillBody, caller: Annotated[Caller, needs("drill")], once: Once,
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


async def _match(caller: Caller, if_match: str) -> None:
    """Raises Changed when somebody wished something else of the host than the caller saw."""

    async def now() -> str:
        hosts = (await caller.manager.reads.fresh_pool(caller.pool_id)).hosts
        return next((_wished(host) for host in hosts if host.name == caller.host), "gone")

    await match.check(if_match, caller.host, now)


def _wished(host: HostStatus) -> str:
    return host.model_dump_json(include={"name", "slot", "maintenance"})


def _host(entry: PoolEntry, host: HostStatus) -> HostOut:
    more = {"pool_id": entry.id, "pool": entry.name, "stale": entry.stale}
    return HostOut.model_validate(host.__dict__ | more)
