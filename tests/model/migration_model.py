"""Every course of a live migration between two hosts, with a third that may take over.

What is modelled is what matters: libvirt stops the source when the copy is complete and waits for
the target's word; without it the source goes on by itself. The source's agent holds that word, has
the guard end the process, and looks whether libvirt still waited for it. Each rule of
docs/PROTOCOL.md is a switch; TWICE, STALE and FOREIGN are what must never be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import NamedTuple

from search import Result, Step, search


@dataclass(frozen=True)
class Rules:
    waits: bool = True  # left only when libvirt still waited for the word after the process ended
    ended: bool = True  # the lease is given away only after the process ended
    sees: bool = True  # a copy goes on only when its host sees the lease given to it
    memory: bool = True  # an agent that was restarted gives no lease away
    disk: bool = True  # who gets the lease in another way starts from the disk

    def without(self, name: str) -> Rules:
        return replace(self, **{name: False})


RULE_NAMES = tuple(f.name for f in fields(Rules))


class Vm(IntEnum):
    NONE = 0
    COMING = 1  # a copy that is not complete
    STILL = 2  # complete, or a source that waits
    RUNS = 3


class Agent(IntEnum):
    KNOWS = 0  # it began the move
    LEFT = 1  # ... and saw the VM leave
    ANEW = 2  # restarted since


class Lease(IntEnum):
    SOURCE = 0
    GIVEN = 1  # to the target, for this move
    TARGET = 2  # to the target, with a proof of the source's death
    THIRD = 3


class World(NamedTuple):
    source: Vm = Vm.RUNS
    copy: Vm = Vm.NONE
    third: Vm = Vm.NONE
    lease: Lease = Lease.SOURCE
    move: bool = False  # the lease names it
    waits: bool = False  # libvirt of the source, for the word of success
    word: bool = False  # the word is there, held
    success: bool = False  # the word was delivered: libvirt says that it worked
    killed: bool = False  # by the guard, for the move; not yet looked at
    stale: bool = False  # the VM ran somewhere since the copy was complete
    agent: Agent = Agent.KNOWS
    alive: bool = True  # the source's host
    there: bool = True  # the target's host
    tries: int = 2
    faults: int = 2


Next = tuple[str, World]


def steps(w: World, rules: Rules) -> Iterator[Next]:
    """All that can happen next."""
    if w.alive:
        yield from _libvirt(w)
        yield from _agent(w, rules)
    yield from _target(w, rules)
    yield from _others(w)
    if w.faults:
        yield from _faults(w._replace(faults=w.faults - 1))


def _libvirt(w: World) -> Iterator[Next]:
    if w.move and w.lease is Lease.SOURCE and w.source is Vm.RUNS and w.copy is Vm.COMING:
        stopped = w._replace(source=Vm.STILL, copy=Vm.STILL, waits=True, stale=False)
        yield "the copy is complete, the source waits", stopped
        yield "the copy fails", w._replace(copy=Vm.NONE)
    if w.waits and w.source is Vm.STILL:
        if not w.word:
            yield "the word of success arrives and is held", w._replace(word=True)
        else:
            gone = w._replace(source=Vm.NONE, waits=False, word=False, success=True)
            yield "the word is delivered, libvirt ends the source", gone
    if w.waits:
        yield "libvirt hangs up; a source that is there goes on", _goes_on(w)


def _goes_on(w: World) -> World:
    after = w._replace(waits=False, word=False)
    return after._replace(source=Vm.RUNS, stale=True) if w.source is Vm.STILL else after


def _agent(w: World, rules: Rules) -> Iterator[Next]:
    mine = w.lease is Lease.SOURCE
    if mine and not w.move and w.source is Vm.RUNS and w.tries and w.agent is not Agent.LEFT:
        begun = w._replace(
            move=True, tries=w.tries - 1, agent=Agent.KNOWS, success=False, killed=False
        )
        yield "the move is written into the lease", begun
    knows = w.move and mine and w.agent is Agent.KNOWS
    if knows and w.there and w.copy is Vm.NONE and w.source is Vm.RUNS:
        yield "libvirt begins to copy", w._replace(copy=Vm.COMING)
    if knows and (w.word or not rules.waits) and w.source is not Vm.NONE and w.copy is Vm.STILL:
        yield "the guard ends the source", w._replace(source=Vm.NONE, killed=True)
        if not rules.ended:
            yield "the lease is given away early", w._replace(lease=Lease.GIVEN)
    if knows and w.killed:
        if (w.waits and w.word) or not rules.waits:
            yield "libvirt still waited: it has left", w._replace(agent=Agent.LEFT, killed=False)
        else:
            yield "it may have gone on", w._replace(move=False, killed=False)
    if knows and w.success:
        yield "libvirt says that it worked: it has left", w._replace(agent=Agent.LEFT)
    if w.move and mine and w.agent is Agent.LEFT:
        yield "the lease is given away", w._replace(lease=Lease.GIVEN)
    if w.move and mine and w.agent is not Agent.LEFT and not w.waits and not w.killed:
        yield "the move is given up", w._replace(move=False)
    if not rules.memory and w.move and mine and w.agent is Agent.ANEW and w.source is Vm.NONE:
        yield "a restarted agent guesses that it has left", w._replace(lease=Lease.GIVEN)
    if mine and not w.move and w.source is Vm.NONE:
        yield "it starts from its disk here", w._replace(source=Vm.RUNS, stale=True)
    if mine and not w.move and w.source is Vm.STILL and not w.waits:
        yield "libvirt left it still: it goes on here", w._replace(source=Vm.RUNS, stale=True)


def _target(w: World, rules: Rules) -> Iterator[Next]:
    if not w.there:
        return
    if w.copy is Vm.STILL and (w.lease is Lease.GIVEN or not rules.sees):
        yield "the copy goes on", w._replace(copy=Vm.RUNS)
    if w.copy is Vm.STILL and w.lease is Lease.TARGET and not rules.disk:
        yield "the copy goes on", w._replace(copy=Vm.RUNS)
    named = w.lease is Lease.GIVEN or (w.lease is Lease.SOURCE and w.move)
    if w.copy in (Vm.STILL, Vm.COMING) and not named:
        yield "a copy that no lease names is ended", w._replace(copy=Vm.NONE)
    if w.copy is Vm.NONE and w.lease in (Lease.GIVEN, Lease.TARGET):
        yield "the target starts it from its disk", w._replace(copy=Vm.RUNS, stale=True)


def _others(w: World) -> Iterator[Next]:
    """Take-overs, with the proof of a death that has really happened."""
    if not w.alive and w.lease is Lease.SOURCE:
        if w.there:
            yield "the target takes over", w._replace(lease=Lease.TARGET, move=False)
        yield "the third takes over", w._replace(lease=Lease.THIRD, move=False)
    if not w.there and w.lease in (Lease.GIVEN, Lease.TARGET):
        yield "the third takes over", w._replace(lease=Lease.THIRD, move=False)
    if w.lease is Lease.THIRD and w.third is Vm.NONE:
        yield "the third starts it from its disk", w._replace(third=Vm.RUNS, stale=True)


def _faults(w: World) -> Iterator[Next]:
    if w.alive:
        yield (
            "the source's agent is restarted, its relay is gone",
            _goes_on(w._replace(agent=Agent.ANEW, success=False, killed=False)),
        )
        if w.source is not Vm.NONE:
            yield "the source's process dies", w._replace(source=Vm.NONE)
        dead = w._replace(
            alive=False, source=Vm.NONE, waits=False, word=False, success=False, killed=False
        )
        yield "the source's host dies", dead
    if w.there:
        if w.copy is not Vm.NONE:
            yield "the copy's process dies", w._replace(copy=Vm.NONE)
        yield "the target's host dies", w._replace(there=False, copy=Vm.NONE)


def harm(step: str, w: World) -> str:
    """What must never be, in a word and a sentence; "" when all is well."""
    running = [
        (name, lease)
        for name, vm, lease in (
            ("the source", w.source, (Lease.SOURCE,)),
            ("the target", w.copy, (Lease.GIVEN, Lease.TARGET)),
            ("the third", w.third, (Lease.THIRD,)),
        )
        if vm is Vm.RUNS
    ]
    if len(running) > 1:
        return f"TWICE: it runs on {' and '.join(name for name, _ in running)}"
    if step == "the copy goes on" and w.stale:
        return "STALE: a memory older than the disk goes on"
    if running and w.lease not in running[0][1]:
        return f"FOREIGN: {running[0][0]} runs it, its lease is {w.lease.name}'s"
    return ""


def explore(rules: Rules) -> Result:
    """Every course from a VM that runs, up to the first harm."""
    return search(World(), lambda w: [Step(s, t, harm(s, t)) for s, t in steps(w, rules)])


def stuck(rules: Rules) -> set[World]:
    """States from which the VM can never run again."""
    leads: dict[World, list[World]] = {World(): []}
    todo = deque(leads)
    while todo:
        w = todo.popleft()
        for _, then in steps(w, rules):
            if then not in leads:
                leads[then] = []
                todo.append(then)
            leads[then].append(w)
    good = [w for w in leads if Vm.RUNS in (w.source, w.copy, w.third)]
    reached = set(good)
    while good:
        fresh = set(leads[good.pop()]) - reached
        reached |= fresh
        good += fresh
    return set(leads) - reached


if __name__ == "__main__":
    for name in ("", *RULE_NAMES):
        found = explore(Rules().without(name) if name else Rules())
        print(f"{name or 'all rules':10} {found.states:6} states: {found.harm or 'safe'}")
        for step in found.course:
            print(f"    {step}")
