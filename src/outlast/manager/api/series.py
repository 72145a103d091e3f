"""Metrics over time: of a pool, a host, a VM, as buckets with their mean, least and most.

Rules: names and units are those of docs/operating/metrics.md; a bucket in which nothing was known
is not there. Answers come from the manager's own history, whether the pool answers or not.
"""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query

from outlast.manager.api.answers import ERRORS
from outlast.manager.api.gate import Caller, needs
from outlast.manager.repository import rollups
from outlast.manager.repository.rollups import Points
from outlast.manager.rollup import HOSTS, LEVELS, Level, level_for, part_of
from outlast.manager.service import Manager
from outlast.wire.shapes import Answer, BadField

router = APIRouter(tags=["metrics"], responses=ERRORS)
POINTS_MOST = 5000  # whatever step is asked for
Wall = Annotated[float, Query(ge=0, lt=1e12)]
Step = Annotated[int, Query(ge=0, le=86400, description="seconds of a bucket; 0 = what suits")]


class PointOut(Answer):
    start_wall_s: int
    count: int  # how many values
    mean: float
    low: float
    high: float


class SeriesOut(Answer):
    step_s: int
    from_wall_s: float
    to_wall_s: float
    metrics: dict[str, list[PointOut]]


@router.get("/pools/{pool}/metrics")
async def pool_metrics(
    pool: str, caller: Annotated[Caller, needs("see")], from_wall_s: Wall = 0, to_wall_s: Wall = 0,
    step_s: Step = 0,
) -> SeriesOut:  # fmt: skip
    """Of the pool as a whole; the last day unless it is said otherwise."""
    return await _series(caller, HOSTS, "", from_wall_s, to_wall_s, step_s)


@router.get("/pools/{pool}/hosts/{host}/metrics")
async def host_metrics(
    pool: str, host: str, caller: Annotated[Caller, needs("see")], from_wall_s: Wall = 0,
    to_wall_s: Wall = 0, step_s: Step = 0,
) -> SeriesOut:  # fmt: skip
    return await _series(caller, HOSTS, caller.host, from_wall_s, to_wall_s, step_s)


@router.get("/pools/{pool}/vms/{vm}/metrics")
async def vm_metrics(
    pool: str, vm: str, caller: Annotated[Caller, needs("see")], from_wall_s: Wall = 0,
    to_wall_s: Wall = 0, step_s: Step = 0,
) -> SeriesOut:  # fmt: skip
    return await _series(caller, part_of(caller.vm), caller.vm, from_wall_s, to_wall_s, step_s)


async def _series(
    caller: Caller, part: str, name: str, from_s: float, to_s: float, step_s: int
) -> SeriesOut:
    """Raises BadField, StorageTrouble."""
    now_s = time.time()
    to_s = to_s or now_s
    from_s = from_s or to_s - 86400
    if from_s >= to_s:
        raise BadField("from_wall_s: not before to_wall_s", field="from_wall_s")
    level = _level(step_s, from_s, to_s, now_s, part)
    found = await points(caller.manager, caller.pool_id, part, name, level, from_s, to_s)
    return SeriesOut(
        step_s=level.step_s, from_wall_s=from_s, to_wall_s=to_s,
        metrics={
            metric: [
                PointOut(start_wall_s=at, count=r.count, mean=r.mean, low=r.low, high=r.high)
                for at, r in sorted(column.items())
            ]
            for metric, column in sorted(found.items())
        },
    )  # fmt: skip


async def points(
    manager: Manager, pool_id: str, part: str, name: str, level: Level, from_s: float, to_s: float
) -> Points:
    """Raises StorageTrouble."""
    return await manager.repository.read(
        lambda c: rollups.series(c, pool_id, part, name, level, from_s, to_s)
    )


def _level(step_s: int, from_s: float, to_s: float, now_s: float, part: str) -> Level:
    if not step_s:
        return level_for(from_s, to_s, now_s, part)
    level = next((one for one in LEVELS if one.step_s == step_s and one.kept_s(part)), None)
    if level is None:
        steps = [str(one.step_s) for one in LEVELS if one.kept_s(part)]
        raise BadField(f"step_s: there is no step of {step_s} s", field="step_s",
                       hint="one of: " + ", ".join(steps))  # fmt: skip
    if (to_s - from_s) / step_s > POINTS_MOST:
        raise BadField(f"step_s: more than {POINTS_MOST} points", field="step_s",
                       hint="a longer step, or a shorter time")  # fmt: skip
    return level
