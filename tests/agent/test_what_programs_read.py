"""What programs read of notes and answers is told on a page, no more and no less."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from memory_service import MemoryService

from outlast.model import Lease, LocalVm, VmState
from outlast.pool.evidence import evidence
from outlast.pool.facts import Held
from outlast.pool.journal import note
from outlast.pool.traces import Traces
from outlast.settings import PRESETS
from outlast.wire.shapes import TimelineEntry
from outlast.wire.why import Why

PAGE = Path(__file__).parent.parent.parent / "docs" / "operating" / "incidents.md"


def told_of(head: str) -> set[str]:
    """The names in the first column of the table with this head."""
    (rows,) = re.findall(
        rf"^\| {head} \| what \|\n\| -.*?\n(.*?)\n\n", PAGE.read_text(), re.M | re.S
    )
    return {name for row in rows.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_notes_and_answers() -> None:
    assert told_of("note") == set(TimelineEntry.model_fields)
    assert told_of("answer") == set(Why.model_fields)


def test_evidence(tmp_path: Path) -> None:
    facts = MemoryService(tmp_path).picture.facts
    assert facts is not None
    local, lease = {"web": LocalVm("web", VmState.RUNNING)}, Held(1, Lease("web", 1), 0)
    facts = replace(facts, local=local, leases={"web": lease})
    one = note("order-given", vm="web", host="a", why="w")
    assert told_of("evidence") == set(evidence(facts, PRESETS["standard"], one, None, Traces()))
