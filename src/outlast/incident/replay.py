"""The same pool core on recorded facts: does it decide the same, byte for byte?

Rules:
1. Nothing is left out of the comparison: kills, stops, swaps, starts, notes, sentence, numbers.
2. The first difference ends the replay and is named by its note, or by the part of the decision
   that differs when all notes agree.
3. A broken invariant is told like a difference: it is where the course ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from outlast.errors import BrokenInvariant, InvalidInput
from outlast.incident.codec import decode, encode, text
from outlast.incident.steps import Start, Step
from outlast.pool.core import PoolCore
from outlast.pool.decision import Decision

PARTS = ("notes", "kills", "stops", "swaps", "starts", "sentence")


@dataclass(frozen=True, slots=True)
class Outcome:
    steps: int
    notes: int
    difference: str = ""  # the first one, in a sentence; "" = every decision was the same
    wall_s: float = 0  # when that was

    @property
    def same(self) -> bool:
        return not self.difference


Look = Callable[[float, Sequence[str]], None]  # the wall clock then, and what is said now


def _ignore(wall_s: float, said: Sequence[str]) -> None:
    pass


def replay(recorded: Iterable[Start | Step], look: Look = _ignore) -> Outcome:
    """Decide again, step by step; `look` sees each decision. Raises InvalidInput when empty."""
    core: PoolCore | None = None
    steps = notes = 0
    for one in recorded:
        if isinstance(one, Start):
            core = core_of(one)
            continue
        if core is None:
            raise InvalidInput("a step without a start before it")
        steps += 1
        try:
            decided = core.step(one.now_ns, one.facts)
        except BrokenInvariant as broken:
            return Outcome(steps, notes, f"here an invariant breaks: {broken}", one.wall_s)
        look(one.wall_s, [f"{n.sentence} [{n.code}]" for n in decided.notes])
        if text(encode(decided)) != text(one.decision):
            return Outcome(steps, notes, _difference(decided, one.decision), one.wall_s)
        notes += len(decided.notes)
    if not steps:
        raise InvalidInput("nothing was recorded in this time", hint="a longer --since?")
    return Outcome(steps, notes)


def core_of(start: Start) -> PoolCore:
    """A core of its own for a replay, as it was at that start."""
    core = decode(start.core)
    assert isinstance(core, PoolCore)
    return core


def _difference(decided: Decision, recorded: object) -> str:
    then = decode(recorded)
    if not isinstance(then, Decision):
        return "the recorded decision cannot be read"
    for now_note, then_note in zip(decided.notes, then.notes, strict=False):
        if text(encode(now_note)) != text(encode(then_note)):
            return f"then: {then_note.sentence} [{then_note.code}]; now: {now_note.sentence} " + (
                f"[{now_note.code}]"
            )
    count = len(then.notes)
    if len(decided.notes) > count:
        extra = decided.notes[count]
        return f"said now and not then: {extra.sentence} [{extra.code}]"
    if len(decided.notes) < count:
        lost = then.notes[len(decided.notes)]
        return f"said then and not now: {lost.sentence} [{lost.code}]"
    for part in PARTS:
        was, is_ = getattr(then, part), getattr(decided, part)
        if text(encode(was)) != text(encode(is_)):
            return f"the same notes, but other {part}: then {was!s:.200}; now {is_!s:.200}"
    return "the same notes, but other numbers"
