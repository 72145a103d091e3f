"""The hosts of all pools in one list, worst first: which machine needs somebody now.

Rules: hosts are shown to those who see their whole pool. Gauges come with the stream, every two
seconds; a host's place in the list may change then, as it is the worst that must lie on top.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response

from outlast.manager.ports import PoolEntry
from outlast.manager.repository import records
from outlast.manager.web import health
from outlast.manager.web.gate import View, page
from outlast.manager.web.pools import strips
from outlast.manager.web.render import fragment, html
from outlast.manager.web.render import page as whole
from outlast.manager.web.stories import DEATHS, OUT_DAYS
from outlast.wire.shapes import HostStatus

router = APIRouter()
Text = Annotated[str, Query(max_length=200)]
ROWS_MAX = 200
OUT_MAX = 500
RANK = {"bad": 0, "warn": 1, "stale": 2, "busy": 3, "off": 4, "ok": 5}
Found = tuple[PoolEntry, HostStatus]


@router.get("/hosts")
async def list_hosts(
    view: Annotated[View, page()], search: Text = "", pool: Text = "", problems: bool = False
) -> Response:
    looked = {"search": search.strip(), "pool": pool, "problems": "1" if problems else ""}
    values = await _hosts(view, looked)
    if view.partial == "host-list":
        return html(fragment("_host_list.html", **values))
    live = urlencode({"page": f"hosts?{urlencode(looked)}"})
    return whole(view, "hosts.html", live=live, **values)


async def hosts_fragment(view: View, looked: Mapping[str, str]) -> dict[str, str]:
    return {"host-list": fragment("_host_list.html", **(await _hosts(view, looked)))}


async def _hosts(view: View, looked: Mapping[str, str]) -> dict[str, Any]:
    known = [e for e in view.manager.reads.pools() if view.scope.sees_pool(e.id)]
    found = [row for row in _rows(known) if _fits(row, looked)]
    found.sort(key=lambda r: (RANK.get(_tone(r), 1), r[0].name, r[1].slot))
    shown = found[:ROWS_MAX]
    entries = {entry.id: entry for entry, _ in shown}
    drawn = {pool_id: strips(view.room, entry) for pool_id, entry in entries.items()}
    used = {pool_id: health.used_mib(entry.status) for pool_id, entry in entries.items()}
    counts = {pool_id: health.counts(entry.status) for pool_id, entry in entries.items()}
    return {
        "rows": shown, "total": len(found), "hosts": sum(len(e.status.hosts) for e in known),
        "known": known, "looked": dict(looked), "strips": drawn, "used": used, "counts": counts,
        "tone": _tone, "out": await _last_out(view, list(entries)), "view": view,
    }  # fmt: skip


def _rows(entries: list[PoolEntry]) -> list[Found]:
    return [(entry, host) for entry in entries for host in entry.status.hosts]


def _tone(row: Found) -> str:
    return "stale" if row[0].stale else health.host_tone(row[1])


def _fits(row: Found, looked: Mapping[str, str]) -> bool:
    entry, host = row
    if looked.get("pool") not in ("", None, entry.id, entry.name):
        return False
    if looked.get("problems") and _tone(row) == "ok":
        return False
    told = f"{host.name} {entry.name} {host.state} {health.host_word(host)} {host.version}".lower()
    return all(word in told for word in looked.get("search", "").lower().split())


async def _last_out(view: View, pool_ids: list[str]) -> dict[tuple[str, str], float]:
    """When each host was last taken for dead, or ended by itself."""
    since_s = time.time() - OUT_DAYS * 86400
    rows = await view.manager.repository.read(
        lambda c: records.events_since(c, pool_ids, DEATHS, since_s, limit=OUT_MAX)
    )
    return {(r.pool_id, str(r.fields.get("host") or r.host)): r.wall_s for r in reversed(rows)}
