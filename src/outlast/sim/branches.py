"""Many short schedules from one beginning: a pool is started once, each branch goes on from there.

A seed of seeds.py is a long life of a pool; much of its time is spent in starting and recovering. A
branch is one burst of faults. The process that holds the started pool forks for each stem, which is
how a burst begins, and the stem forks for each of the branches that go on from it, so that
all of them begin in the very same state, each with its own chance.

Rules:
1. A branch is named by its trunk (a seed of seeds.py, with the timing `lab`) and its number, and is
   played the same without a fork: `--seed 7.1234`. TWIGS branches in a row share a stem.
2. Invariants hold after every event. Every RECOVERED-th branch heals and must recover, too.
   The faults of a branch are not handed back: its name is enough to play it again.
3. A child that dies without an answer is a crash of the simulator, and counted as one.
"""

from __future__ import annotations

import gc
import json
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from outlast.errors import BrokenInvariant, InvalidInput
from outlast.sim.seeds import TIMINGS, Outcome, Run

STEM_S, BURST_S = 3.0, 2.0  # how long faults go on, in the stem and then in each branch of it
TWIGS = 12
RECOVERED = 8
SAID_MAX = 500
STEPS_S = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2)
Played = tuple[Outcome, float]  # and the CPU seconds it took


@dataclass(frozen=True, slots=True)
class Branch:
    trunk: int
    number: int

    def __str__(self) -> str:
        return f"{self.trunk}.{self.number}"

    @property
    def stem(self) -> int:
        return self.number // TWIGS


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


def shoot(run: Run, branch: Branch) -> None:
    """The stem of a branch. Raises BrokenInvariant."""
    run.random.seed(f"{branch.trunk} {branch.stem}")
    run.draw_kinds()
    _burst(run, STEM_S)


def grow(run: Run, branch: Branch) -> Outcome:
    """Go on from its stem to the end of a branch; the run cannot be used again."""
    run.random.seed(str(branch))
    run.begun_ns = run.pool.world.now_ns  # what was played before is not this branch's alone
    kind, words = "ok", ""
    try:
        _burst(run, BURST_S)
        if branch.number % RECOVERED == 0:
            run.heal()
            words = run.recover()
            kind = "liveness" if words else "ok"
    except BrokenInvariant as broken:
        kind, words = "safety", str(broken)
    return run.outcome(kind, words, branch.number)


def _burst(run: Run, time_s: float) -> None:
    seconds = 0.0
    while seconds < time_s:
        run.hurt()
        step_s = run.random.choice(STEPS_S)
        run.pool.run(step_s)
        seconds += step_s


def replay(branch: Branch, tell: Callable[[str], None] | None = None) -> tuple[Run, Outcome]:
    """The run at its end, and what came of it."""
    run = warm(branch.trunk, tell)
    try:
        shoot(run, branch)
    except BrokenInvariant as broken:
        return run, run.outcome("safety", str(broken), branch.number)
    return run, grow(run, branch)


def branches(trunk: int, first: int, count: int) -> Iterator[Played]:
    """Each branch's outcome, one stem after the other."""
    run = warm(trunk)
    gc.collect()
    gc.freeze()  # what is shared with the children is not walked, and so not copied, by them
    try:
        every = (Branch(trunk, number) for number in range(first, first + count))
        for _, twigs in groupby(every, key=lambda branch: branch.stem):
            some = tuple(twigs)
            yield from _forked(some, lambda some=some: _stem(run, some))  # type: ignore[misc]
    finally:
        gc.unfreeze()


def _stem(run: Run, twigs: Sequence[Branch]) -> list[Outcome]:
    gc.disable()  # the life of a child is too short for it
    try:
        shoot(run, twigs[0])
    except BrokenInvariant as broken:
        return [run.outcome("safety", str(broken), branch.number) for branch in twigs]
    found: list[Outcome] = []
    for branch in twigs:
        played = _forked((branch,), lambda branch=branch: [grow(run, branch)])  # type: ignore[misc]
        found += [outcome for outcome, _cpu_s in played]
    return found


def _forked(some: Sequence[Branch], play: Callable[[], list[Outcome]]) -> list[Played]:
    """What a child of this process says about these branches."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        _child(play, theirs)
    os.close(theirs)
    with open(ours, "rb") as answer:
        raw = answer.read()
    _, status, usage = os.wait4(child, 0)
    cpu_s = (usage.ru_utime + usage.ru_stime) / len(some)
    if status or not raw:
        said = f"its process ended with status {status}"
        return [(Outcome(b.trunk, "crash", said, (), 0.0, b.number), cpu_s) for b in some]
    return [(Outcome(**{**said, "faults": ()}), cpu_s) for said in json.loads(raw)]


def _child(play: Callable[[], list[Outcome]], answer: int) -> None:
    """Never returns: what the parent would do at its end is not the child's to do."""
    status = 1
    try:
        said = [outcome.short(SAID_MAX) for outcome in play()]
        with open(answer, "wb") as pipe:
            pipe.write(json.dumps(said).encode())
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)
