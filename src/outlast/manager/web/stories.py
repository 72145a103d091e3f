"""Events that belong to one failure, told together and drawn along time. Pure.

Rule: the verdict first, then the picture, then each step. What caused what is the pool's own word;
nothing is guessed from times but which steps stand together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from outlast.manager.repository.records import EventRow
from outlast.manager.tones import tone
from outlast.manager.web.pictures.lanes import Mark, Span, lanes
from outlast.manager.web.render import moment_path

QUIET = ("lease-taken", "lease-freed", "order-given")  # not drawn: others say the same
DOWN = {"host-silent", "host-off", "not-member", "host-leaves", "storage-sick"}
FAILED = ("host-silent", "host-off", "host-anew")  # a host is gone, or was, and nobody wished it
DEATHS = (*FAILED, "host-closed")  # a host's term is over
OUT_DAYS = 90  # how far back it is looked for when a host failed last
UP = {"member", "in-service"}


@dataclass(frozen=True, slots=True)
class Story:
    """Events close to each other in one pool, the newest first."""

    pool_id: str
    events: tuple[EventRow, ...]

    @property
    def tone(self) -> str:
        found = {tone(e.code) for e in self.events}
        return next((t for t in ("bad", "warn", "ok") if t in found), "info")

    def has(self, codes: Collection[str]) -> bool:
        return any(e.code in codes for e in self.events)

    @property
    def title(self) -> str:
        """The first of the worst: what began it."""
        worst = [e for e in self.events if tone(e.code) == self.tone]
        return worst[-1].sentence

    @property
    def verdict(self) -> str:
        """What came of it for VMs, in numbers."""
        began = {e.vm for e in self.events if e.code in ("vm-starts", "vm-crashed", "no-room")}
        runs = {e.vm for e in self.events if e.code in ("vm-runs", "vm-moved")}
        said = []
        if runs:
            said.append(f"{len(runs)} VM{'s' * (len(runs) > 1)} came up")
        if left := began - runs:
            said.append(f"{len(left)} did not yet: {', '.join(sorted(left)[:4])}")
        seconds = self.events[0].wall_s - self.events[-1].wall_s
        return ("; ".join(said) + f"; {seconds:.1f} s from first to last") if said else ""


GAP_S = 30.0


def stories(rows: Sequence[EventRow]) -> list[Story]:
    """Newest first; rows of one pool within GAP_S of each other stand together."""
    open_: dict[str, list[EventRow]] = {}
    made: list[Story] = []
    for row in sorted(rows, key=lambda r: (-r.wall_s, -r.id)):
        kept = open_.get(row.pool_id)
        if kept and kept[-1].wall_s - row.wall_s > GAP_S:
            made.append(Story(row.pool_id, tuple(kept)))
            kept = None
        if kept is None:
            open_[row.pool_id] = kept = []
        kept.append(row)
    made += [Story(pool_id, tuple(kept)) for pool_id, kept in open_.items()]
    return sorted(made, key=lambda s: -s.events[0].wall_s)


def lanes_of(
    pool_id: str, names: Sequence[str], rows: Sequence[EventRow], from_s: float, to_s: float,
    here_s: float | None = None,
) -> str:  # fmt: skip
    """The events of one pool along time, each a way to its moment. here_s: the one looked at."""
    marks = [
        Mark(_lane(r, names), r.wall_s, tone(r.code), r.sentence, moment_path(pool_id, r.id))
        for r in rows
        if from_s < r.wall_s <= to_s and r.code not in QUIET
    ]
    return lanes(names, marks, _spans(names, rows, to_s), from_s, to_s, here_s)


def _lane(row: EventRow, names: Sequence[str]) -> str:
    """The host that an event is about; the one that wrote it when it is about none."""
    about = str(row.fields.get("host") or "")
    return about if about in names else row.host


def _spans(names: Sequence[str], rows: Sequence[EventRow], to_s: float) -> list[Span]:
    """When a host was out: from the first word that it is gone until it is back."""
    out: dict[str, float] = {}
    found = []
    for row in sorted(rows, key=lambda r: r.wall_s):
        name = _lane(row, names)
        if row.code in DOWN:
            out.setdefault(name, row.wall_s)
        elif row.code in UP and name in out:
            found.append(Span(name, out.pop(name), row.wall_s, "bad", f"{name} was out"))
    return found + [Span(n, since, to_s, "bad", f"{n} is out") for n, since in out.items()]
