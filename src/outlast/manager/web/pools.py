"""Pools and their hosts: the overview, one pool, one host, what a failure would do.

Rules: numbers count what the viewer sees. A pool that does not answer is shown as it was, with the
time; that HA goes on without the manager is said beside it.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from outlast.errors import NotFound, OutlastError
from outlast.manager.ports import PoolEntry
from outlast.manager.repository import records
from outlast.manager.web import charts, health
from outlast.manager.web.charts import Range
from outlast.manager.web.gate import View, page
from outlast.manager.web.journal import recent
from outlast.manager.web.moments import drawn_traces
from outlast.manager.web.pictures.matrix import (
    HEARD,
    OUT,
    UNHEARD,
    UNKNOWN,
    Listener,
    faults,
    matrix,
)
from outlast.manager.web.pictures.moment import hearing, told
from outlast.manager.web.pictures.strip import strip
from outlast.manager.web.render import drawn, fragment, html
from outlast.manager.web.render import page as whole
from outlast.manager.web.room import Room, storage_tick
from outlast.manager.web.wishes import dialogs_for
from outlast.placement.spare import Failure, any_sentence
from outlast.readiness.drills import HOST_KINDS
from outlast.wire.client import AgentClient
from outlast.wire.equipment import EquipmentClient, NetworkInfo, StorageInfo
from outlast.wire.shapes import HostStatus

router = APIRouter()
EVENTS = 12
ANY_MAX = 3
Word = Annotated[str, Query(max_length=200)]


# ---- the overview


@router.get("/")
async def overview(view: Annotated[View, page()], problems: bool = False) -> Response:
    """One row a pool, worst first; above them what needs somebody."""
    values: dict[str, Any] = {"problems": problems, "commands": ADD_A_POOL}
    values |= await recent(view)  # pool_rows says what the room learns there
    values |= pool_rows(view)
    return whole(view, "pools.html", live="pools=1&page=recent", **values)


ADD_A_POOL = (
    "outlast pool certificate manager1 --role manager --pool /srv/pool --out ./pki",
    "outlast manager add-pool https://HOST:7791 --pki ./pki",
)


def pool_rows(view: View) -> dict[str, Any]:
    """Pools, how many wishes are on their way in each, and when a host failed there last."""
    seen = [e for e in view.manager.reads.pools() if view.scope.touches(e.id)]
    rows = [(entry, health.summary(entry, view.scope)) for entry in seen]
    rank = {"bad": 0, "stale": 1, "warn": 2, "ok": 3}
    rows.sort(key=lambda r: (rank[r[1].tone], r[0].name, r[0].id))
    open_ = Counter(task.pool_id for task in view.manager.acts.tasks(open_only=True))
    return {"rows": rows, "tasks": open_, "failed": view.room.failed}


@router.get("/pools/{pool}/spare")
async def spare(pool: str, view: Annotated[View, page("see")], cell: bool = False) -> Response:
    """Whether any one host may fail; counted on the spot."""
    try:
        found, trouble = await view.room.foresight.spare(view.caller.pool_id), ""
    except OutlastError as error:
        found, trouble = None, error.sentence
    values = {"spare": found, "trouble": trouble, "cell": cell}
    entry = view.manager.reads.pool(view.caller.pool_id)
    return html(fragment("_spare.html", entry=entry, **values))


@router.get("/pools/{pool}/room")
async def room(pool: str, view: Annotated[View, page("catalog")]) -> Response:
    """How full the pool's storage is, and what it has besides: one agent is asked."""
    pool_id = view.caller.pool_id
    try:
        found = await view.manager.reads.ask(pool_id, lambda c: EquipmentClient(c).storage())
        trouble = ""
    except OutlastError as error:
        found, trouble = [], error.sentence
    sizes = [
        (s.name, on.size_bytes - on.free_bytes, on.size_bytes)
        for s in found
        for on in s.hosts
        if on.size_bytes and on.free_bytes is not None
    ]
    sizes.sort(key=lambda one: one[1] / one[2], reverse=True)  # the fullest one first
    entry = view.manager.reads.pool(pool_id)
    return html(fragment("_room.html", entry=entry, sizes=sizes, trouble=trouble))


# ---- one pool


@router.get("/pools/{pool}")
async def one_pool(pool: str, view: Annotated[View, page("see")], range: Range = "") -> Response:
    entry = view.manager.reads.pool(view.caller.pool_id)
    rows, _ = await view.manager.repository.read(
        lambda c: records.list_events(c, pools_seen=None, pool_id=entry.id, limit=EVENTS)
    )
    values = pool_parts(view.room, entry) | {
        "events": rows, "summary": health.summary(entry, view.scope), "single": entry.id,
        "buttons": dialogs_for(view, "pool", entry.id),
    }  # fmt: skip
    values |= await charts.parts(view, "pool", "", range)
    return whole(view, "pool.html", live=f"pool={entry.id}", **values)


def pool_parts(room: Room, entry: PoolEntry) -> dict[str, Any]:
    """What a pool's page and its stream both show."""
    hosts = entry.status.hosts
    rows = [_listener(entry, host) for host in hosts]
    return {
        "entry": entry, "hosts": hosts, "used": health.used_mib(entry.status),
        "counts": health.counts(entry.status), "strips": strips(room, entry),
        "matrix": drawn(matrix(rows)), "faults": faults(rows),
    }  # fmt: skip


def strips(room: Room, entry: PoolEntry) -> dict[str, tuple[str, str]]:
    """By host: storage and network."""
    made: dict[str, tuple[str, str]] = {}
    for host in entry.status.hosts:
        storage, network = room.beats.of(entry.id, host.name)
        made[host.name] = (
            drawn(strip(storage, f"Storage beats of {host.name}")),
            drawn(strip(network, f"Network beats of {host.name}")),
        )
    return made


def _listener(entry: PoolEntry, host: HostStatus) -> Listener:
    member = host.state == "member"
    storage = {"ok": HEARD, "late": HEARD, "missed": UNHEARD, "none": UNKNOWN}
    kind = storage[storage_tick(entry, host)] if member else OUT
    return Listener(host.name, member, frozenset(host.hears), frozenset(host.unheard), kind)


@router.get("/pools/{pool}/what-if")
async def what_if(
    pool: str, view: Annotated[View, page("see")], fail: Annotated[list[str], Query()] = [],  # noqa: B006
    kind: Word = "power", any_: Annotated[int, Query(alias="any", ge=0, le=ANY_MAX)] = 0,
) -> Response:  # fmt: skip
    """Who restarts where, and who does not, should these hosts die now; of one, its course too.

    any: every choice of so many hosts instead.
    """
    entry = view.manager.reads.pool(view.caller.pool_id)
    found, drill, trouble, chosen = None, None, None, [f for f in fail[:64] if f]
    load: list[tuple[str, float]] = []
    choices: list[Failure] = []
    kind = kind if kind in HOST_KINDS else "power"
    try:
        if any_:
            choices = await view.room.foresight.any_of(entry.id, any_)
        elif len(chosen) == 1:
            drill = await view.room.foresight.drill(entry.id, chosen[0], kind)
            found = drill.failure
        elif chosen:
            found = await view.room.foresight.failure(entry.id, chosen)
        if found is not None:
            load = await view.room.foresight.load_after(entry.id, found)
    except OutlastError as error:
        trouble = error
    command = "outlast pool what-if --fail " + (",".join(chosen) or "HOST[,HOST]")
    if any_:
        command = f"outlast pool what-if --any {any_}"
    elif len(chosen) == 1:
        command = f"outlast drill --host {chosen[0]} --kind {kind} --dry-run"
    values: dict[str, Any] = {
        "entry": entry, "found": found, "drill": drill, "trouble": trouble, "chosen": chosen,
        "kind": kind, "kinds": HOST_KINDS, "load": load, "any": any_, "any_max": ANY_MAX,
        "lost": [one for one in choices if not one.survived],
        "sentence": any_sentence(choices, any_) if choices else "",
    }  # fmt: skip
    if view.partial == "answer":
        return html(fragment("_what_if.html", command=command, **values))
    return whole(view, "what_if.html", command=command, **values)


# ---- one host


@router.get("/pools/{pool}/hosts/{host}")
async def one_host(
    pool: str, host: str, view: Annotated[View, page("see")], range: Range = ""
) -> Response:
    entry = view.manager.reads.pool(view.caller.pool_id)
    rows, _ = await view.manager.repository.read(
        lambda c: records.list_events(
            c, pools_seen=None, pool_id=entry.id, host=view.caller.host, limit=30
        )
    )
    values = host_parts(view, entry, view.caller.host)
    values |= await charts.parts(view, "host", view.caller.host, range)
    live = f"host={entry.id}/{view.caller.host}"
    return whole(view, "host.html", live=live, events=rows, **values)


def host_parts(view: View, entry: PoolEntry, name: str) -> dict[str, Any]:
    """Raises NotFound."""
    found = next((h for h in entry.status.hosts if h.name == name), None)
    if found is None:
        raise NotFound(f"there is no host {name[:80]!r} in pool {entry.name}")
    members = [h for h in entry.status.hosts if h.state == "member" and h.name != name]
    vms = [v for v in entry.status.vms if v.host == name]
    return {
        "entry": entry, "host": found, "vms": vms, "used": health.used_mib(entry.status),
        "strip": strips(view.room, entry)[name], "deaf": health.not_heard(found, members),
        "buttons": dialogs_for(view, "host", entry.id, name),
        "tasks": [t for t in view.manager.acts.tasks()
                  if (t.pool_id, t.object) == (entry.id, name)][:5],
    }  # fmt: skip


@router.get("/pools/{pool}/hosts/{host}/why")
async def why_host(pool: str, host: str, view: Annotated[View, page("see")]) -> Response:
    return await told_why(view, view.manager.reads.why_host(view.caller.pool_id, view.caller.host))


async def told_why(view: View, question: Any) -> Response:
    """The notes that led to it; asks an agent. A pool that does not answer says so in its place."""
    try:
        why, error = await question, None
    except OutlastError as trouble:
        why, error = None, trouble
    made = fragment(
        "_why.html", why=why, error=error, told=lambda step: told(step.evidence, step.host),
        hearing=lambda step, n: drawn(hearing(step.evidence, step.host, f"moment-{n}")),
        traces=lambda step: drawn_traces(step.evidence),
    )  # fmt: skip
    if view.partial:
        return html(made)
    return whole(view, "plain.html", title="Why", body=drawn(made))


@router.get("/pools/{pool}/hosts/{host}/equipment")
async def equipment(pool: str, host: str, view: Annotated[View, page("see")]) -> Response:
    """Networks and storage of the pool as this host itself sees them: its cards, its mounts."""
    name = view.caller.host

    def look(client: AgentClient) -> tuple[list[NetworkInfo], list[StorageInfo]]:
        asked = EquipmentClient(client)
        return asked.networks(), asked.storage()

    each = await view.manager.reads.each(view.caller.pool_id, look, only=name)
    said = each.get(name, NotFound(f"there is no host {name} any more"))
    error = said if isinstance(said, OutlastError) else None
    networks, storage = ([], []) if isinstance(said, OutlastError) else said
    made = fragment("_host_equipment.html", networks=networks, storage=storage, error=error,
                    pool_id=view.caller.pool_id)  # fmt: skip
    if view.partial:
        return html(made)
    return whole(view, "plain.html", title=f"Cards and storage of {name}", body=drawn(made))


# ---- for the stream


def pool_fragments(room: Room, entry: PoolEntry) -> dict[str, str]:
    """By id of the element: what is the same for everybody who sees the pool."""
    parts = pool_parts(room, entry)
    return {name: fragment(f"_{name}.html", **parts) for name in ("hosts", "matrix")}


def head_fragment(view: View, entry: PoolEntry) -> str:
    """With this viewer's buttons, whose forms hold this session's token: never for another one."""
    buttons, summary = dialogs_for(view, "pool", entry.id), health.summary(entry, view.scope)
    return fragment("_pool_head.html", view=view, entry=entry, summary=summary, buttons=buttons)


def rows_fragment(view: View) -> str:
    return fragment("_pool_rows.html", problems=False, **pool_rows(view))
