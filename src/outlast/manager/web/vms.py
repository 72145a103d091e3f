"""VMs: the list of all pools, and one VM with its reasons.

Rules:
1. What the list shows is in its address: search, filters, order, page. The address that is pushed
   has only what differs from the beginning.
2. A live change touches its row where it is; nobody's place in the list jumps.
3. Words like `state:down host:kvm-02 pool:lab ha:off` in the search filter as the boxes do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Response

from outlast.errors import InvalidInput, NotFound, OutlastError
from outlast.manager.ports import PoolEntry, VmItem, VmQuery
from outlast.manager.repository import records
from outlast.manager.web import health
from outlast.manager.web.gate import View, page
from outlast.manager.web.pools import told_why
from outlast.manager.web.render import fragment, html, pool_path
from outlast.manager.web.render import page as whole
from outlast.manager.web.wishes import dialogs_for

router = APIRouter()
LIMITS = (25, 50, 100)
PROBLEMS = "down,waiting,unconfirmed,paused"
COLUMNS = (
    ("name", "Name"), ("state", "State"), ("host", "Host"), ("pool", "Pool"), ("", "HA"),
    ("memory", "Memory"), ("vcpus", "vCPUs"), ("since", "Here for"),
)  # fmt: skip
Text = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True, slots=True)
class Filter:
    """The list's address."""

    search: str = ""
    pool: str = ""
    host: str = ""
    state: str = ""
    ha: str = ""  # "" | on | off
    sort: str = "name"
    down: bool = False  # descending
    page: int = 1
    limit: int = 50

    def path(self, **other: Any) -> str:
        """The address with some of it changed, without what is as at the beginning."""
        now, first = replace(self, **other), Filter()
        said: dict[str, str] = {
            name: ("1" if value is True else str(value))
            for name in Filter.__slots__
            if (value := getattr(now, name)) != getattr(first, name)
        }
        return "/vms" + (f"?{urlencode(said, quote_via=quote)}" if said else "")

    def sorted_by(self, sort: str) -> str:
        return self.path(sort=sort, down=self.sort == sort and not self.down, page=1)

    @property
    def narrowed(self) -> bool:
        return bool(self.search or self.pool or self.host or self.state or self.ha)

    def query(self, view: View) -> tuple[VmQuery, str]:
        """What to look for; and the pool's name when words of the search named one.

        Raises NotFound for a pool that is not there.
        """
        words, asked = [], self
        for word in self.search.split():
            key, colon, value = word.partition(":")
            if colon and value and key in ("state", "host", "pool", "ha"):
                asked = replace(asked, **{key: value})  # type: ignore[arg-type]
            else:
                words.append(word)
        pool = view.manager.reads.find(asked.pool) if asked.pool else None
        if pool is not None and not view.scope.touches(pool.id):
            raise NotFound(f"there is no pool {asked.pool[:80]!r}")
        ha = {"": None, "on": True, "off": False}.get(asked.ha)
        return VmQuery(
            " ".join(words), pool.id if pool else "", asked.host, asked.state, ha, self.sort,
            self.down, "", self.page, self.limit, view.scope,
        ), pool.name if pool else ""  # fmt: skip


@router.get("/vms")
async def list_vms(
    view: Annotated[View, page()], search: Text = "", pool: Text = "", host: Text = "",
    state: Text = "", ha: Text = "", sort: Text = "name", down: bool = False,
    page: Annotated[int, Query(ge=1, le=100_000)] = 1, limit: int = 50,
) -> Response:  # fmt: skip
    """VMs of all pools, filtered and sorted by the manager's own list."""
    asked = Filter(
        search.strip(), pool, host, state, ha if ha in ("on", "off") else "", sort or "name",
        down, page, limit if limit in LIMITS else 50,
    )  # fmt: skip
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
        "after": view.manager.reads.hub.last, "stream": stream_of(found.items),
    }  # fmt: skip
    if view.partial == "vm-table":
        return html(fragment("_vm_table.html", **values), HX_Push_Url=asked.path())
    return whole(view, "vms.html", **values)


def stream_of(items: Any) -> str:
    """The query for /live that shows these VMs: `vm=POOL:NAME,NAME` for each pool."""
    by_pool: dict[str, list[str]] = {}
    for item in items:
        by_pool.setdefault(item.pool_id, []).append(item.vm.name)
    return urlencode([("vm", f"{p}:{','.join(names)}") for p, names in by_pool.items()], safe=":,")


def row_fragment(entry: PoolEntry, item: VmItem) -> str:
    return fragment("_vm_row.html", item=item, names={entry.id: entry.name})


@router.get("/pools/{pool}/vms/{vm}")
async def one_vm(pool: str, vm: str, view: Annotated[View, page("see")]) -> Response:
    caller = view.caller
    rows, _ = await view.manager.repository.read(
        lambda c: records.list_events(
            c, pools_seen=None, pool_id=caller.pool_id, vm=caller.vm, limit=30
        )
    )
    values = vm_parts(view, caller.pool_id, caller.vm)
    live = f"one={caller.pool_id}/{caller.vm}"
    return whole(view, "vm.html", live=live, events=rows, **values)


def vm_parts(view: View, pool_id: str, name: str) -> dict[str, Any]:
    """What a VM's page and its stream show. Raises NotFound."""
    item, entry = view.manager.reads.vm(pool_id, name), view.manager.reads.pool(pool_id)
    return {
        "entry": entry, "item": item, "vm": item.vm, "pool": pool_path(entry),
        "buttons": dialogs_for(view, "vm", pool_id, name),
        "whole_pool": view.scope.sees_pool(pool_id),
        "tasks": [t for t in view.manager.acts.tasks()
                  if (t.pool_id, t.object) == (pool_id, name)][:5],
    }  # fmt: skip


@router.get("/pools/{pool}/vms/{vm}/why")
async def why_vm(pool: str, vm: str, view: Annotated[View, page("see")]) -> Response:
    return await told_why(view, view.manager.reads.why(view.caller.pool_id, view.caller.vm))


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
