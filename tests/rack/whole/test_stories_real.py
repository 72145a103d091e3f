"""Stories of tests/scenarios that are marked for the rack, played with real processes and faults.

    make rack-stories            all of them, with a table; or some: STORIES=frozen

The suite plays those of QUICK. What may differ from the story: story_notes.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from evidence import unsound
from story_player import Stage, play

ROOT = Path(__file__).parents[2] / "scenarios"
MARK = "# rack: yes"
MARKED = {
    f"{path.parent.name}/{path.stem}": text
    for path in ROOT.glob("*/*.txt")
    if MARK in (text := path.read_text(encoding="utf-8"))
}
# nothing is placed in these: real hosts measure loads, those of stories do not, and choose others
QUICK = ("agents/agent_dies", "vms/qemu_dies")
WANTED = os.environ.get("OUTLAST_STORIES", "")  # a part of names; "all"


def _pool(text: str) -> str:
    """Stories with the same first command share a rack."""
    return next(line for line in text.splitlines() if line.startswith("pool "))


PLAYED = sorted(
    (n for n in MARKED if WANTED == "all" or (WANTED in n if WANTED else n in QUICK)),
    key=lambda name: (_pool(MARKED[name]), "master" in name, name),
)
assert PLAYED, f"no story with '{WANTED}' in its name is marked for the rack"

pytestmark = pytest.mark.rack


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("stories"))
    yield stage
    stage.close()


def test_enough_stories_are_marked() -> None:
    assert len(MARKED) >= 20
    assert set(QUICK) <= set(MARKED)


@pytest.mark.parametrize("name", PLAYED)
def test_the_rack_tells_what_the_story_tells(stage: Stage, name: str) -> None:
    began = time.monotonic()
    stage.set(MARKED[name])
    ready = time.monotonic()
    wrong: list[str] = []
    notes = 0
    for part in play(stage, MARKED[name]):
        notes += part.told
        if part.differences:
            wrong += ["", *part.commands, *part.differences]
    wrong += [f"{vm}: {said}" for vm, said in unsound(stage.lab).items()]
    took, outcome = time.monotonic() - ready, "differs" if wrong else "same"
    print(f"\n{name:40} {outcome:8} {notes:3} notes  {took:5.1f} s  (set in {ready - began:.1f} s)")
    print("\n".join(wrong), flush=True)
    assert not wrong
