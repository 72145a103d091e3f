"""The table of failures in the operating guide: no row without a story that asserts its outcome."""

from __future__ import annotations

import re
from itertools import combinations_with_replacement
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


KINDS = ("power", "freeze", "storage", "network", "agent", "qemu", "all storage", "all network",
         "link")  # fmt: skip
ONCE = ("all storage", "all network", "link")  # of these there is one; and a link is part of all
SAME = {("all network", "link"), ("network", "all network")}
PAIRS = {
    "power power": "hosts/half_of_four_die", "power freeze": "pairs/power_and_a_frozen_host",
    "power storage": "pairs/power_and_storage", "power network": "pairs/power_and_network",
    "power agent": "pairs/power_and_an_agent", "power qemu": "pairs/power_and_a_qemu",
    "power all storage": "storage/away_from_all_and_one_dead",
    "power all network": "network/network_lost_by_all", "power link": "pairs/power_and_a_link",
    "freeze freeze": "hosts/two_frozen_of_three",
    "freeze storage": "pairs/a_frozen_host_and_storage",
    "freeze network": "pairs/a_frozen_host_and_network",
    "freeze agent": "pairs/a_frozen_host_and_an_agent",
    "freeze qemu": "pairs/a_frozen_host_and_a_qemu",
    "freeze all storage": "pairs/a_frozen_host_and_all_storage",
    "freeze all network": "pairs/a_frozen_host_and_all_network",
    "freeze link": "pairs/a_frozen_host_and_a_link",
    "storage storage": "storage/of_two_hosts_of_three",
    "storage network": "pairs/storage_and_network", "storage agent": "pairs/storage_and_an_agent",
    "storage qemu": "pairs/storage_and_a_qemu",
    "storage all storage": "pairs/storage_and_then_all_storage",
    "storage all network": "pairs/storage_and_all_network",
    "storage link": "pairs/storage_and_a_link", "network network": "network/two_one_and_one",
    "network agent": "pairs/network_and_an_agent", "network qemu": "pairs/network_and_a_qemu",
    "network all storage": "pairs/network_and_all_storage",
    "network link": "pairs/network_and_a_link", "agent agent": "agents/all_gone",
    "agent qemu": "agents/dies_with_its_vm", "agent all storage": "pairs/an_agent_and_all_storage",
    "agent all network": "pairs/an_agent_and_all_network",
    "agent link": "pairs/an_agent_and_a_link",
    "qemu qemu": "pairs/two_qemus", "qemu all storage": "pairs/a_qemu_and_all_storage",
    "qemu all network": "pairs/a_qemu_and_all_network", "qemu link": "pairs/a_qemu_and_a_link",
    "all storage all network": "both/storage_and_network_away",
    "all storage link": "pairs/all_storage_and_a_link",
}  # fmt: skip


def test_every_pair_of_failures_is_in_the_table() -> None:
    wanted = {
        f"{x} {y}" for x, y in combinations_with_replacement(KINDS, 2)
        if not (x == y and x in ONCE) and (x, y) not in SAME
    }  # fmt: skip
    assert wanted == PAIRS.keys()
    page = "\n".join(ROWS)
    assert [story for story in PAIRS.values() if f"`{story}.txt`" not in page] == []
