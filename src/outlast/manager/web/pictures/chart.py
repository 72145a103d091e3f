"""A number over time as SVG: the mean as a line, the least and the most as a band around it.

Rules:
1. Where nothing was known there is a gap; a line is never drawn through it.
2. The scale begins at 0 unless something is below, and ends at a round number.
3. What the picture shows stands below it in words too (`words`), for those who do not see it.
4. Marks are moments in which something happened. Many of them are drawn as few.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, FOOT = 380, 132, 50, 8, 12, 20
LINES = 3  # above the ground line
COLUMNS = 61  # that tell their numbers
MARKS_MAX = 40
TICKS = (
    (300, "%H:%M"), (600, "%H:%M"), (900, "%H:%M"), (3 * 3600, "%H:%M"), (4 * 3600, "%H:%M"),
    (86400, "%a"), (5 * 86400, "%-d %b"), (7 * 86400, "%-d %b"), (30 * 86400, "%-d %b"),
    (61 * 86400, "%b %Y"), (122 * 86400, "%b %Y"),
)  # fmt: skip
TICKS_MAX = 7


@dataclass(frozen=True, slots=True)
class Point:
    at_s: int  # when its bucket begins
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Moment:
    at_s: float
    tone: str  # ok | warn | bad | info
    title: str


@dataclass(frozen=True, slots=True)
class Frame:
    """What all charts of a page have alike."""

    from_s: float
    to_s: float
    step_s: int
    moments: tuple[Moment, ...] = ()

    def x(self, at_s: float) -> float:
        share = (at_s - self.from_s) / (self.to_s - self.from_s)
        return LEFT + min(1.0, max(0.0, share)) * (WIDTH - LEFT - RIGHT)


def chart(
    title: str, points: Sequence[Point], frame: Frame, say: Callable[[float], str],
    limit: float | None = None,
) -> str:  # fmt: skip
    """Points are in order of time. limit: a line that is not to be crossed."""
    scale = _Scale.of(points, limit)
    out = [
        f'<svg class="o-chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}: {escape(words(points, say))}</title>'
    ]
    out += _grid(scale, say)
    out += _times(frame)
    for run in _runs(points, frame.step_s):
        middles = [(frame.x(p.at_s + frame.step_s / 2), p) for p in run]
        over = [f"{x:.1f} {scale.y(p.high):.1f}" for x, p in middles]
        under = [f"{x:.1f} {scale.y(p.low):.1f}" for x, p in reversed(middles)]
        means = [f"{x:.1f} {scale.y(p.mean):.1f}" for x, p in middles]
        if len(run) == 1:
            means.append(f"{middles[0][0] + 1:.1f} {scale.y(run[0].mean):.1f}")
        out.append(f'<path class="c-band" d="M{"L".join(over + under)}z"/>')
        out.append(f'<path class="c-line" d="M{"L".join(means)}"/>')
    if limit is not None:
        out.append(f'<path class="c-limit" d="M{LEFT} {scale.y(limit):.1f}H{WIDTH - RIGHT}"/>')
    out += _told(points, frame, say)
    out += [_mark(m, frame) for m in _few(frame)]
    return "".join([*out, "</svg>"])


def words(points: Sequence[Point], say: Callable[[float], str]) -> str:
    """The same in a sentence."""
    if not points:
        return "nothing is known of this time"
    mean = sum(p.mean for p in points) / len(points)
    return (
        f"{say(points[-1].mean)} at the end; mean {say(mean)}, "
        f"from {say(min(p.low for p in points))} to {say(max(p.high for p in points))}"
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float

    @staticmethod
    def of(points: Sequence[Point], limit: float | None) -> _Scale:
        known = [p.high for p in points] + ([limit] if limit is not None else [])
        top, ground = max(known, default=1.0), min([0.0, *(p.low for p in points)])
        step = _round_up((top - ground) / LINES or 1.0)
        low = math.floor(ground / step) * step
        return _Scale(low, low + step * max(1, math.ceil((top - low) / step - 1e-9)))

    def y(self, value: float) -> float:
        return TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - FOOT)


def _round_up(value: float) -> float:
    """To 1, 2 or 5 times a power of ten; of two for what is counted in bytes."""
    if value >= 1 << 30:
        return float(2 ** math.ceil(math.log2(value)))
    power = 10.0 ** math.floor(math.log10(value))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= value * (1 - 1e-9))


def _grid(scale: _Scale, say: Callable[[float], str]) -> list[str]:
    out = []
    for n in range(LINES + 1):
        value = scale.low + (scale.high - scale.low) * n / LINES
        y = scale.y(value)
        out.append(f'<path class="l-grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        if n in (0, LINES):
            out.append(f'<text class="c-value" x="{LEFT - 6}" y="{y + 4:.1f}">{escape(say(value))}'
                       "</text>")  # fmt: skip
    return out


def _times(frame: Frame) -> list[str]:
    span_s = frame.to_s - frame.from_s
    step_s, form = next((t for t in TICKS if span_s / t[0] <= TICKS_MAX), TICKS[-1])
    out, at_s = [], math.ceil(frame.from_s / step_s) * step_s
    while at_s <= frame.to_s:
        x = min(max(frame.x(at_s), LEFT + 16), WIDTH - RIGHT - 18)
        said = time.strftime(form, time.gmtime(at_s))
        out.append(f'<text class="l-tick" x="{x:.1f}" y="{HEIGHT - 5}">{said}</text>')
        at_s += step_s
    return out


def _runs(points: Sequence[Point], step_s: int) -> list[list[Point]]:
    runs: list[list[Point]] = []
    for point in points:
        if runs and point.at_s - runs[-1][-1].at_s <= step_s:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs


def _few(frame: Frame) -> list[Moment]:
    """Of those that would lie on each other, the first of the worst; it counts the others."""
    rank = ("bad", "warn", "ok", "info")
    places: dict[int, list[Moment]] = {}
    for moment in frame.moments:
        if frame.from_s <= moment.at_s <= frame.to_s:
            places.setdefault(int(frame.x(moment.at_s) * MARKS_MAX / WIDTH), []).append(moment)
    chosen = []
    for found in places.values():
        worst = min(found, key=lambda m: (rank.index(m.tone), m.at_s))
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        chosen.append(Moment(worst.at_s, worst.tone, worst.title + more))
    return chosen


def _mark(moment: Moment, frame: Frame) -> str:
    x = frame.x(moment.at_s)
    return (
        f'<g class="c-mark c-{moment.tone}"><title>{escape(moment.title)}</title>'
        f'<path d="M{x:.1f} {TOP}V{HEIGHT - FOOT}"/>'
        f'<path class="c-head" d="M{x - 4:.1f} {TOP - 9}h8l-4 7z"/></g>'
    )


def _told(points: Sequence[Point], frame: Frame, say: Callable[[float], str]) -> list[str]:
    """Columns that say their numbers when somebody points at them."""
    each = max(1, math.ceil(len(points) / COLUMNS))
    out = []
    for start in range(0, len(points), each):
        group = points[start : start + each]
        at_s, end_s = group[0].at_s, group[-1].at_s + frame.step_s
        mean = sum(p.mean for p in group) / len(group)
        low, high = min(p.low for p in group), max(p.high for p in group)
        when = time.strftime("%-d %b %H:%M", time.gmtime(at_s))
        said = f"{when}: {say(mean)}" + (f", {say(low)} to {say(high)}" if low != high else "")
        x, end = frame.x(at_s), frame.x(end_s)
        out.append(
            f'<path d="M{x:.0f} {TOP}H{end:.0f}V{HEIGHT - FOOT}H{x:.0f}z">'
            f"<title>{escape(said)}</title></path>"
        )
    return ['<g class="c-told">', *out, "</g>"] if out else []
