"""An independent yardstick: the machine reassignment problem of ROADEF/EURO 2012.

    python -m bench.roadef MODEL ASSIGNMENT OUT [--seconds N] [--seed N]

Reads the challenge's two files, writes the new assignment in the same form, and says its cost. The
seconds are CPU seconds of one process, so that a busy machine gives the same answer later. The
result is judged by roadef_model.py before it is written; Ctrl-C writes the best found so far.

The search is *not* the balancing engine of outlast.placement. That engine knows two resources,
keeps every step feasible and N-1 true, and stops when a move is not worth its copy; the challenge
has up to a dozen resources, asks only that the end is feasible, and rewards long search. Forcing
one into the other would measure neither. What they share is the neighbourhood: one move, or two
that change places. Here it is annealed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.roadef_model import Problem, cost, read, trouble
from bench.roadef_search import Search

COOL_EVERY = 10_000  # attempts between looks at the clock
HOT, COLD = 2.0, 0.01  # heat at the begin and at the end, of the mean cost of a process


def improve(problem: Problem, done: Callable[[], float], seed: int = 1) -> tuple[list[int], int]:
    """The best assignment found and its cost. `done`: the part of the time that is over, 0 to 1."""
    search = Search(problem, seed)
    best, least = problem.first, search.total()
    warm = max(1.0, least / max(1, len(best)))
    try:
        while (part := done()) < 1.0:
            search.attempts(COOL_EVERY, warm * HOT * (COLD / HOT) ** part)
            if search.total() < least:
                best, least = search.assignment(), search.total()
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
    try:
        problem = read(chosen.model.read_text(), chosen.assignment.read_text())
    except (OSError, ValueError) as error:
        sys.stderr.write(f"not a problem to solve: {error}\n")
        return 2
    wrong = trouble(problem, problem.first)
    if wrong:
        sys.stderr.write(f"the assignment given breaks a constraint: {wrong}\n")
        return 2
    span, began = max(1e-9, chosen.seconds), time.process_time()
    best, least = improve(problem, lambda: (time.process_time() - began) / span, chosen.seed)
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
