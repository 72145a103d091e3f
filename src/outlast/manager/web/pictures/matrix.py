"""Who hears whom, as a grid: one row a listener, one column a speaker, and the storage.

Up to SMALL hosts each cell is an element of its own with a tooltip; above, all cells of one state
are one path. Faults are told in sentences beside the picture by `faults`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

SMALL = 16
HEARD, UNHEARD, OUT, SELF, UNKNOWN = "heard", "unheard", "out", "self", "unknown"
WORDS = {
    HEARD: "hears", UNHEARD: "does not hear", OUT: "is not to hear", UNKNOWN: "says nothing about",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listener:
    """One host: whether it is a member, what it hears, and how its storage beat stands."""

    name: str
    member: bool
    hears: frozenset[str] = frozenset()
    unheard: frozenset[str] = frozenset()
    storage: str = UNKNOWN  # HEARD | UNHEARD | OUT | UNKNOWN


def state(row: Listener, column: Listener) -> str:
    if row.name == column.name:
        return SELF
    if not (row.member and column.member):
        return OUT
    if column.name in row.unheard:
        return UNHEARD
    return HEARD if column.name in row.hears else UNKNOWN


def faults(rows: Sequence[Listener]) -> list[str]:
    """What is wrong between members, in sentences; one-way faults are told as such."""
    found = []
    for n, a in enumerate(rows):
        for b in rows[n + 1 :]:
            there, back = state(a, b) == UNHEARD, state(b, a) == UNHEARD
            if there and back:
                found.append(f"{a.name} and {b.name} do not hear each other")
            elif there or back:
                deaf, other = (a, b) if there else (b, a)
                found.append(
                    f"{deaf.name} does not hear {other.name}, but {other.name} hears {deaf.name}"
                )
    found += [f"{r.name} misses its beats on the storage" for r in rows if r.storage == UNHEARD]
    return found


def matrix(rows: Sequence[Listener], name: str = "matrix") -> str:
    """The grid as SVG. name: tells it apart from others on the page."""
    small = len(rows) <= SMALL
    step = 26 if small else max(7, 640 // max(1, len(rows)))
    left = 14 + 7 * max((len(r.name) for r in rows), default=0) if small else 8
    top = 26 if small else 8
    width, height = left + step * (len(rows) + 1) + 14, top + step * len(rows) + 4
    marks: dict[str, list[str]] = {}
    out = [
        f'<svg class="o-matrix" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-labelledby="{name}-title {name}-desc">',
        f'<title id="{name}-title">Who hears whom</title>',
        f'<desc id="{name}-desc">{escape(told(rows))}</desc>',
    ]
    if small:
        out += _names(rows, left, top, step)
    for y, row in enumerate(rows):
        cy = top + step * y + step / 2
        for x, column in enumerate([*rows, None]):
            cx = left + step * x + step / 2 + (8 if column is None else 0)
            kind = row.storage if column is None else state(row, column)
            if small:
                other = "the storage" if column is None else column.name
                title = f"{row.name} {WORDS.get(kind, '')} {other}" if kind != SELF else ""
                inner = f"<title>{escape(title)}</title>" if title else ""
                out.append(f'<path class="m-{kind}" d="{_mark(kind, cx, cy, 5)}">{inner}</path>')
            else:
                marks.setdefault(kind, []).append(_mark(kind, cx, cy, step * 0.32))
    out += [f'<path class="m-{kind}" d="{"".join(ds)}"/>' for kind, ds in sorted(marks.items())]
    return "".join([*out, "</svg>"])


def told(rows: Sequence[Listener]) -> str:
    members = sum(r.member for r in rows)
    wrong = faults(rows)
    return "; ".join(wrong) if wrong else f"all {members} members hear each other"


def _names(rows: Sequence[Listener], left: float, top: float, step: float) -> list[str]:
    """Rows by name, columns by what tells the names apart."""
    common = _common([r.name for r in rows])
    out = []
    for n, row in enumerate(rows):
        y, x = top + step * n + step / 2, left + step * n + step / 2
        out.append(f'<text class="m-name" x="0" y="{y + 4:g}">{escape(row.name)}</text>')
        short = row.name[common:][-3:]
        out.append(f'<text class="m-head" x="{x:g}" y="{top - 9:g}">{escape(short)}</text>')
        if n:
            line = f"M{left:g} {top + step * n:g}H{left + step * (len(rows) + 1) + 8:g}"
            out.append(f'<path class="m-line" d="{line}"/>')
    x = left + step * len(rows) + step / 2 + 8
    out.append(f'<text class="m-head" x="{x:g}" y="{top - 9:g}">disk</text>')
    return out


def _common(names: Sequence[str]) -> int:
    """How many first characters all names share, so that what is left still tells them apart."""
    if len(names) < 2:
        return 0
    first, last = min(names), max(names)
    shared = 0
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    return min(shared, min(map(len, names)) - 1)


def _mark(kind: str, x: float, y: float, r: float) -> str:
    if kind == HEARD:
        return f"M{x - r:g} {y:g}a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0"
    if kind == UNHEARD:
        return f"M{x - r:g} {y - r:g}l{2 * r:g} {2 * r:g}m0 {-2 * r:g}l{-2 * r:g} {2 * r:g}"
    if kind == SELF:
        return f"M{x - r * 0.8:g} {y:g}h{r * 1.6:g}"
    if kind == UNKNOWN:
        s = r * 0.8
        return f"M{x:g} {y - s:g}l{s:g} {s:g}l{-s:g} {s:g}l{-s:g} {-s:g}z"
    return f"M{x - 1:g} {y - 1:g}h2v2h-2z"
