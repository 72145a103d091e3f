"""Plays a story and records every agent's life on the way, as the agent's ring would."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from outlast.incident.codec import encode
from outlast.incident.steps import Start, Step, Writer
from outlast.pool.core import PoolCore
from outlast.pool.decision import Decision
from outlast.pool.facts import Facts
from outlast.sim import scenario

AGAIN = 40  # a new start after so many steps


@dataclass
class Recorded:
    lives: list[list[str]] = field(default_factory=list)
    notes: list[dict[str, object]] = field(default_factory=list)


def record(path: Path) -> Recorded:
    """The recordings of all agents of a story, and their notes."""
    made = Recorded()
    writers: dict[int, tuple[PoolCore, Writer, list[str]]] = {}
    original = PoolCore.step

    def step(core: PoolCore, now_ns: int, facts: Facts) -> Decision:
        wall_s, settings = float(facts.wall_s), core._members._settings
        if id(core) not in writers:
            writers[id(core)] = (core, Writer(), [])
            made.lives.append(writers[id(core)][2])
        _, writer, lines = writers[id(core)]
        if len(lines) in {0, AGAIN}:
            lines.append(writer.start("0", facts.me.host, wall_s, settings, encode(core)))
        decision = original(core, now_ns, facts)
        lines.append(writer.step(now_ns, wall_s, facts, decision))
        made.notes.extend(
            {"wall_s": wall_s, "host": facts.me.host, "code": n.code, "sentence": n.sentence,
             "fields": dict(n.fields)}
            for n in decision.notes
        )  # fmt: skip
        return decision

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PoolCore, "step", step)
        scenario.Player().play(path.read_text(encoding="utf-8"))
    return made


def lines(recorded: list[Start | Step]) -> list[str]:
    """A recording as it is written."""
    writer = Writer()
    return [
        writer.start(o.version, o.host, o.wall_s, o.settings, o.core)
        if isinstance(o, Start)
        else writer.step(o.now_ns, o.wall_s, o.facts, o.decision)
        for o in recorded
    ]
