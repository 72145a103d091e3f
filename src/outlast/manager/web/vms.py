"""VMs: the list of all pools, and one VM with its reasons.

Rules:
1. What the list shows is in its address (filters.py).
2. A live change touches its row where it is; nobody's place in the list jumps. A bar says when the
   rows would lie in another order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Response

from outlast.errors import InvalidInput, NotFound, OutlastError
from outlast.manager.ports import PoolEntry, VmItem, VmQuery
from outlast.manager.repository import records
from outlast.manager.web import charts, health
from outlast.manager.web.bulk import bulk_verbs
from outlast.manager.web.charts import Range
from outlast.manager.web.filters import LIMITS, Filter, asked_for, filter_of
from outlast.manager.web.gate import View, page
from outlast.manager.web.pools import told_why
from outlast.manager.web.render import fragment, html, pool_path
from outlast.manager.web.render import page as whole
from outlast.manager.web.views import kept
from outlast.manager.web.wishes import dialogs_for
from outlast.wire.shapes import VmStatus

router = APIRouter()
SOFT = " (soft)"
PROBLEMS = "down,waiting,unconfirmed,paused"
COLUMNS = (
    ("name", "Name"), ("state", "State"), ("host", "Host"), ("pool", "Pool"), ("", "HA"),
    ("memory", "Memory"), ("vcpus", "vCPUs"), ("since", "Here for"),
)  # fmt: skip


@router.get("/vms")
async def list_vms(
    view: Annotated[View, page()], asked: Annotated[Filter, asked_for()]
) -> Response:
    """VMs of all pools, filtered and sorted by the manager's own list."""
    try:
        query, pool_name = asked.query(view)
        found, error = view.manager.reads.vms(query), None
    except (InvalidInput, NotFound) as trouble:
        found, error, pool_name = view.manager.reads.vms(VmQuery(search="\x00")), trouble, ""
    names = {e.id: e.name for e in view.manager.reads.pools() if view.scope.touches(e.id)}
    pages = max(1, -(-found.total // asked.limit))
    values: dict[str, Any] = {
        "asked": asked, "items": found.items, "total": found.total, "pages": pages,
        "columns": COLUMNS, "names": names, "limits": LIMITS, "states": health.VM_STATES,
        "problems": PROBLEMS, "error": error, "pool_name": pool_name, "view": view,
        "csrf": view.csrf, "after": view.manager.reads.hub.last, "verbs": bulk_verbs(view),
        "stream": stream_of(asked, found.items), "views": await kept(view),
    }  # fmt: skip
    if view.partial == "vm-table":
        return html(fragment("_vm_table.html", **values), HX_Push_Url=asked.path())
    return whole(view, "vms.html", **values)


def stream_of(asked: Filter, items: Any) -> str:
    """The query for /live that shows these VMs: `vm=POOL:NAME,NAME` for each pool.

    `order` stands for how they lie, and `list` for the question, so that the stream can tell when
    the answer would be another one.
    """
    by_pool: dict[str, list[str]] = {}
    for item in items:
        by_pool.setdefault(item.pool_id, []).append(item.vm.name)
    shown = [("vm", f"{p}:{','.join(names)}") for p, names in by_pool.items()]
    return urlencode([*shown, ("list", asked.path()), ("order", order_of(items))], safe=":,")


def order_of(items: Any) -> str:
    said = "\n".join(f"{item.pool_id} {item.vm.name}" for item in items)
    return hashlib.blake2b(said.encode(), digest_size=6).hexdigest()


def moved_fragment(view: View, list_: str, order: str) -> dict[str, str]:
    """A bar above the list, once its rows would lie in another order or be others."""
    asked = filter_of(list_)
    try:
        now = order_of(view.manager.reads.vms(asked.query(view)[0]).items)
    except (InvalidInput, NotFound):
        now = order
    return {"moved": fragment("_moved.html", asked=asked)} if now != order else {}


def row_fragment(entry: PoolEntry, item: VmItem) -> str:
    return fragment("_vm_row.html", item=item, names={entry.id: entry.name})


@router.get("/pools/{pool}/vms/{vm}")
async def one_vm(
    pool: str, vm: str, view: Annotated[View, page("see")], range: Range = ""
) -> Response:
    caller = view.caller
    rows, _ = await view.manager.repository.read(
        lambda c: records.list_events(
            c, pools_seen=None, pool_id=caller.pool_id, vm=caller.vm, limit=30
        )
    )
    values = vm_parts(view, caller.pool_id, caller.vm)
    values |= await charts.parts(view, "vm", caller.vm, range)
    live = f"one={caller.pool_id}/{caller.vm}"
    return whole(view, "vm.html", live=live, events=rows, **values)


def few_hosts(vm: VmStatus, entry: PoolEntry) -> int | None:
    """How many of the hosts that it may run on are up, when they are fewer than two."""
    up = {h.name for h in entry.status.hosts if h.state == "member"} & set(vm.preferred)
    return len(up) if vm.preferred and len(up) < 2 else None


def groups_of(
    vm: VmStatus, entry: PoolEntry, seen: Callable[[str], bool]
) -> list[tuple[str, list[str], list[str]]]:
    """Each group with the others in it, where they are, and those that lie against it now.

    seen: may the viewer see that VM.
    """
    found = []
    for group in vm.groups:
        key = group.removesuffix(SOFT)
        mates = [
            v for v in entry.status.vms
            if v.name != vm.name and key in (g.removesuffix(SOFT) for g in v.groups)
            and seen(v.name)
        ]  # fmt: skip
        apart = key.startswith("apart")
        against = [v.name for v in mates
                   if v.host and vm.host and (v.host == vm.host) == apart]  # fmt: skip
        found.append((group, [f"{v.name} on {v.host or 'no host'}" for v in mates], against))
    return found


def vm_parts(view: View, pool_id: str, name: str) -> dict[str, Any]:
    """What a VM's page and its stream show. Raises NotFound."""
    item, entry = view.manager.reads.vm(pool_id, name), view.manager.reads.pool(pool_id)
    return {
        "entry": entry, "item": item, "vm": item.vm, "pool": pool_path(entry),
        "buttons": dialogs_for(view, "vm", pool_id, name),
        "few_hosts": few_hosts(item.vm, entry),
        "groups": groups_of(item.vm, entry, lambda name: view.scope.sees_vm(pool_id, name)),
        "whole_pool": view.scope.sees_pool(pool_id),
        "tasks": [t for t in view.manager.acts.tasks()
                  if (t.pool_id, t.object) == (pool_id, name)][:5],
    }  # fmt: skip


@router.get("/pools/{pool}/vms/{vm}/why")
async def why_vm(pool: str, vm: str, view: Annotated[View, page("see")]) -> Response:
    return await told_why(view, view.manager.reads.why(view.caller.pool_id, view.caller.vm))


@router.get("/pools/{pool}/vms/{vm}/snapshots")
async def snapshots(pool: str, vm: str, view: Annotated[View, page("see")]) -> Response:
    """Of its disks; asks an agent."""
    caller = view.caller
    try:
        found, error = await view.manager.reads.snapshots(caller.pool_id, caller.vm), None
    except OutlastError as trouble:
        found, error = [], trouble
    return html(fragment("_snapshots.html", found=found, error=error, name=caller.vm))


@router.get("/pools/{pool}/vms/{vm}/places")
async def places(pool: str, vm: str, view: Annotated[View, page("see")]) -> Response:
    """Each host for this VM: what would be left there, or the rule that rejects it."""
    caller = view.caller
    if not view.scope.sees_pool(caller.pool_id):
        raise NotFound("hosts are shown to those who see the whole pool")
    try:
        found, error = await view.room.foresight.places(caller.pool_id, caller.vm), None
    except OutlastError as trouble:
        found, error = None, trouble
    here = view.manager.reads.vm(caller.pool_id, caller.vm).vm.host
    return html(fragment("_places.html", found=found, error=error, here=here))
