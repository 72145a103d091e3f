"""The history of metrics in the database. Functions of an open connection.

Rules:
1. A row is one bucket of one level: all hosts of a pool, or a share of its VMs (manager/rollup.py).
   It is written once, when its time is over; whoever comes second changes nothing.
2. Coarser rows are made of finer ones, one window of time for all pools at once: how far that is
   shows in the rows themselves, so it goes on where another manager ended.
3. The newest hours of a coarse level are made up of finer rows when somebody asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from outlast.manager.repository.schema import rollups
from outlast.manager.rollup import (
    HOSTS,
    LEVELS,
    Level,
    Roll,
    begin_s,
    merged,
    merged_sheets,
    of_one,
    packed,
    unpacked,
)

AT_A_TIME = 500
Points = dict[str, dict[int, Roll]]  # metric -> when a bucket began -> its roll


@dataclass(frozen=True, slots=True)
class Row:
    step_s: int
    pool_id: str
    part: str
    start_s: int
    body: bytes


def add(c: Connection, rows: Sequence[Row]) -> None:
    make = postgresql.insert if c.dialect.name == "postgresql" else sqlite.insert
    for start in range(0, len(rows), AT_A_TIME):
        values = [
            {"step_s": r.step_s, "pool_id": r.pool_id, "part": r.part, "start_s": r.start_s,
             "body": r.body}
            for r in rows[start : start + AT_A_TIME]
        ]  # fmt: skip
        c.execute(make(rollups).values(values).on_conflict_do_nothing())


def next_window(c: Connection, finer: Level, level: Level, until_s: float) -> int | None:
    """When the oldest bucket of `level` begins that is over and not made yet; None: all are made.

    until_s: what is finer is complete up to then.
    """
    mine = (rollups.c.step_s == level.step_s) & (rollups.c.part == HOSTS)
    last = c.execute(select(func.max(rollups.c.start_s)).where(mine)).scalar()
    fine = (rollups.c.step_s == finer.step_s) & (rollups.c.part == HOSTS)
    if last is not None:
        fine &= rollups.c.start_s >= last + level.step_s
    first = c.execute(select(func.min(rollups.c.start_s)).where(fine)).scalar()
    if first is None:
        return None
    window_s = begin_s(first, level.step_s)
    return window_s if window_s + level.step_s <= until_s else None


def rolled(c: Connection, finer: Level, level: Level, window_s: int) -> list[Row]:
    """The rows of one bucket of `level`, for all pools; they are not written yet."""
    wanted = (
        select(rollups.c.pool_id, rollups.c.part, rollups.c.body)
        .where(rollups.c.step_s == finer.step_s, rollups.c.start_s >= window_s,
               rollups.c.start_s < window_s + level.step_s)
        .order_by(rollups.c.pool_id, rollups.c.part)
    )  # fmt: skip
    return [
        Row(level.step_s, pool_id, part, window_s, packed(merged_sheets(
            unpacked(row.body) for row in rows
        )))
        for (pool_id, part), rows in groupby(c.execute(wanted), key=lambda r: (r[0], r[1]))
    ]  # fmt: skip


def series(
    c: Connection, pool_id: str, part: str, name: str, level: Level, from_s: float, to_s: float
) -> Points:  # fmt: skip
    """What is known of one host or VM, in buckets that begin in [from_s, to_s)."""
    wanted = (
        select(rollups.c.start_s, rollups.c.body)
        .where(rollups.c.step_s == level.step_s, rollups.c.pool_id == pool_id,
               rollups.c.part == part, rollups.c.start_s >= from_s, rollups.c.start_s < to_s)
        .order_by(rollups.c.start_s)
    )  # fmt: skip
    found: Points = {}
    rest_s: float = begin_s(from_s, level.step_s)
    for row in c.execute(wanted):
        rest_s = row.start_s + level.step_s
        for metric, roll in of_one(row.body, name).items():
            found.setdefault(metric, {})[row.start_s] = roll
    at = LEVELS.index(level)
    if at and LEVELS[at - 1].kept_s(part):
        newest = series(c, pool_id, part, name, LEVELS[at - 1], max(rest_s, from_s), to_s)
        for metric, points in newest.items():
            found.setdefault(metric, {}).update(_coarser(points, level))
    return found


def _coarser(points: dict[int, Roll], level: Level) -> dict[int, Roll]:
    gathered: dict[int, list[Roll]] = {}
    for start_s, roll in points.items():
        gathered.setdefault(begin_s(start_s, level.step_s), []).append(roll)
    return {at: merged(rolls) for at, rolls in gathered.items()}


def forget(c: Connection, wall_s: float, days: int) -> int:
    """What is older than its level is kept; nothing is kept longer than `days`. How many rows."""
    gone = 0
    for level in LEVELS:
        for kept_s, is_part in (
            (level.kept_s(HOSTS), rollups.c.part == HOSTS),
            (level.kept_s("vms"), rollups.c.part != HOSTS),
        ):
            before_s = wall_s - min(kept_s, days * 86400)
            old = (rollups.c.step_s == level.step_s) & (rollups.c.start_s < before_s)
            gone += c.execute(delete(rollups).where(old & is_part)).rowcount
    return gone
