"""Figures and how they are shown. Pure.

A figure is a handful of measured values, perhaps with a goal. The goal is compared with the median,
so a figure whose goal is about the worst case holds the worst case as its only value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

Loads = tuple[float, float]  # of one minute, before and after


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, in one unit. goal: the median may be at most this; None = no goal."""

    name: str
    unit: str
    values: tuple[float, ...]
    goal: float | None = None
    remark: str = ""
    load: Loads = (0.0, 0.0)  # of the machine around the part it belongs to

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return "-"
        return "met" if self.median <= self.goal else "NOT MET"

    def json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "unit": self.unit,
            "values": [round(v, 4) for v in self.values],
            "min": round(min(self.values), 4),
            "median": round(self.median, 4),
            "max": round(max(self.values), 4),
            "goal": self.goal,
            "verdict": self.verdict,
            "load_before": round(self.load[0], 2),
            "load_after": round(self.load[1], 2),
            "remark": self.remark,
        }


def figure(
    name: str, unit: str, values: Sequence[float], goal: float | None = None, remark: str = ""
) -> Figure:
    """Raises ValueError when nothing was measured: that must not look like a good figure."""
    if not values:
        raise ValueError(f"nothing was measured for {name}")
    return Figure(name, unit, tuple(values), goal, remark)


HEADINGS = ("figure", "unit", "min", "median", "max", "n", "goal", "verdict", "load")
NUMBERS = frozenset({2, 3, 4, 5, 6})  # columns that end alike


def rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """The table's cells, one row a figure, in the order of HEADINGS."""
    return [
        (
            f.name,
            f.unit,
            f"{min(f.values):.2f}",
            f"{f.median:.2f}",
            f"{max(f.values):.2f}",
            str(len(f.values)),
            "-" if f.goal is None else f"{f.goal:g}",
            f.verdict,
            f"{f.load[0]:.1f} to {f.load[1]:.1f}",
        )
        for f in figures
    ]


def table(figures: Sequence[Figure]) -> str:
    """The same as plain text, columns aligned, remarks below."""
    cells = [HEADINGS, *rows(figures)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEADINGS))]
    lines = ["  ".join(_padded(row, widths)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * w for w in widths))
    remarks = [f"{f.name}: {f.remark}" for f in figures if f.remark]
    return "\n".join([*lines, *([""] if remarks else []), *remarks])


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if column in NUMBERS else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def summary(figures: Sequence[Figure], failed: Sequence[str]) -> str:
    """One sentence about all goals, and one for each part that could not be measured."""
    judged = [f for f in figures if f.goal is not None]
    missed = [f.name for f in judged if f.verdict != "met"]
    said = f"{len(judged) - len(missed)} of {len(judged)} goals are met"
    lines = [f"{said}; not: {', '.join(missed)}" if missed else said]
    return "\n".join([*lines, *(f"NOT MEASURED: {sentence}" for sentence in failed)])
