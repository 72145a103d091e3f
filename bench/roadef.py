"""An independent yardstick: the machine reassignment problem of ROADEF/EURO 2012.

    python -m bench.roadef MODEL ASSIGNMENT OUT [--seconds N] [--seed N]

Reads the challenge's two files, writes the new assignment in the same form, and says its cost. The
result is judged by roadef_model.py before it is written; Ctrl-C writes the best found so far.

The search is *not* the balancing engine of outlast.placement. That engine knows two resources,
keeps every step feasible and N-1 true, and stops when a move is not worth its copy; the challenge
has up to a dozen resources, asks only that the end is feasible, and rewards long search. Forcing
one into the other would measure neither. What they share is the neighbourhood: one move, or two
that change places. Here it is annealed, with all costs kept up to date as it goes.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.roadef_model import Problem, cost, read, trouble

EXCHANGES = 0.4  # part of the attempts
COOL_EVERY = 200  # attempts between looks at the clock


class Search:
    """An assignment, changed step by step; `total` is always its cost."""

    def __init__(self, problem: Problem, seed: int = 1) -> None:
        self.p = p = problem
        self.dice = random.Random(seed)  # noqa: S311
        self.at = list(p.first)
        self.total = cost(p, p.first)
        resources = range(len(p.transient))
        self.used = [[0 for _ in resources] for _ in p.area]
        self.away = [[0 for _ in resources] for _ in p.area]  # left it, still held
        self.runs: list[dict[int, int]] = [{} for _ in p.spread]  # service: machine -> processes
        self.places: list[dict[int, int]] = [{} for _ in p.spread]  # service: location -> ...
        self.areas: list[dict[int, int]] = [{} for _ in p.spread]
        self.needed_by: list[list[int]] = [[] for _ in p.spread]
        for s, others in enumerate(p.needs):
            for other in others:
                self.needed_by[other].append(s)
        self.moved = [0] * len(p.spread)
        self.moved_most = [len(p.spread)] + [0] * (len(p.service) + 1)  # services by moves
        self.top = 0
        for n, m in enumerate(p.first):
            self._count(n, m, 1)
        self.machine_cost = [self._machine_cost(m) for m in range(len(p.area))]

    def attempt(self, heat: float) -> None:
        """One random change, kept when it is allowed and cheap enough."""
        n = self.dice.randrange(len(self.at))
        if self.dice.random() < EXCHANGES:
            other = self.dice.randrange(len(self.at))
            steps = ((n, self.at[other]), (other, self.at[n]))
        else:
            home = self.p.first[n]
            back = self.at[n] != home and self.dice.random() < 0.1
            steps = ((n, home if back else self.dice.randrange(len(self.p.area))),)
        if any(self.at[k] == to for k, to in steps):
            return
        was = [(k, self.at[k]) for k, _ in steps]
        before = self.total
        touched = {m for k, to in steps for m in (self.at[k], to)}
        kept = {m: self.machine_cost[m] for m in touched}
        for k, to in steps:
            self._put(k, to)
        if self._allowed(steps, touched):
            for m in touched:
                self.machine_cost[m] = self._machine_cost(m)
                self.total += self.machine_cost[m] - kept[m]
            worse = self.total - before
            if worse <= 0 or (heat > 0 and self.dice.random() < math.exp(-worse / heat)):
                return
        for k, back_to in reversed(was):
            self._put(k, back_to)
        for m, value in kept.items():
            self.machine_cost[m] = value
        self.total = before

    def _put(self, n: int, to: int) -> None:
        """Moves one process; the costs of moving are counted, those of machines are not."""
        p, home, was = self.p, self.p.first[n], self.at[n]
        process, service, way = p.weights
        s = p.service[n]
        self._count(n, was, -1)
        self._count(n, to, 1)
        self.at[n] = to
        self.total += way * (p.way_cost[home][to] - p.way_cost[home][was])
        leaves, returns = was == home, to == home
        if leaves == returns:
            return
        sign = 1 if leaves else -1
        self.total += sign * process * p.move_cost[n]
        for r, value in enumerate(p.size[n]):
            self.away[home][r] += sign * value
        self.moved_most[self.moved[s]] -= 1
        self.moved[s] += sign
        self.moved_most[self.moved[s]] += 1
        old = self.top
        self.top = max(self.top, self.moved[s])
        while self.top and not self.moved_most[self.top]:
            self.top -= 1
        self.total += service * (self.top - old)

    def _count(self, n: int, machine: int, sign: int) -> None:
        p, s = self.p, self.p.service[n]
        row = self.used[machine]
        for r, value in enumerate(p.size[n]):
            row[r] += sign * value
        for table, key in (
            (self.runs[s], machine), (self.places[s], p.location[machine]),
            (self.areas[s], p.area[machine]),
        ):  # fmt: skip
            left = table.get(key, 0) + sign
            if left:
                table[key] = left
            else:
                del table[key]

    def _allowed(self, steps: Sequence[tuple[int, int]], touched: set[int]) -> bool:
        p = self.p
        for m in touched:
            room, away = p.capacity[m], self.away[m]
            for r, value in enumerate(self.used[m]):
                if value + (away[r] if p.transient[r] else 0) > room[r]:
                    return False
        for n, to in steps:
            s = p.service[n]
            if self.runs[s].get(to, 0) > 1 or len(self.places[s]) < p.spread[s]:
                return False
            if any(not self.areas[s].keys() <= self.areas[o].keys() for o in p.needs[s]):
                return False
            if any(not self.areas[d].keys() <= self.areas[s].keys() for d in self.needed_by[s]):
                return False
        return True

    def _machine_cost(self, m: int) -> int:
        p, row, total = self.p, self.used[m], 0
        safe, room = p.safe[m], p.capacity[m]
        for r, value in enumerate(row):
            if value > safe[r]:
                total += p.load_weight[r] * (value - safe[r])
        for r1, r2, target, weight in p.balances:
            short = target * (room[r1] - row[r1]) - (room[r2] - row[r2])
            if short > 0:
                total += weight * short
        return total


def improve(problem: Problem, done: Callable[[], float], seed: int = 1) -> tuple[list[int], int]:
    """The best assignment found and its cost. `done`: the part of the time that is over, 0 to 1."""
    search = Search(problem, seed)
    best, least = list(search.at), search.total
    warm = max(1.0, search.total / max(1, len(search.at)))
    try:
        while (part := done()) < 1.0:
            heat = warm * (1.0 - part) ** 3
            for _ in range(COOL_EVERY):
                search.attempt(heat)
            if search.total < least:
                best, least = list(search.at), search.total
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the best so far is kept\n")
    return best, least


def main() -> int:
    parser = argparse.ArgumentParser("python -m bench.roadef", None, __doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("assignment", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    began = time.monotonic()
    try:
        problem = read(chosen.model.read_text(), chosen.assignment.read_text())
    except (OSError, ValueError) as error:
        sys.stderr.write(f"not a problem to solve: {error}\n")
        return 2
    wrong = trouble(problem, problem.first)
    if wrong:
        sys.stderr.write(f"the assignment given breaks a constraint: {wrong}\n")
        return 2
    span = max(1e-9, chosen.seconds)
    best, least = improve(problem, lambda: (time.monotonic() - began) / span, chosen.seed)
    wrong = trouble(problem, best)
    if wrong or cost(problem, best) != least:
        sys.stderr.write(f"a bug in the search: {wrong or 'the cost was counted wrongly'}\n")
        return 1
    chosen.out.write_text(" ".join(map(str, best)) + "\n")
    first = cost(problem, problem.first)
    sys.stdout.write(f"{first} -> {least} ({least / first if first else 0:.2%} of the start)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
