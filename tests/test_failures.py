"""The table of failures in the operating guide: no row without a story that asserts its outcome."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCENARIOS = ROOT / "tests/scenarios"
STORY = re.compile(r"`([a-z_]+/[a-z_0-9]+\.txt)`")


def rows(text: str) -> list[str]:
    """The rows of all tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [line for line in lines if "---" not in line and not line.endswith("| story |")]


ROWS = rows((ROOT / "docs/operating/failures.md").read_text(encoding="utf-8"))


def without_story(row: str) -> str:
    """What is wrong with a row; "" when its last column names stories that are there and judge."""
    named = STORY.findall(row.rstrip("| ").rpartition("|")[2])
    if not named:
        return "it names no story"
    for name in named:
        path = SCENARIOS / name
        if not path.is_file():
            return f"there is no story {name}"
        if not re.search(r"^expect ", path.read_text(encoding="utf-8"), re.MULTILINE):
            return f"the story {name} expects nothing"
    return ""


@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_a_story_that_demands_something(row: str) -> None:
    assert not without_story(row), row


def test_the_table_is_there_and_a_row_without_a_story_is_found() -> None:
    assert len(ROWS) > 40
    assert without_story("| a fire | it burns | |") == "it names no story"
    assert without_story("| a fire | it burns | `hosts/fire.txt` |").startswith("there is no story")
    assert without_story("| `hosts/one_host_dies.txt` | it burns | soon |") == "it names no story"
