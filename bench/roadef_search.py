"""Search for the machine reassignment problem: annealing by a heat bath over whole neighbourhoods.

One step takes a process, counts what it would cost on every machine (or in exchange with every
other process, LOOK of them at most), and draws one: the cheaper the likelier, by the heat. As the
heat falls this becomes a steepest descent. NumPy counts all candidates of a step at once.

`total` is always the cost of `at`, and `at` never breaks a constraint.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.roadef_model import Problem, cost

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LOOK = 400  # machines or processes looked at in one step
EXCHANGES = 0.4  # part of the steps


class Search:
    def __init__(self, problem: Problem, seed: int = 1) -> None:
        self.p = p = problem
        self.dice = np.random.default_rng(seed)
        self.total = cost(p, p.first)
        self.at: Ints = np.array(p.first)
        self._home: Ints = np.array(p.first)
        self._size: Ints = np.array(p.size, dtype=np.int64)
        self._room: Ints = np.array(p.capacity, dtype=np.int64)
        self._safe: Ints = np.array(p.safe, dtype=np.int64)
        self._load_weight: Ints = np.array(p.load_weight, dtype=np.int64)
        self._transient: Bools = np.array(p.transient)
        self._way: Ints = np.array(p.way_cost, dtype=np.int64) * p.weights[2]
        self._leave: Ints = np.array(p.move_cost, dtype=np.int64) * p.weights[0]
        self._service: Ints = np.array(p.service)
        self._area: Ints = np.array(p.area)
        self._place: Ints = np.array(p.location)
        self._used = np.zeros_like(self._room)
        np.add.at(self._used, self.at, self._size)
        self._held = self._used.copy()  # with what has left and is held all the same
        services = len(p.spread)
        self._runs = np.zeros((services, len(p.area)), dtype=np.int32)
        self._in_area = np.zeros((services, max(p.area) + 1), dtype=np.int32)
        self._in_place = np.zeros((services, max(p.location) + 1), dtype=np.int32)
        self._tables = ((self._runs, np.arange(len(p.area))), (self._in_area, self._area),
                        (self._in_place, self._place))  # fmt: skip
        for table, of in self._tables:
            np.add.at(table, (self._service, of[self.at]), 1)
        self._needed_by: list[list[int]] = [[] for _ in p.spread]
        for s, others in enumerate(p.needs):
            for other in others:
                self._needed_by[other].append(s)
        self._moved: Ints = np.zeros(services, dtype=np.int64)
        self._costs = self._machine_costs(self._used, np.arange(len(p.area)))

    def attempt(self, heat: float) -> None:
        """One step: a process moves, or two change places, or all stays as it is."""
        n = int(self.dice.integers(len(self.at)))
        if self.dice.random() < EXCHANGES:
            self._exchange(n, heat)
        else:
            self._move(n, heat)

    def _move(self, n: int, heat: float) -> None:
        here = int(self.at[n])
        machines = self._some(len(self._room), int(self._home[n]))
        machines = machines[self._allowed(n, machines)]
        held = self._held[machines] + self._takes(np.array([n]), machines)
        machines = machines[(held <= self._room[machines]).all(axis=1)]
        if not len(machines):
            return
        size, spot = self._size[n], np.array([here])
        change = self._machine_costs(self._used[machines] + size, machines) - self._costs[machines]
        change += self._machine_costs(self._used[spot] - size, spot) - self._costs[here]
        change += self._moving(np.array([n]), machines)
        chosen = self._drawn(change, heat)
        if chosen >= 0:
            self._carry_out(((n, int(machines[chosen])),), int(change[chosen]), heat)

    def _exchange(self, n: int, heat: float) -> None:
        here, one = int(self.at[n]), np.array([n])
        others = self._some(len(self.at))
        others = others[(self.at[others] != here) & (self._service[others] != self._service[n])]
        there, spot = self.at[others], np.array([here])
        held_here = self._held[here] - self._takes(one, spot) + self._takes(others, spot)
        held_there = self._held[there] - self._takes(others, there) + self._takes(one, there)
        fits = (held_here <= self._room[here]).all(axis=1)
        fits &= (held_there <= self._room[there]).all(axis=1)
        others, there = others[fits], there[fits]
        if not len(others):
            return
        more = self._size[n] - self._size[others]  # there; here it is less
        spots = np.full(len(others), here)
        change = self._machine_costs(self._used[here] - more, spots) - self._costs[here]
        change += self._machine_costs(self._used[there] + more, there) - self._costs[there]
        change += self._moving(one, there) + self._moving(others, spots)
        chosen = self._drawn(change, heat)
        if chosen >= 0:
            steps = ((n, int(there[chosen])), (int(others[chosen]), here))
            self._carry_out(steps, int(change[chosen]), heat)

    def _some(self, most: int, also: int = -1) -> Ints:
        """All, or LOOK of them by chance."""
        if most <= LOOK:
            return np.arange(most)
        drawn = self.dice.integers(most, size=LOOK)
        if also >= 0:
            drawn[0] = also
        return np.asarray(drawn)

    def _takes(self, processes: Ints, machines: Ints) -> Ints:
        """What they hold there: at home what is transient is held in any case."""
        size, home = self._size[processes], self._home[processes] == machines
        return np.asarray(size * ~(home[:, None] & self._transient))

    def _allowed(self, n: int, machines: Ints) -> Bools:
        """Machines that conflict, spread and dependencies allow; where it is now is none."""
        s, here = int(self._service[n]), int(self.at[n])
        good = self._runs[s, machines] == 0
        places, at = self._in_place[s], self._place[here]
        if places[at] == 1 and np.count_nonzero(places) <= self.p.spread[s]:
            new = self._place[machines]
            good &= (places[new] == 0) | (new == at)
        areas, area = self._area[machines], self._area[here]
        for other in self.p.needs[s]:
            good &= self._in_area[other, areas] > 0
        if self._in_area[s, area] == 1 and any(self._in_area[d, area] for d in self._needed_by[s]):
            good &= areas == area
        return np.asarray(good)

    def _moving(self, processes: Ints, machines: Ints) -> Ints:
        """What the costs of moving change by, but for that of services (see `_carry_out`)."""
        home, here = self._home[processes], self.at[processes]
        change = self._way[home, machines] - self._way[home, here]
        change += self._leave[processes] * ((machines != home) * 1 - (here != home) * 1)
        return np.asarray(change)

    def _machine_costs(self, used: Ints, machines: Ints) -> Ints:
        over = np.maximum(used - self._safe[machines], 0) @ self._load_weight
        left = self._room[machines] - used
        for r1, r2, target, weight in self.p.balances:
            over += weight * np.maximum(target * left[:, r1] - left[:, r2], 0)
        return np.asarray(over)

    def _drawn(self, change: Ints, heat: float) -> int:
        """One of the changes or none, -1, as by the heat."""
        if heat <= 0:
            best = int(np.argmin(change))
            return best if change[best] < 0 else -1
        lot = -change / heat - np.log(self.dice.exponential(size=len(change)))
        best = int(np.argmax(lot))
        return best if lot[best] > -np.log(self.dice.exponential()) else -1

    def _carry_out(self, steps: tuple[tuple[int, int], ...], expected: int, heat: float) -> None:
        """Make the steps; take them back when rules or the cost of services forbid them."""
        before, done = self.total, []
        touched = np.array(sorted({m for n, to in steps for m in (int(self.at[n]), to)}))
        good = True
        for n, to in steps:
            good = good and bool(self._allowed(n, np.array([to]))[0])
            if good:
                done.append((n, int(self.at[n])))
                self._put(n, to)
        self._settle(touched)
        extra = self.total - before - expected
        if good and (extra <= 0 or self.dice.random() < np.exp(-extra / max(heat, 1e-9))):
            return
        for n, back in reversed(done):
            self._put(n, back)
        self._settle(touched)

    def _settle(self, machines: Ints) -> None:
        new = self._machine_costs(self._used[machines], machines)
        self.total += int(new.sum() - self._costs[machines].sum())
        self._costs[machines] = new

    def _put(self, n: int, to: int) -> None:
        """Moves one process; the costs of moving are counted, those of machines are not."""
        s, here, home = int(self._service[n]), int(self.at[n]), int(self._home[n])
        one, size = np.array([n]), self._size[n]
        self.total += int(self._moving(one, np.array([to]))[0])
        self._held[here] -= self._takes(one, np.array([here]))[0]
        self._held[to] += self._takes(one, np.array([to]))[0]
        self._used[here] -= size
        self._used[to] += size
        for table, of in self._tables:
            table[s, of[here]] -= 1
            table[s, of[to]] += 1
        self.at[n] = to
        if (here == home) != (to == home):
            most = int(self._moved.max())
            self._moved[s] += 1 if here == home else -1
            self.total += self.p.weights[1] * (int(self._moved.max()) - most)
