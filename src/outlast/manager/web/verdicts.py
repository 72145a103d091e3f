"""What came of one story: how soon it was noticed, how long VMs were down, who waits. Pure.

Rules:
1. A VM was down from the last sign of life of its host, not from the moment that somebody noticed.
2. Times are those of the hosts that wrote the notes: differences between hosts are as good as their
   clocks agree.
3. What no note says is not there: nothing is made up.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from outlast.manager.repository.records import EventRow
from outlast.manager.web.stories import DEATHS

UP = ("vm-runs", "vm-adopted")
WAITS = ("no-room", "start-waits", "start-failed", "held-down", "lease-waits")
REASONS = ("order-given", "vm-starts")


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one VM."""

    vm: str
    to: str = ""  # where it runs; "" = nowhere in this story
    why: str = ""  # why there, or what it waits for
    since_s: float | None = None  # when it went down, on the wall clock
    down_s: float | None = None  # for how long; None = it is down yet, or nobody knows


@dataclass(frozen=True, slots=True)
class Verdict:
    dead: tuple[str, ...]  # hosts whose term was over
    noticed_s: float | None  # from the last sign of life to the first note about it
    agreed_s: float | None  # from that note to the view without them
    median_s: float | None  # how long VMs were down
    longest_s: float | None
    fates: tuple[Fate, ...]  # who is down yet first, then the longest
    mute: tuple[str, ...]  # hosts that wrote nothing of it, or whose notes have not come yet

    @property
    def waiting(self) -> int:
        return sum(not fate.to for fate in self.fates)


def verdict(steps: Sequence[EventRow], hosts: Sequence[str]) -> Verdict:
    """steps: oldest first. hosts: of the pool."""
    deaths = [e for e in steps if e.code in DEATHS]
    first = deaths[0] if deaths else None
    still_s = float(str(first.fields.get("still_s") or 0)) if first else 0.0
    last_sign_s = first.wall_s - still_s if first else None
    fates = sorted(_fates(steps, last_sign_s), key=lambda f: (bool(f.to), -(f.down_s or 0), f.vm))
    spans = [f.down_s for f in fates if f.down_s is not None]
    wrote = {e.host for e in steps}
    return Verdict(
        tuple(dict.fromkeys(str(e.fields.get("host") or e.host) for e in deaths)),
        still_s or None, _agreed(steps, first), statistics.median(spans) if spans else None,
        max(spans, default=None), tuple(fates), tuple(h for h in hosts if h not in wrote),
    )  # fmt: skip


def _agreed(steps: Sequence[EventRow], first: EventRow | None) -> float | None:
    if first is None:
        return None
    views = [e.wall_s for e in steps if e.code == "view-changed" and e.wall_s >= first.wall_s]
    return views[0] - first.wall_s if views else None


def _fates(steps: Sequence[EventRow], last_sign_s: float | None) -> list[Fate]:
    by_vm: dict[str, list[EventRow]] = {}
    for one in steps:
        if one.vm:
            by_vm.setdefault(one.vm, []).append(one)
    touched = {*UP, *WAITS, *REASONS, "vm-crashed"}
    return [
        _fate(vm, mine, last_sign_s)
        for vm, mine in by_vm.items()
        if any(e.code in touched for e in mine)
    ]


def _fate(vm: str, mine: Sequence[EventRow], last_sign_s: float | None) -> Fate:
    crashed = next((e.wall_s for e in mine if e.code == "vm-crashed"), None)
    since_s = crashed if crashed is not None else last_sign_s
    up = next((e for e in mine if e.code in UP and e.wall_s >= (since_s or 0)), None)
    codes = REASONS if up else WAITS
    said = next((e for e in reversed(mine) if e.code in codes), None)
    why = str(said.fields.get("why") or said.sentence) if said else ""
    if up is None:
        return Fate(vm, "", why, since_s)
    down_s = up.wall_s - since_s if since_s is not None else None
    return Fate(vm, str(up.fields.get("host") or up.host), why, since_s, down_s)
