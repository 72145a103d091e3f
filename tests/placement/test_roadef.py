"""The reassignment yardstick: its search against trying everything, and a known optimum."""

from __future__ import annotations

import random
from itertools import product

import pytest
from bench.roadef import Search, improve
from bench.roadef_model import Problem, cost, read, trouble


def attempts(count: int):  # type: ignore[no-untyped-def]
    """A clock that is over after so many looks at it."""
    looks = iter(range(count + 1))
    return lambda: next(looks) / count


def made(seed: int, machines: int, processes: int, moves: tuple[int, int, int]) -> Problem:
    """A problem whose hidden assignment has neither load nor balance cost; moving costs `moves`."""
    dice = random.Random(seed)
    services = max(1, processes // 3)
    service = [n % services for n in range(processes)]
    size = [[dice.randint(1, 9), dice.randint(1, 9)] for _ in range(processes)]
    shift = [dice.randrange(machines) for _ in range(services)]
    hidden = [(shift[service[n]] + n // services) % machines for n in range(processes)]
    turned = [dice.randrange(machines) for _ in range(services)]
    first = [(turned[service[n]] + n // services) % machines for n in range(processes)]
    used = [[0, 0] for _ in range(machines)]
    both = [[0, 0] for _ in range(machines)]
    for n in range(processes):
        for r in range(2):
            used[hidden[n]][r] += size[n][r]
            both[hidden[n]][r] += size[n][r]
            both[first[n]][r] += size[n][r]
    capacity = [[v + 12 for v in row] for row in both]
    return Problem(
        [True, False], [10, 3], [m % 2 for m in range(machines)], [m % 3 for m in range(machines)],
        capacity, used, [[abs(a - b) for b in range(machines)] for a in range(machines)],
        [1] * services, [[] for _ in range(services)], service, size,
        [dice.randint(0, 3) for _ in range(processes)], [], moves, first,
    )  # fmt: skip


def text(p: Problem) -> str:
    rows = [
        [len(p.transient)],
        *([int(t), w] for t, w in zip(p.transient, p.load_weight, strict=True)),
    ]
    rows.append([len(p.area)])
    for m in range(len(p.area)):
        rows.append([p.area[m], p.location[m], *p.capacity[m], *p.safe[m], *p.way_cost[m]])
    rows += [[len(p.spread)], *([s, len(d), *d] for s, d in zip(p.spread, p.needs, strict=True))]
    rows.append([len(p.service)])
    rows += [[p.service[n], *p.size[n], p.move_cost[n]] for n in range(len(p.service))]
    rows += [[len(p.balances)], *(list(b) for b in p.balances), list(p.weights)]
    return "\n".join(" ".join(map(str, row)) for row in rows) + "\n"


def test_the_files_are_read_as_they_are_defined() -> None:
    p = made(1, 4, 9, (1, 10, 100))
    assert read(text(p), " ".join(map(str, p.first))) == p
    for model, given, said in (
        (text(p)[:40], "0", "ends too soon"), (text(p), "0 1", "2 machines are given"),
        (text(p) + " 7", "0", "goes on"), (text(p), " ".join(["99"] * 9), "not there"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            read(model, given)


@pytest.mark.patient
@pytest.mark.parametrize("seed", range(6))
def test_small_problems_are_solved_as_by_trying_everything(seed: int) -> None:
    p = made(seed, 4, 6, (1, 2, 1))
    every = [list(a) for a in product(range(4), repeat=6)]
    least = min(cost(p, a) for a in every if not trouble(p, a))
    best, found = improve(p, attempts(100), seed)
    assert not trouble(p, best)
    assert found == cost(p, best) == least


def test_the_known_optimum_of_a_larger_problem_is_nearly_reached() -> None:
    p = made(3, 12, 90, (0, 0, 0))
    best, found = improve(p, attempts(60), 1)
    assert not trouble(p, best)
    assert cost(p, p.first) > 500
    assert found <= 0.05 * cost(p, p.first)


def test_costs_are_kept_up_to_date_whatever_happens() -> None:
    p = made(5, 6, 24, (2, 5, 1))
    search = Search(p, 5)
    for heat in (1e6, 200.0, 20.0, 1.0) * 5:
        search.attempts(2000, heat)
        assert search.total() == cost(p, search.assignment())
        assert not trouble(p, search.assignment())
        assert search.assignment() != p.first


def test_each_constraint_is_known() -> None:
    p = made(2, 4, 9, (0, 0, 0))
    first = list(p.first)
    mates = [n for n in range(9) if p.service[n] == p.service[0]]
    twice = list(first)
    twice[mates[1]] = twice[mates[0]]
    full = Problem(**{**vars(p), "capacity": [[999, 999]] * 4})
    assert "two processes on one machine" in trouble(full, twice)
    assert "over its capacity" in trouble(Problem(**{**vars(p), "capacity": [[0, 0]] * 4}), first)
    assert "fewer than 9" in trouble(Problem(**{**vars(full), "spread": [9, 9, 9]}), first)
    lonely = Problem(**{**vars(full), "needs": [[1], [], []], "area": [0, 1, 2, 3]})
    here = [0, 1, 0, 1, 2, 1, 2, 3, 3]
    assert "the service 1 it needs" in trouble(lonely, here)
