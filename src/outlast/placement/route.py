"""Few moves that lead to an end state, each of them allowed: the way to what aim.py found.

Rules:
1. A VM goes straight to where it should be, alone or as one of an exchange, whenever that is
   allowed; the large ones first, roughly.
2. Where nothing more is allowed the last moves are taken back, some small VMs stand aside, and it
   goes on from there by chance, TRIES times at most. What leads nearer, or as near in fewer moves,
   is kept.
3. The way is the moves of a walk (a search of balance.py), which judges each: rules, wishes,
   refuges, limits, and that the fullest host gets no fuller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from typing import Protocol, TypeVar

from outlast.placement.layout import Layout
from outlast.placement.opening import Step

TRIES = 100
ASIDE = (0, 0, 1, 1, 2, 3)  # how many stand aside: one of these
ASIDE_TRIES = 30
ASIDE_MIB = 16_384  # larger ones do not


class Walk(Protocol):
    @property
    def layout(self) -> Layout: ...

    def step(self, *steps: Step) -> bool: ...


class Dice(Protocol):
    """What random.Random has: chance is an argument."""

    def random(self) -> float: ...


W = TypeVar("W", bound=Walk)
Way = list[tuple[Step, ...]]


def route(begun: Callable[[], W], goal: Sequence[int], dice: Dice) -> W:
    """The walk that came nearest; most end there."""
    nearest, best = begun(), Way()
    least = _left(nearest, goal), 0
    for _ in range(TRIES):
        if not least[0]:
            break
        walk = begun()
        back = int(len(best) * dice.random() ** 2)
        way = _follow(walk, best[: len(best) - back])
        way += _stand_aside(walk, dice)
        way += _go(walk, goal, dice)
        left = _left(walk, goal), len(way)
        if left <= least:
            nearest, best, least = walk, way, left
    return nearest


def _follow(walk: Walk, way: Way) -> Way:
    """As far as it is allowed again."""
    for n, steps in enumerate(way):
        if not walk.step(*steps):
            return way[:n]
    return way


def _stand_aside(walk: Walk, dice: Dice) -> Way:
    layout = walk.layout
    made: Way = []
    wanted = ASIDE[int(dice.random() * len(ASIDE))]
    for _ in range(ASIDE_TRIES * wanted):
        vm = int(dice.random() * len(layout.mib))
        host = int(dice.random() * len(layout.cap_mib))
        if layout.mib[vm] <= ASIDE_MIB and layout.where[vm] != host and walk.step((vm, host)):
            made.append(((vm, host),))
            if len(made) == wanted:
                break
    return made


def _go(walk: Walk, goal: Sequence[int], dice: Dice) -> Way:
    """Rule 1, until nothing is missing or nothing allowed."""
    made: Way = []
    while True:
        missing = _missing(walk.layout, goal)
        weight = {vm: walk.layout.mib[vm] * (0.3 + 1.4 * dice.random()) for vm in missing}
        missing.sort(key=lambda vm: -weight[vm])
        steps = next((s for s in _next(walk.layout, missing, goal) if walk.step(*s)), None)
        if steps is None:
            return made
        made.append(steps)


def _next(
    layout: Layout, missing: Sequence[int], goal: Sequence[int]
) -> Iterator[tuple[Step, ...]]:
    for vm in missing:
        yield ((vm, goal[vm]),)
    for one, other in permutations(missing, 2):
        if layout.where[other] == goal[one] or layout.where[one] == goal[other]:
            yield ((one, goal[one]), (other, goal[other]))


def _left(walk: Walk, goal: Sequence[int]) -> int:
    """MiB that are not where they should be."""
    return sum(walk.layout.mib[vm] for vm in _missing(walk.layout, goal))


def _missing(layout: Layout, goal: Sequence[int]) -> list[int]:
    """VMs that are not where they should be."""
    return [vm for vm, host in enumerate(layout.where) if host != goal[vm]]
