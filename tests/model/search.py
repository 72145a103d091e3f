"""Breadth-first search through every course of a model: the shortest way to harm, or none at all.

A model gives its first state and a function from a state to the steps out of it. States are
immutable and hashable; equal states must have equal futures.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

S = TypeVar("S", bound=Hashable)


class Step(NamedTuple, Generic[S]):
    label: str
    state: S
    harm: str = ""  # what this step breaks


@dataclass(frozen=True)
class Result:
    states: int
    transitions: int
    harm: str = ""
    course: tuple[str, ...] = ()  # the steps that lead to the harm
    complete: bool = True  # every reachable state was looked at

    @property
    def safe(self) -> bool:
        return self.complete and not self.harm


def search(start: S, steps: Callable[[S], Iterable[Step[S]]], limit: int = 5_000_000) -> Result:
    """All states up to `limit`; stops at the first harm."""
    gc.disable()  # values make no circles: looking for them took a fifth of the time
    try:
        return _search(start, steps, limit)
    finally:
        gc.enable()


def _search(start: S, steps: Callable[[S], Iterable[Step[S]]], limit: int) -> Result:
    came: dict[S, tuple[S, str] | None] = {start: None}
    todo = deque([start])
    transitions = 0
    while todo and len(came) < limit:
        state = todo.popleft()
        for label, new, harm in steps(state):
            transitions += 1
            if harm:
                course = (*_course(came, state), label)
                return Result(len(came), transitions, harm, course, False)
            if new not in came:
                came[new] = (state, label)
                todo.append(new)
    return Result(len(came), transitions, complete=not todo)


def _course(came: dict[S, tuple[S, str] | None], state: S) -> list[str]:
    labels: list[str] = []
    at = came[state]
    while at is not None:
        labels.append(at[1])
        at = came[at[0]]
    return labels[::-1]


def report(title: str, run: Callable[[], Result]) -> None:
    """Run one search and print one line, and the course if there was harm."""
    began = time.monotonic()
    found = run()
    verdict = found.harm or ("safe" if found.complete else "not finished")
    print(
        f"{title:38} {found.states:9,} states {found.transitions:10,} transitions "
        f"{time.monotonic() - began:5.1f} s  {verdict}",
        flush=True,
    )
    if found.course:
        print("    " + "; ".join(found.course))
