"""What a pool, a host or a VM did over time: charts of the manager's own history.

Rules:
1. The range is in the address (`?range=week`). Ranges are fixed lengths that end now.
2. A chart is drawn on the server (decision 18): no script, no second copy of the numbers.
3. Failures, maintenance and moves are marked on the time axis; whoever sees one VM sees its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from markupsafe import Markup

from outlast.manager.api.series import points
from outlast.manager.repository import records
from outlast.manager.repository.records import EventRow
from outlast.manager.rollup import DAY_S, HOSTS, Roll, level_for, part_of
from outlast.manager.tones import BAD, TONES, tone
from outlast.manager.web.gate import View, page
from outlast.manager.web.pictures.chart import Frame, Moment, Point, chart, words
from outlast.manager.web.render import drawn, fragment, host_path, html, vm_path
from outlast.manager.web.render import page as whole

router = APIRouter()
Range = Annotated[str, Query(max_length=20)]
RANGES = {"hour": 3600, "day": DAY_S, "week": 7 * DAY_S, "month": 31 * DAY_S, "year": 366 * DAY_S}
MARKED = TONES[BAD] | {"maintenance", "in-service", "host-leaves", "fence-begins", "vm-starts"}
MARKS_READ = 500


@dataclass(frozen=True, slots=True)
class Drawn:
    title: str
    picture: Markup
    words: str


def _cores(value: float) -> str:
    return f"{value:.3g}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if abs(value - round(value)) < 0.05 else f"{value:,.1f}"


def _bytes(value: float) -> str:
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if abs(value) >= 1 << power:
            return f"{value / (1 << power):.3g} {unit}"
    return f"{value:.0f} B"


def _seconds(value: float) -> str:
    return f"{value * 1000:.3g} ms" if 0 < abs(value) < 1 else f"{value:.3g} s"


Say = Callable[[float], str]
CHARTS: dict[str, tuple[tuple[str, str, Say], ...]] = {
    "pool": (
        ("outlast_pool_busy_cores", "Cores busy", _cores),
        ("outlast_pool_free_memory_bytes", "Memory free", _bytes),
        ("outlast_pool_spare_memory_bytes", "Memory left after one failure", _bytes),
        ("outlast_pool_heartbeat_margin_seconds", "Heartbeat margin", _seconds),
        ("outlast_pool_members", "Members", _count),
        ("outlast_pool_vms_unprotected", "Running VMs without protection", _count),
    ),
    "host": (
        ("outlast_host_busy_cores", "Cores busy", _cores),
        ("outlast_host_used_memory_bytes", "Memory in use", _bytes),
        ("outlast_host_vms", "VMs", _count),
        ("outlast_host_heartbeat_age_seconds", "Age of the storage beat", _seconds),
        ("outlast_host_heartbeat_margin_seconds", "Heartbeat margin", _seconds),
        ("outlast_host_storage_delay_seconds", "Delay of the storage", _seconds),
    ),
    "vm": (("outlast_vm_busy_cores", "Cores busy", _cores),),
}


async def parts(view: View, kind: str, name: str, chosen: str) -> dict[str, Any]:
    """What the template of charts needs. kind: pool | host | vm. Raises StorageTrouble."""
    pool_id, now_s = view.caller.pool_id, time.time()
    chosen = chosen if chosen in RANGES else "day"
    from_s, part = now_s - RANGES[chosen], part_of(name) if kind == "vm" else HOSTS
    level = level_for(from_s, now_s, now_s, part)
    found = await points(view.manager, pool_id, part, name, level, from_s, now_s)
    events = await view.manager.repository.read(
        lambda c: records.events_since(
            c, [pool_id], MARKED, from_s, vm=name if kind == "vm" else "", limit=MARKS_READ
        )
    )
    frame = Frame(from_s, now_s, level.step_s, tuple(_moments(events, kind, name)))
    limits = _limits(view, kind, name)
    return {
        "range": chosen, "ranges": tuple(RANGES), "step_s": level.step_s,
        "charts_path": f"{_place(kind, pool_id, name)}/charts",
        "charts": [
            _drawn(title, found[metric], frame, say, limits.get(metric))
            for metric, title, say in CHARTS[kind]
            if metric in found
        ],
    }  # fmt: skip


def _drawn(
    title: str, column: dict[int, Roll], frame: Frame, say: Say, limit: float | None
) -> Drawn:
    line = [Point(at, r.mean, r.low, r.high) for at, r in sorted(column.items())]
    return Drawn(title, drawn(chart(title, line, frame, say, limit)), words(line, say))


def _moments(events: Iterable[EventRow], kind: str, name: str) -> list[Moment]:
    return [
        Moment(e.wall_s, tone(e.code), e.sentence) for e in events
        if (kind != "host" or name in (e.fields.get("host"), e.host))
        and (kind == "vm" or e.code != "vm-starts")
    ]  # fmt: skip


def _limits(view: View, kind: str, name: str) -> dict[str, float]:
    """Lines that are not to be crossed."""
    if kind != "host":
        return {}
    host = view.manager.reads.host(view.caller.pool_id, name)
    found = {}
    if host.margin and host.margin.fence_ms:
        found["outlast_host_heartbeat_age_seconds"] = host.margin.fence_ms / 1000
    if host.cores:
        found["outlast_host_busy_cores"] = float(host.cores)
    return found


def _place(kind: str, pool_id: str, name: str) -> str:
    if kind == "vm":
        return vm_path(pool_id, name)
    return host_path(pool_id, name) if kind == "host" else f"/pools/{pool_id}"


async def _answer(view: View, kind: str, name: str, chosen: str) -> Response:
    made = fragment("_charts.html", **await parts(view, kind, name, chosen))
    if view.partial:
        return html(made)
    return whole(view, "plain.html", title="Over time", body=drawn(made))


@router.get("/pools/{pool}/charts")
async def of_pool(pool: str, view: Annotated[View, page("see")], range: Range = "") -> Response:
    return await _answer(view, "pool", "", range)


@router.get("/pools/{pool}/hosts/{host}/charts")
async def of_host(
    pool: str, host: str, view: Annotated[View, page("see")], range: Range = ""
) -> Response:
    return await _answer(view, "host", view.caller.host, range)


@router.get("/pools/{pool}/vms/{vm}/charts")
async def of_vm(
    pool: str, vm: str, view: Annotated[View, page("see")], range: Range = ""
) -> Response:
    return await _answer(view, "vm", view.caller.vm, range)
