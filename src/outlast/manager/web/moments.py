"""One moment of a pool's history: who heard whom, how the beats came in, and the way on from there.

Rules:
1. Each moment has an address, and so has the one before it and the one after it.
2. What is drawn is what the host that wrote the note saw. A note that brought nothing new is drawn
   with what was seen last before it, and says whose it is and how old.
3. Hosts are shown to those who see the whole pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from sqlalchemy import Connection

from outlast.errors import NotFound
from outlast.manager.repository import moments
from outlast.manager.repository.moments import Seen
from outlast.manager.repository.records import EventRow
from outlast.manager.web.gate import View, page
from outlast.manager.web.pictures.moment import hearing, told, traces
from outlast.manager.web.render import drawn
from outlast.manager.web.render import page as whole
from outlast.manager.web.stories import lanes_of, stories

router = APIRouter()
AROUND = 150  # moments on either side that may belong to the same story
STEPS_MAX = 60  # that are listed beside it


@router.get("/pools/{pool}/moments/{moment}")
async def one_moment(
    pool: str, moment: Annotated[int, Path(ge=1, lt=1 << 63)], view: Annotated[View, page("see")]
) -> Response:
    """One step of what happened."""
    entry = view.manager.reads.pool(view.caller.pool_id)
    if not view.scope.sees_pool(entry.id):
        raise NotFound("moments are shown to those who see the whole pool")

    def read(c: Connection) -> tuple[list[EventRow], EventRow | None, Seen | None]:
        row = moments.one(c, entry.id, moment)
        if row is None:
            return [], None, None
        return moments.around(c, row, AROUND), row, moments.seen_at(c, row)

    rows, row, seen = await view.manager.repository.read(read)
    if row is None:
        raise NotFound(
            f"there is no moment {moment} in the history of {entry.name}",
            hint="it may be too old: see /failovers",
        )
    at = next(n for n, one in enumerate(rows) if one.id == row.id)
    story = next(s for s in stories(rows) if row in s.events).events[::-1]
    step = story.index(row)
    first = max(0, min(step - STEPS_MAX // 2, len(story) - STEPS_MAX))
    values: dict[str, Any] = {
        "entry": entry, "row": row, "step": step, "story": story, "begin": story[0].wall_s,
        "earlier": rows[at - 1] if at else None,
        "later": rows[at + 1] if at + 1 < len(rows) else None,
        "listed": story[first : first + STEPS_MAX],
        "picture": _lanes(entry.id, [h.name for h in entry.status.hosts], story, row),
    } | _seen(seen, row)  # fmt: skip
    return whole(view, "moment.html", **values)


def _lanes(pool_id: str, names: list[str], story: tuple[EventRow, ...], row: EventRow) -> Any:
    from_s, to_s = story[0].wall_s, max(story[-1].wall_s, story[0].wall_s + 1)
    edge_s = (to_s - from_s) / 40
    return drawn(lanes_of(pool_id, names, story, from_s - edge_s, to_s + edge_s, row.wall_s))


def _seen(seen: Seen | None, row: EventRow) -> dict[str, Any]:
    """What the page draws and says of it."""
    if seen is None:
        return {"seen": None, "hearing": "", "traces": [], "said": ""}
    evidence, host = seen.evidence, seen.event.host
    return {
        "seen": seen, "said": told(evidence, host),
        "hearing": drawn(hearing(evidence, host, "moment")),
        "traces": drawn_traces(evidence),
        "older_s": row.wall_s - seen.event.wall_s if seen.event.id != row.id else None,
    }  # fmt: skip


def drawn_traces(evidence: Mapping[str, object]) -> list[dict[str, Any]]:
    """The beats of each host, for a template."""
    return [
        {"host": t.host, "storage": drawn(t.storage), "network": drawn(t.network), "words": t.words}
        for t in traces(evidence)
    ]
