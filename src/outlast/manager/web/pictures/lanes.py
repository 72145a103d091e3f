"""What happened to which host, drawn along time: one lane a host, one mark an event.

Marks that would lie on each other are moved apart a little; the list beside the picture has the
exact times. A span is drawn where a host was out of service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LANE, TOP, RIGHT = 920, 30, 12, 12
GAP = 9  # between marks of one lane
TICKS = 6
CHAR = 7


@dataclass(frozen=True, slots=True)
class Mark:
    lane: str
    at_s: float
    tone: str  # ok | warn | bad | busy | info
    title: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    lane: str
    from_s: float
    to_s: float
    tone: str
    title: str


def lanes(
    names: Sequence[str], marks: Sequence[Mark], spans: Sequence[Span], from_s: float, to_s: float,
    here_s: float | None = None,
) -> str:  # fmt: skip
    """The picture as SVG. Times are on one clock; from_s < to_s.

    here_s: the moment that is looked at; without one the picture ends now.
    """
    left = 16 + CHAR * max((len(n) for n in names), default=4)
    scale = (WIDTH - left - RIGHT) / max(to_s - from_s, 1e-9)
    height = TOP + LANE * len(names) + 24
    row = {name: TOP + LANE * n + LANE / 2 for n, name in enumerate(names)}
    out = [
        f'<svg class="o-lanes" viewBox="0 0 {WIDTH} {height}" role="group" '
        'aria-label="Events of each host along time">'
    ]
    out += _axis(left, scale, to_s - from_s, height, "now" if here_s is None else "end")
    if here_s is not None:
        x = left + (here_s - from_s) * scale
        out.append(f'<path class="l-here" d="M{x:.1f} {TOP - 8}V{height - 20:g}"/>')
    for name, y in row.items():
        out.append(f'<text class="l-name" x="0" y="{y + 4:g}">{escape(name)}</text>')
        out.append(f'<path class="l-line" d="M{left} {y:g}H{WIDTH - RIGHT}"/>')
    for span in spans:
        if span.lane in row:
            begin = left + max(0.0, span.from_s - from_s) * scale
            end = left + min(to_s - from_s, span.to_s - from_s) * scale
            out.append(
                f'<rect class="l-span l-{span.tone}" x="{begin:g}" y="{row[span.lane] - 8:g}" '
                f'width="{max(2.0, end - begin):.1f}" height="16" rx="3">'
                f"<title>{escape(span.title)}</title></rect>"
            )
    newest: dict[str, float] = {}
    for mark in sorted(marks, key=lambda m: m.at_s):
        if mark.lane in row and from_s <= mark.at_s <= to_s:
            x = left + (mark.at_s - from_s) * scale
            x = min(max(x, newest.get(mark.lane, -1e9) + GAP), WIDTH - RIGHT)
            newest[mark.lane] = x
            out.append(_drawn(mark, x, row[mark.lane]))
    return "".join([*out, "</svg>"])


def _drawn(mark: Mark, x: float, y: float) -> str:
    shape = {
        "bad": f"M{x - 4:.1f} {y - 4:g}h8v8h-8z",
        "warn": f"M{x:.1f} {y - 5:g}l5 9h-10z",
    }.get(mark.tone, f"M{x - 4:.1f} {y:g}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0")
    drawn = (
        f'<path class="l-mark l-{mark.tone}" d="{shape}"><title>{escape(mark.title)}</title></path>'
    )
    if not mark.link:
        return drawn
    return f'<a href="{escape(mark.link)}" aria-label="{escape(mark.title)}">{drawn}</a>'


def _axis(left: float, scale: float, span_s: float, height: float, end: str) -> list[str]:
    step = next((s for s in _STEPS if span_s / s <= TICKS), _STEPS[-1])
    out, n = [], 0
    while n * step <= span_s:
        x = WIDTH - RIGHT - n * step * scale
        out.append(f'<path class="l-grid" d="M{x:.1f} {TOP}V{height - 20:g}"/>')
        word = end if n == 0 else f"-{_short(n * step)}"
        out.append(f'<text class="l-tick" x="{x:.1f}" y="{height - 5:g}">{word}</text>')
        n += 1
    return out


_STEPS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 604800)


def _short(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
