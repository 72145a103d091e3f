"""Search for the machine reassignment problem: annealing, all costs kept up to date as it goes.

An attempt is one of three, accepted by its change of cost and the heat:
1. a process goes to another machine;
2. two processes change places;
3. a process takes the place of one that is away from home, which goes home or elsewhere. What a
   machine can take in is limited by what its own processes hold there even when they have left,
   so in tight problems the few places of guests are what is traded.

`total()` is always the cost of the assignment, and that never breaks a constraint. The inner loop
is compiled by Numba: millions of attempts a second, where NumPy over whole neighbourhoods managed
some hundred thousand candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from bench.roadef_model import Problem, cost

F = TypeVar("F", bound=Callable[..., Any])
Ints = NDArray[np.int64]
NOBODY = -1
EXCHANGES, REPLACEMENTS = 0.2, 0.6  # parts of the attempts; the rest are moves
HOMEWARD = 0.5  # part of the replaced processes that go home
TOTAL, MOST, AWAY = range(3)  # places in `counts`


def compiled(function: F) -> F:
    return cast(F, numba.njit(cache=True)(function))


class State(NamedTuple):
    """The problem, and an assignment with all that is counted from it. Arrays, for Numba."""

    size: Ints  # process, resource
    home: Ints
    service: Ints
    leave: Ints  # what leaving home costs
    room: Ints  # machine, resource
    safe: Ints
    area: Ints
    place: Ints
    way: Ints  # what going from machine to machine costs
    transient: NDArray[np.bool_]
    load_weight: Ints
    balances: Ints
    spread: Ints  # by service
    needs: Ints  # of all services, one after the other
    needs_from: Ints
    users: Ints
    users_from: Ints
    service_weight: int
    at: Ints  # where each process is
    used: Ints
    held: Ints  # used, and what has left and is held all the same
    cost: Ints  # by machine
    runs: NDArray[np.int16]  # service, machine
    in_area: NDArray[np.int32]
    in_place: NDArray[np.int32]
    places: Ints  # by service
    moved: Ints  # by service: processes away from home
    having: Ints  # services by that number
    away: Ints  # processes away from home, in no order
    away_at: Ints  # where each is in that list
    counts: Ints  # total cost, most moved of a service, processes away


class Search:
    def __init__(self, problem: Problem, seed: int = 1) -> None:
        self._state = _state(problem)
        _plant(seed)

    def attempts(self, count: int, heat: float) -> None:
        _run(self._state, count, max(heat, 1e-9))

    def total(self) -> int:
        return int(self._state.counts[TOTAL])

    def assignment(self) -> list[int]:
        found: list[int] = self._state.at.tolist()
        return found


def _state(p: Problem) -> State:
    machines, processes, services = len(p.area), len(p.service), len(p.spread)
    size = np.array(p.size, np.int64).reshape(processes, -1)
    at, service = np.array(p.first, np.int64), np.array(p.service, np.int64)
    area, place = np.array(p.area, np.int64), np.array(p.location, np.int64)
    used = np.zeros((machines, size.shape[1]), np.int64)
    np.add.at(used, at, size)
    runs = np.zeros((services, machines), np.int16)
    in_area = np.zeros((services, max(p.area) + 1), np.int32)
    in_place = np.zeros((services, max(p.location) + 1), np.int32)
    for table, column in ((runs, at), (in_area, area[at]), (in_place, place[at])):
        np.add.at(table, (service, column), 1)
    users: list[list[int]] = [[] for _ in p.spread]
    for s, others in enumerate(p.needs):
        for other in others:
            users[other].append(s)
    having = np.zeros(processes + 1, np.int64)
    having[0] = services
    found = State(
        size, at.copy(), service, np.array(p.move_cost, np.int64) * p.weights[0],
        np.array(p.capacity, np.int64), np.array(p.safe, np.int64), area, place,
        np.array(p.way_cost, np.int64) * p.weights[2], np.array(p.transient),
        np.array(p.load_weight, np.int64), np.array(p.balances, np.int64).reshape(-1, 4),
        np.array(p.spread, np.int64), *_flat(p.needs), *_flat(users), p.weights[1],
        at, used, used.copy(), np.zeros(machines, np.int64), runs, in_area, in_place,
        (in_place > 0).sum(axis=1).astype(np.int64), np.zeros(services, np.int64), having,
        np.zeros(processes, np.int64), np.full(processes, NOBODY),
        np.array([cost(p, p.first), 0, 0], np.int64),
    )  # fmt: skip
    for machine in range(machines):
        found.cost[machine] = _machine_cost(found, machine, NOBODY, NOBODY)
    return found


def _flat(lists: Sequence[Iterable[int]]) -> tuple[Ints, Ints]:
    """All of them one after the other, and where each begins."""
    rows = [list(found) for found in lists]
    begins = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return np.array([n for row in rows for n in row], np.int64), begins


@compiled
def _plant(seed: int) -> None:
    np.random.seed(seed)  # Numba's own dice, not NumPy's


@compiled
def _run(p: State, count: int, heat: float) -> None:
    processes, machines = len(p.at), len(p.room)
    for _ in range(count):
        dice, one = np.random.random(), np.random.randint(processes)
        if dice < EXCHANGES:
            other = np.random.randint(processes)
            _attempt(p, one, p.at[other], other, p.at[one], heat)
        elif dice < EXCHANGES + REPLACEMENTS and p.counts[AWAY]:
            other = p.away[np.random.randint(p.counts[AWAY])]
            home = np.random.random() < HOMEWARD
            third = p.home[other] if home else np.random.randint(machines)
            _attempt(p, one, p.at[other], other, third, heat)
        else:
            _attempt(p, one, np.random.randint(machines), NOBODY, NOBODY, heat)


@compiled
def _attempt(p: State, one: int, to: int, other: int, third: int, heat: float) -> None:
    """`one` goes there and `other`, which is there or NOBODY, to the third machine, if it pays."""
    here, alone = p.at[one], other == NOBODY
    if here == to or third == to or not _room(p, one, to, other, third):
        return
    swap = third == here
    there = _machine_cost(p, to, one, other)
    change = there - p.cost[to] + _moving(p, one, to) - p.cost[here]
    back = far = 0
    if not alone:
        far = _machine_cost(p, third, other, one if swap else NOBODY)
        change += far + _moving(p, other, third) - (0 if swap else p.cost[third])
    if not swap:
        back = _machine_cost(p, here, NOBODY, one)
        change += back
    if not _accepted(change, heat):
        return
    before = p.counts[TOTAL]
    _carry(p, one, to)
    if not alone:
        _carry(p, other, third)
    good = _allowed(p, p.service[one], here, to)
    good = good and (alone or _allowed(p, p.service[other], to, third))
    if not good or not _accepted(p.counts[TOTAL] - before, heat):  # the cost of services
        if not alone:
            _carry(p, other, to)
        _carry(p, one, here)
        return
    p.counts[TOTAL] += change
    p.cost[to] = there
    if not swap:
        p.cost[here] = back
    if not alone:
        p.cost[third] = far


@compiled
def _accepted(change: int, heat: float) -> bool:
    return change <= 0 or np.random.random() < np.exp(-change / heat)


@compiled
def _room(p: State, one: int, to: int, other: int, third: int) -> bool:
    """Whether capacities and conflicts allow it."""
    alone, here = other == NOBODY, p.at[one]
    kin = not alone and p.service[one] == p.service[other]
    if p.runs[p.service[one], to] > 0 and not kin:
        return False
    if not _fits(p, to, one, other):
        return False
    if alone:
        return True
    if p.runs[p.service[other], third] > 0 and not (kin and third == here):
        return False
    return _fits(p, third, other, one if third == here else NOBODY)


@compiled
def _fits(p: State, machine: int, comes: int, goes: int) -> bool:
    for r in range(p.room.shape[1]):
        held = p.held[machine, r]
        if not (p.transient[r] and p.home[comes] == machine):
            held += p.size[comes, r]
        if goes != NOBODY and not (p.transient[r] and p.home[goes] == machine):
            held -= p.size[goes, r]
        if held > p.room[machine, r]:
            return False
    return True


@compiled
def _machine_cost(p: State, machine: int, comes: int, goes: int) -> int:
    """What load and balance there cost, with one process more and one less."""
    total = 0
    for r in range(p.room.shape[1]):
        over = _used(p, machine, r, comes, goes) - p.safe[machine, r]
        if over > 0:
            total += p.load_weight[r] * over
    for b in range(len(p.balances)):
        r1, r2, target, weight = p.balances[b]
        left1 = p.room[machine, r1] - _used(p, machine, r1, comes, goes)
        left2 = p.room[machine, r2] - _used(p, machine, r2, comes, goes)
        total += weight * max(0, target * left1 - left2)
    return total


@compiled
def _used(p: State, machine: int, r: int, comes: int, goes: int) -> int:
    used = p.used[machine, r]
    if comes != NOBODY:
        used += p.size[comes, r]
    if goes != NOBODY:
        used -= p.size[goes, r]
    return used


@compiled
def _moving(p: State, n: int, to: int) -> int:
    """What its costs of moving change by, but for that of services (see `_carry`)."""
    home, here = p.home[n], p.at[n]
    change = p.way[home, to] - p.way[home, here]
    if here == home:
        change += p.leave[n]
    if to == home:
        change -= p.leave[n]
    return change


@compiled
def _allowed(p: State, s: int, source: int, target: int) -> bool:
    """Whether its spread and all dependencies hold after one of its processes went."""
    if p.places[s] < p.spread[s] or p.runs[s, target] > 1:
        return False
    left, new = p.area[source], p.area[target]
    if left == new:
        return True
    for k in range(p.needs_from[s], p.needs_from[s + 1]):
        if not p.in_area[p.needs[k], new]:
            return False
    if not p.in_area[s, left]:
        for k in range(p.users_from[s], p.users_from[s + 1]):
            if p.in_area[p.users[k], left]:
                return False
    return True


@compiled
def _carry(p: State, n: int, to: int) -> None:
    """Moves one process; of the costs only that of services is counted."""
    s, here, home = p.service[n], p.at[n], p.home[n]
    for r in range(p.room.shape[1]):
        size = p.size[n, r]
        p.used[here, r] -= size
        p.used[to, r] += size
        if not (p.transient[r] and here == home):
            p.held[here, r] -= size
        if not (p.transient[r] and to == home):
            p.held[to, r] += size
    p.runs[s, here] -= 1
    p.runs[s, to] += 1
    p.in_area[s, p.area[here]] -= 1
    p.in_area[s, p.area[to]] += 1
    p.in_place[s, p.place[here]] -= 1
    p.places[s] -= p.in_place[s, p.place[here]] == 0
    p.in_place[s, p.place[to]] += 1
    p.places[s] += p.in_place[s, p.place[to]] == 1
    p.at[n] = to
    if here == home and to != home:
        _note_away(p, n)
        _count_moved(p, s, 1)
    elif here != home and to == home:
        _note_home(p, n)
        _count_moved(p, s, -1)


@compiled
def _note_away(p: State, n: int) -> None:
    p.away[p.counts[AWAY]], p.away_at[n] = n, p.counts[AWAY]
    p.counts[AWAY] += 1


@compiled
def _note_home(p: State, n: int) -> None:
    p.counts[AWAY] -= 1
    last, spot = p.away[p.counts[AWAY]], p.away_at[n]
    p.away[spot], p.away_at[last] = last, spot


@compiled
def _count_moved(p: State, s: int, change: int) -> None:
    was = p.moved[s]
    p.moved[s] = was + change
    p.having[was] -= 1
    p.having[was + change] += 1
    if was + change > p.counts[MOST] or (was == p.counts[MOST] and not p.having[was]):
        p.counts[MOST] += change
        p.counts[TOTAL] += p.service_weight * change
