"""Numbers over time, summed up: how many there were, their mean, the least and the most (pure).

Rules:
1. Merging the rolls of parts is rolling the whole: a coarser level is made of the finer one, and of
   nothing else.
2. What was not known is not there; it is never 0, and counts for no mean.
3. LEVELS is the whole truth of how fine and how long. A month is still known by the hour, two years
   by the day.
4. Rows hold all hosts of a pool, or a share of its VMs, for one bucket of time. The number of rows
   does not grow with hosts and VMs (docs/decisions/0018-metric-history.md has the arithmetic).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

DAY_S = 86_400
HOSTS = ""  # the part with the pool itself, named "", and its hosts
SHARES = 16  # of a pool's VMs; never changes, as rows are found by it


@dataclass(frozen=True, slots=True)
class Level:
    step_s: int
    hosts_days: int  # how long it is kept
    vms_days: int  # 0 = VMs have none

    def kept_s(self, part: str) -> int:
        return (self.hosts_days if part == HOSTS else self.vms_days) * DAY_S


LEVELS = (
    Level(60, 2, 0),
    Level(600, 10, 2),
    Level(3600, 40, 10),
    Level(6 * 3600, 400, 40),
    Level(DAY_S, 732, 732),
)
POINTS_MAX = 400  # of one answer that names no step


@dataclass(slots=True)
class Roll:
    """Of some values; there is at least one."""

    count: int
    total: float
    low: float
    high: float

    @staticmethod
    def of(value: float) -> Roll:
        return Roll(1, value, value, value)

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.low = min(self.low, value)
        self.high = max(self.high, value)

    @property
    def mean(self) -> float:
        return self.total / self.count


Sheet = dict[str, dict[str, Roll]]  # metric -> name of host or VM -> roll; of one bucket


def merged(rolls: Sequence[Roll]) -> Roll:
    """There must be one."""
    return Roll(
        sum(r.count for r in rolls), sum(r.total for r in rolls), min(r.low for r in rolls),
        max(r.high for r in rolls),
    )  # fmt: skip


def merged_sheets(sheets: Iterable[Sheet]) -> Sheet:
    gathered: dict[str, dict[str, list[Roll]]] = {}
    for sheet in sheets:
        for metric, column in sheet.items():
            into = gathered.setdefault(metric, {})
            for name, roll in column.items():
                into.setdefault(name, []).append(roll)
    return {
        metric: {name: merged(rolls) for name, rolls in column.items()}
        for metric, column in gathered.items()
    }


def note(sheet: Sheet, name: str, values: Mapping[str, float | None]) -> None:
    """One sample of a host or VM, into the bucket it falls in."""
    for metric, value in values.items():
        if value is None:
            continue
        column = sheet.setdefault(metric, {})
        roll = column.get(name)
        if roll is None:
            column[name] = Roll.of(value)
        else:
            roll.add(value)


def part_of(vm: str) -> str:
    """The part in which a VM is."""
    return f"vms-{zlib.crc32(vm.encode()) % SHARES}"


def begin_s(wall_s: float, step_s: int) -> int:
    """Of the bucket in which that moment falls."""
    return int(wall_s // step_s) * step_s


def level_for(from_s: float, to_s: float, now_s: float, part: str) -> Level:
    """The finest that still knows `from_s`, and says it in POINTS_MAX points."""
    for level in LEVELS:
        knows = from_s >= now_s - level.kept_s(part)
        if knows and (to_s - from_s) / level.step_s <= POINTS_MAX:
            return level
    return LEVELS[-1]


# ---- as it is kept


def packed(sheet: Sheet) -> bytes:
    """By columns, which is what makes it small; means to four digits, which is what charts show."""
    columns = {
        metric: [
            list(column),
            [r.count for r in column.values()],
            [_short(r.mean) for r in column.values()],
            [_short(r.low) for r in column.values()],
            [_short(r.high) for r in column.values()],
        ]
        for metric, column in sheet.items()
    }
    return zlib.compress(json.dumps(columns, separators=(",", ":")).encode())


def unpacked(body: bytes) -> Sheet:
    return {
        metric: {
            name: Roll(count, mean * count, low, high)
            for name, count, mean, low, high in zip(*column, strict=True)
        }
        for metric, column in json.loads(zlib.decompress(body)).items()
    }


def of_one(body: bytes, name: str) -> dict[str, Roll]:
    """What a row knows of one host or VM, by metric."""
    found = {}
    for metric, (names, counts, *columns) in json.loads(zlib.decompress(body)).items():
        if name in names:
            at = names.index(name)
            mean, low, high = (column[at] for column in columns)
            found[metric] = Roll(counts[at], mean * counts[at], low, high)
    return found


def _short(value: float) -> float:
    short = float(f"{value:.4g}")
    return int(short) if short.is_integer() else short
