"""`outlast pool balance`: shown, made wave by wave, taken back; against a real agent server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Outlast
from memory_service import MemoryService, block

from outlast.pool.facts import Seen
from outlast.settings import S

VMS = [f"vm{n}" for n in range(6)]


@pytest.fixture
def lopsided(
    agent: MemoryService, outlast: Outlast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MemoryService:
    """All VMs are on a; b and c have as much memory and nothing to do."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    agent.seen = {n: Seen(block(n, free_mib=8000), S) for n in (2, 3)}
    for vm in VMS:
        assert outlast("vm", "create", vm, "--memory", "600MiB", "--start", "--no-wait").code == 0
    return agent


def where(agent: MemoryService) -> dict[str, int]:
    return {vm: agent.leases[vm].value.slot for vm in VMS}


def test_it_shows_asks_moves_and_takes_back(lopsided: MemoryService, outlast: Outlast) -> None:
    before = where(lopsided)
    shown = outlast("pool", "balance")
    assert shown.code == 0, shown.err
    assert "vm" in shown.out and "--apply makes these moves" in shown.out
    refused = outlast("pool", "balance", "--apply")
    assert refused.code == 2 and "--yes" in refused.err
    assert where(lopsided) == before
    done = outlast("pool", "balance", "--apply", "--yes")
    assert done.code == 0, done.err
    after = where(lopsided)
    assert len(set(after.values())) > 1, "all are where they were"
    assert "--undo" in done.out
    back = outlast("pool", "balance", "--undo", "--yes")
    assert back.code == 0, back.err
    assert where(lopsided) == before
    assert "nothing to take back" in outlast("pool", "balance", "--undo", "--yes").err


def test_a_move_that_fails_ends_it(lopsided: MemoryService, outlast: Outlast) -> None:
    lopsided.refuses = "b has no room"
    said = outlast("pool", "balance", "--apply", "--yes")
    assert said.code != 0
    assert "stopped after 0 moves" in said.err and "b has no room" in said.err
    assert set(where(lopsided).values()) == {1}


def test_undo_leaves_alone_what_moved_on(lopsided: MemoryService, outlast: Outlast) -> None:
    made = json.loads(outlast("--json", "pool", "balance", "--apply", "--yes").out)["made"]
    moved = made[0]["vm"]
    other = next(n for n in (2, 3) if "abc"[n - 1] != made[0]["target"])
    lopsided.hold(moved, other)
    assert outlast("pool", "balance", "--undo", "--yes").code == 0
    assert where(lopsided)[moved] == other
