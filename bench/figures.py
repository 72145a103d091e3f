"""Figures and how they are shown. Pure.

A figure is a handful of measured values with a goal; the goal is compared with the median.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, in one unit. goal: the median may be at most this; None = no goal."""

    name: str
    unit: str
    values: tuple[float, ...]
    goal: float | None = None
    remark: str = ""

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
            "remark": self.remark,
        }


def figure(
    name: str, unit: str, values: Sequence[float], goal: float | None = None, remark: str = ""
) -> Figure:
    """Raises ValueError when nothing was measured: that must not look like a good figure."""
    if not values:
        raise ValueError(f"nothing was measured for {name}")
    return Figure(name, unit, tuple(values), goal, remark)


HEADINGS = ("figure", "min", "median", "max", "goal", "unit", "n", "verdict")


def rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """The table's cells, one row a figure, in the order of HEADINGS."""
    return [
        (
            f.name,
            f"{min(f.values):.2f}",
            f"{f.median:.2f}",
            f"{max(f.values):.2f}",
            "-" if f.goal is None else f"{f.goal:g}",
            f.unit,
            str(len(f.values)),
            f.verdict,
        )
        for f in figures
    ]


def table(figures: Sequence[Figure]) -> str:
    """The same as plain text, columns aligned."""
    cells = [HEADINGS, *rows(figures)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEADINGS))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    lines.insert(1, "  ".join("-" * w for w in widths))
    remarks = [f"{f.name}: {f.remark}" for f in figures if f.remark]
    return "\n".join(line.rstrip() for line in [*lines, *remarks])
