"""Every story of tests/scenarios is played and must lead to exactly the notes it tells.

To record them anew: OUTLAST_REWRITE=1; read the difference, commit only what you can explain. What
a story expects stands in its commands and is not recorded: recording can't make a wrong outcome
right.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outlast.errors import InvalidInput
from outlast.sim.scenario import Player

ROOT = Path(__file__).parent.parent / "scenarios"
STORIES = sorted(ROOT.glob("*/*.txt"))
RACK = "# rack: yes"


@pytest.mark.parametrize("path", STORIES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_story(path: Path) -> None:
    told = path.read_text(encoding="utf-8")
    happened = Player().play(told)
    if os.environ.get("OUTLAST_REWRITE"):
        path.write_text(happened, encoding="utf-8")
    wrong = [line for line in happened.splitlines() if line.startswith(("BROKEN", "WRONG"))]
    assert wrong == []
    assert happened == told


def test_there_are_enough_of_them_in_folders_by_topic() -> None:
    assert len(STORIES) >= 120
    assert not list(ROOT.glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_story_begins_in_plain_words_and_demands_an_outcome(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert lines[0] != RACK
    assert [line for line in lines if line.startswith("expect ")]


def test_a_demand_that_is_not_met_is_told() -> None:
    text = (
        "# a demand of each kind, none of them true\n"
        "pool hosts=a,b vms=web\nquiet\nwait 1s\n"
        "expect web on b\nexpect web down\nexpect web held down\nexpect web starts 2\n"
        "expect lease web free\nexpect lease web by b\nexpect lease web proof silent\n"
        "expect view a master a\nexpect a closed\nexpect a resets 1\n"
        "expect told vm-crashed\nexpect untold vm-runs\n"
    )
    said = Player().play(text).split("----\n")[1].splitlines()
    demands = [line[7:] for line in text.splitlines() if line.startswith("expect ")]
    assert [line.split(":")[0] for line in said] == [f"WRONG {demand}" for demand in demands]


@pytest.mark.parametrize("command", ["expect web quickly", "power of c offf", "wait long", "x"])
def test_a_word_that_no_story_knows_is_refused(command: str) -> None:
    with pytest.raises((InvalidInput, ValueError)):
        Player().play(f"# a slip\npool hosts=a,b vms=web\nquiet\n{command}\n")
