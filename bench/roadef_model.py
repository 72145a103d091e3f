"""The machine reassignment problem of ROADEF/EURO 2012: its two files, and a full count of cost.

`read` takes the texts of a model and an assignment; `trouble` and `cost` judge an assignment from
nothing but the problem, so that a search can be checked by something that shares no code with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    transient: list[bool]  # by resource
    load_weight: list[int]
    area: list[int]  # a machine's neighborhood
    location: list[int]
    capacity: list[list[int]]  # machine, resource
    safe: list[list[int]]
    way_cost: list[list[int]]  # machine move costs, from and to
    spread: list[int]  # by service: locations at least
    needs: list[list[int]]  # services it depends on
    service: list[int]  # by process
    size: list[list[int]]  # process, resource
    move_cost: list[int]
    balances: list[tuple[int, int, int, int]]  # r1, r2, target, weight
    weights: tuple[int, int, int]  # process, service, machine move
    first: list[int]  # the assignment given


def read(model: str, assignment: str) -> Problem:
    """ValueError: the texts are no such problem, or end too soon."""
    try:
        n = map(int, model.split())
        found = _read(n, [int(word) for word in assignment.split()])
        if next(n, None) is not None:
            raise ValueError("the model goes on after its end")
    except StopIteration:
        raise ValueError("the model ends too soon") from None
    if len(found.first) != len(found.service):
        processes, given = len(found.service), len(found.first)
        raise ValueError(f"{given} machines are given for {processes} processes")
    if not all(0 <= m < len(found.area) for m in found.first):
        raise ValueError("the assignment names a machine that is not there")
    return found


def _read(n: Iterator[int], first: list[int]) -> Problem:
    pairs = [(next(n), next(n)) for _ in range(next(n))]
    resources, machines = len(pairs), next(n)
    area, location, capacity, safe, way = [], [], [], [], []
    for _ in range(machines):
        area.append(next(n))
        location.append(next(n))
        capacity.append([next(n) for _ in range(resources)])
        safe.append([next(n) for _ in range(resources)])
        way.append([next(n) for _ in range(machines)])
    spread, needs = [], []
    for _ in range(next(n)):
        spread.append(next(n))
        needs.append([next(n) for _ in range(next(n))])
    service, size, move_cost = [], [], []
    for _ in range(next(n)):
        service.append(next(n))
        size.append([next(n) for _ in range(resources)])
        move_cost.append(next(n))
    balances = [(next(n), next(n), next(n), next(n)) for _ in range(next(n))]
    weights = (next(n), next(n), next(n))
    return Problem([t == 1 for t, _ in pairs], [w for _, w in pairs], area, location, capacity,
                   safe, way, spread, needs, service, size, move_cost, balances, weights,
                   first)  # fmt: skip


def trouble(p: Problem, at: Sequence[int]) -> str:
    """The first constraint that the assignment breaks, "" = none."""
    held, used = _usage(p, at)
    for m, room in enumerate(p.capacity):
        for r, most in enumerate(room):
            if (held if p.transient[r] else used)[m][r] > most:
                return f"machine {m} is over its capacity of resource {r}"
    runs: list[list[int]] = [[] for _ in p.spread]
    for process, s in enumerate(p.service):
        runs[s].append(at[process])
    for s, machines in enumerate(runs):
        if len(set(machines)) < len(machines):
            return f"service {s} has two processes on one machine"
        if len({p.location[m] for m in machines}) < p.spread[s]:
            return f"service {s} is in fewer than {p.spread[s]} locations"
        areas = {p.area[m] for m in machines}
        for other in p.needs[s]:
            if not areas <= {p.area[m] for m in runs[other]}:
                return f"service {s} runs where the service {other} it needs does not"
    return ""


def cost(p: Problem, at: Sequence[int]) -> int:
    _, used = _usage(p, at)
    total = 0
    for m, row in enumerate(used):
        for r, value in enumerate(row):
            total += p.load_weight[r] * max(0, value - p.safe[m][r])
        for r1, r2, target, weight in p.balances:
            left = [p.capacity[m][r] - row[r] for r in (r1, r2)]
            total += weight * max(0, target * left[0] - left[1])
    moved = [n for n, m in enumerate(at) if m != p.first[n]]
    counts = [0] * len(p.spread)
    for n in moved:
        counts[p.service[n]] += 1
    process, service, way = p.weights
    total += process * sum(p.move_cost[n] for n in moved)
    total += service * max(counts, default=0)
    return total + way * sum(p.way_cost[p.first[n]][at[n]] for n in moved)


def _usage(p: Problem, at: Sequence[int]) -> tuple[list[list[int]], list[list[int]]]:
    """(what is held while things move, what is used afterwards), by machine and resource."""
    used = [[0] * len(p.transient) for _ in p.area]
    held = [[0] * len(p.transient) for _ in p.area]
    for n, size in enumerate(p.size):
        for r, value in enumerate(size):
            used[at[n]][r] += value
            held[at[n]][r] += value
            if p.first[n] != at[n]:
                held[p.first[n]][r] += value
    return held, used
