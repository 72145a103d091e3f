"""One story of failures on a page of its own: the verdict, four numbers, the picture, every step.

Rules:
1. The address names the first event; the page is live while the story goes on.
2. Which host's clock a time is of is said, and so is whose notes are not here.
3. Everything of it is there as JSON, with what was seen at each step, for tickets and programs.
   Hosts are shown to those who see the whole pool.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Response
from sqlalchemy import Connection

from outlast.errors import NotFound
from outlast.manager.ports import PoolEntry
from outlast.manager.repository import moments
from outlast.manager.repository.records import EventRow
from outlast.manager.web.gate import View, page
from outlast.manager.web.render import drawn, fragment
from outlast.manager.web.render import page as whole
from outlast.manager.web.stories import Story, lanes_of, stories
from outlast.manager.web.verdicts import verdict

router = APIRouter()
AROUND = 2000  # events on either side that may belong to it
STEPS_MAX, FATES_MAX = 400, 300  # that the page lists; the JSON has all
GOES_ON_S = 120.0  # after its newest event a story is over
ZOOMS = {"all": "all of it", "decision": "the decision"}
DECIDED_S = 5.0  # shown after the pool has agreed
Event = Annotated[int, Path(ge=1, lt=1 << 63)]
Text = Annotated[str, Query(max_length=200)]


@router.get("/pools/{pool}/incidents/{moment}")
async def one_incident(
    pool: str, moment: Event, view: Annotated[View, page("see")], zoom: Text = "all",
    host: Text = "",
) -> Response:  # fmt: skip
    looked = {"pool": view.caller.pool_id, "event": str(moment), "zoom": zoom, "host": host}
    values = await _told(view, looked)
    live = urlencode({"page": f"incident?{urlencode(looked)}"})
    return whole(view, "incident.html", live=live, **values)


async def incident_fragment(view: View, looked: Mapping[str, str]) -> dict[str, str]:
    return {"incident": fragment("_incident.html", **(await _told(view, looked)))}


async def _told(view: View, looked: Mapping[str, str]) -> dict[str, Any]:
    """Raises NotFound."""
    entry = view.manager.reads.pool(looked.get("pool", ""))
    told = await _story(view, entry, _number(looked.get("event", "")))
    steps = told.events[::-1]
    names = [h.name for h in entry.status.hosts]
    found = verdict(steps, names)
    zoom, host = looked.get("zoom", "all"), looked.get("host", "")
    goes_on = time.time() - steps[-1].wall_s < GOES_ON_S
    return {
        "entry": entry, "story": told, "steps": steps[:STEPS_MAX], "count": len(steps),
        "verdict": found, "fates": found.fates[:FATES_MAX], "begin": steps[0].wall_s,
        "picture": _picture(entry, steps, [host] if host in names else names, zoom),
        "zoom": zoom, "zooms": ZOOMS, "host": host, "names": names, "view": view,
        "next": [h.sentence for h in entry.status.hosts if h.state == "silent"] if goes_on else [],
        "goes_on": goes_on, "dead": [h for h in found.dead if h in names],
    }  # fmt: skip


async def _story(view: View, entry: PoolEntry, event: int) -> Story:
    """Raises NotFound."""
    if not view.scope.sees_pool(entry.id):
        raise NotFound("incidents are shown to those who see the whole pool")

    def read(c: Connection) -> list[EventRow]:
        row = moments.one(c, entry.id, event)
        return moments.around(c, row, AROUND) if row else []

    rows = await view.manager.repository.read(read)
    for one in stories(rows):
        if any(e.id == event for e in one.events):
            return one
    raise NotFound(
        f"there is no event {event} in the history of {entry.name}",
        hint="it may be too old: see /failovers",
    )


def _number(text: str) -> int:
    """0, which no event is, for what is no id."""
    return int(text) if text.isdecimal() and len(text) < 19 else 0


def _picture(entry: PoolEntry, steps: tuple[EventRow, ...], names: list[str], zoom: str) -> Any:
    from_s, to_s = steps[0].wall_s, steps[-1].wall_s
    if zoom == "decision":
        views = [e.wall_s for e in steps if e.code == "view-changed"]
        to_s = min(to_s, (views[0] if views else from_s) + DECIDED_S)
    to_s = max(to_s, from_s + 1)
    edge_s = (to_s - from_s) / 40
    return drawn(lanes_of(entry.id, names, steps, from_s - edge_s, to_s + edge_s, from_s))


@router.get("/pools/{pool}/incidents/{moment}/evidence")
async def evidence(pool: str, moment: Event, view: Annotated[View, page("see")]) -> Response:
    """The whole story with what was seen at each step."""
    entry = view.manager.reads.pool(view.caller.pool_id)
    steps = (await _story(view, entry, moment)).events[::-1]
    seen = await view.manager.repository.read(
        lambda c: moments.evidence_of(c, [e.id for e in steps])
    )
    said = {
        "pool": entry.name, "pool_id": entry.id,
        "clocks": "wall_s is the clock of the host that wrote the note",
        "without_notes": list(verdict(steps, [h.name for h in entry.status.hosts]).mute),
        "steps": [
            {"id": e.id, "wall_s": e.wall_s, "host": e.host, "code": e.code, "vm": e.vm,
             "sentence": e.sentence, "fields": e.fields, "evidence": seen.get(e.id)}
            for e in steps
        ],
    }  # fmt: skip
    name = f'attachment; filename="incident-{moment}.json"'
    headers = {"Content-Disposition": name, "Cache-Control": "no-store"}
    return Response(json.dumps(said, indent=1), 200, headers, "application/json")
