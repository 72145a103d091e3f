"""Many short schedules from one beginning: a pool is started once, each branch goes on from there.

A seed of seeds.py is a long life of a pool; much of its time is spent in starting and recovering. A
branch is one burst of faults. The process that holds the started pool forks for each branch, so
that all of them begin in the very same state, each with its own chance.

Rules:
1. A branch is named by its trunk (a seed of seeds.py, with the timing `lab`) and its number, and is
   played the same without a fork: `--seed 7.1234`.
2. Invariants hold after every event. Every RECOVERED-th branch heals and must recover, too.
   The faults of a branch are not handed back: its name is enough to play it again.
3. A child that dies without an answer is a crash of the simulator, and counted as one.
"""

from __future__ import annotations

import gc
import json
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from outlast.errors import BrokenInvariant, InvalidInput
from outlast.sim.seeds import TIMINGS, Outcome, Run

BURST_S = 5.0  # how long faults go on
RECOVERED = 4
SAID_MAX = 500  # fits into a pipe, whatever it is
STEPS_S = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2)


@dataclass(frozen=True, slots=True)
class Branch:
    trunk: int
    number: int

    def __str__(self) -> str:
        return f"{self.trunk}.{self.number}"


def parse(text: str) -> Branch:
    """`7.1234`. Raises InvalidInput."""
    trunk, _, number = text.partition(".")
    if not (trunk.isdecimal() and number.isdecimal()):
        raise InvalidInput(f"a branch is named as 7.1234 is, not '{text}'")
    if not is_trunk(int(trunk)):
        raise InvalidInput(f"seed {trunk} is no trunk: its timing is not lab")
    return Branch(int(trunk), int(number))


def is_trunk(seed: int) -> bool:
    return TIMINGS[seed // 12 % len(TIMINGS)] == "lab"


def warm(trunk: int, tell: Callable[[str], None] | None = None) -> Run:
    """The pool of a trunk, started and at rest."""
    run = Run(trunk, tell)
    run.pool.start()
    run.pool.run(1)
    return run


def grow(run: Run, branch: Branch) -> Outcome:
    """Play one branch to its end; the run cannot be used again."""
    world = run.pool.world
    world.random.seed(str(branch))
    begun_ns, kind, words = world.now_ns, "ok", ""
    run.draw_kinds()
    try:
        seconds = 0.0
        while seconds < BURST_S:
            run.hurt()
            step_s = world.random.choice(STEPS_S)
            run.pool.run(step_s)
            seconds += step_s
        if branch.number % RECOVERED == 0:
            run.heal()
            words = run.recover()
            kind = "liveness" if words else "ok"
    except BrokenInvariant as broken:
        kind, words = "safety", str(broken)
    played_s = (world.now_ns - begun_ns) / 1e9
    host_seconds = played_s * len(run.pool.hosts)
    return Outcome(branch.trunk, kind, words, tuple(run.faults), host_seconds, branch.number)


def replay(branch: Branch, tell: Callable[[str], None] | None = None) -> Outcome:
    return grow(warm(branch.trunk, tell), branch)


def branches(trunk: int, first: int, count: int) -> Iterator[tuple[Outcome, float]]:
    """Each branch's outcome and the CPU seconds it took, one child after the other."""
    run = warm(trunk)
    gc.collect()
    gc.freeze()  # what is shared with the children is not walked, and so not copied, by them
    try:
        for number in range(first, first + count):
            yield _forked(run, Branch(trunk, number))
    finally:
        gc.unfreeze()


def _forked(run: Run, branch: Branch) -> tuple[Outcome, float]:
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        _child(run, branch, theirs)
    os.close(theirs)
    with open(ours, "rb") as answer:
        raw = answer.read()
    _, status, usage = os.wait4(child, 0)
    cpu_s = usage.ru_utime + usage.ru_stime
    if status or not raw:
        said = f"its process ended with status {status}"
        return Outcome(branch.trunk, "crash", said, (), 0.0, branch.number), cpu_s
    kind, words, host_seconds = json.loads(raw)
    return Outcome(branch.trunk, kind, words, (), host_seconds, branch.number), cpu_s


def _child(run: Run, branch: Branch, answer: int) -> None:
    """Never returns: what the parent would do at its end is not the child's to do."""
    status = 1
    try:
        outcome = grow(run, branch)
        said = (outcome.kind, outcome.words[:SAID_MAX], outcome.host_seconds)
        os.write(answer, json.dumps(said).encode())
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)
