"""outlast host confirm-off: asks for the name, and says what came of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from command_line import Outlast
from memory_service import MemoryService

from outlast.settings import S


@pytest.fixture
def silent_b(agent: MemoryService) -> MemoryService:
    agent.seen[2] = replace(agent.seen[2], still_ns=20 * S)
    agent.links[2] = 20 * S
    return agent


def test_it_wants_the_name_again(silent_b: MemoryService, outlast: Outlast) -> None:
    said = outlast("host", "confirm-off", "b")
    assert said.code != 0 and "--yes b does it" in said.err
    said = outlast("host", "confirm-off", "b", "--yes", "c")
    assert said.code != 0 and "nothing was changed" in said.err
    assert not silent_b.fences


def test_it_says_what_follows(silent_b: MemoryService, outlast: Outlast) -> None:
    said = outlast("host", "confirm-off", "b", "--yes", "b", "--why", "no power")
    assert said.code == 0 and "b counts as off" in said.out
    assert silent_b.fences[2].value.why == "no power"
    said = outlast("--json", "host", "confirm-off", "b", "--yes", "b")
    assert json.loads(said.out)["changed"] is False


def test_a_host_that_lives_is_refused(agent: MemoryService, outlast: Outlast) -> None:
    said = outlast("host", "confirm-off", "b", "--yes", "b")
    assert said.code != 0 and "b is on" in said.err
    assert "no host 'x'" in outlast("host", "confirm-off", "x", "--yes", "x").err


def test_a_dead_host_is_removed_without_ado(agent: MemoryService, outlast: Outlast) -> None:
    assert agent.view is not None
    members = {slot: m for slot, m in agent.view.members.items() if slot != 2}
    agent.view = replace(agent.view, members=members)
    said = outlast("host", "remove", "b")
    assert said.code != 0 and "--yes" in said.err
    said = outlast("host", "remove", "b", "--yes")
    assert said.code == 0 and "no host of this pool any more" in said.out
    assert "outlast pool revoke b" in said.out
    assert not agent.slots[2].active
    assert "no host 'x'" in outlast("host", "remove", "x", "--yes").err
