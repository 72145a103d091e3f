"""`outlast pool set`: bad values are refused with their field, and change nothing."""

from __future__ import annotations

import json

import pytest
from command_line import Outlast
from memory_service import MemoryService


def test_settings_are_changed_and_shown(agent: MemoryService, outlast: Outlast) -> None:
    said = outlast("pool", "set", "--moves-at-once", "4", "--cpu", "host", "--restart-window", "1h")
    assert said.code == 0, said.err
    assert "moves_at_once is 4, cpu_mode is host, restart_window_s is 3600" in said.out
    assert (agent.settings.moves_at_once, agent.settings.restart_window_s) == (4, 3600)
    shown = json.loads(outlast("--json", "pool", "set").out)
    assert (shown["moves_at_once"], shown["cpu_mode"], shown["cpu"]) == (4, "host", "")
    assert "moves_at_once      4" in outlast("pool", "set").out
    assert "already" in outlast("pool", "set", "--moves-at-once", "4").out
    said = outlast("pool", "set", "--witness", "192.0.2.1, 2001:db8::1")
    assert "witness is 192.0.2.1,2001:db8::1" in said.out
    assert agent.settings.witness == "192.0.2.1,2001:db8::1"
    assert "witness is none" in outlast("pool", "set", "--witness", "").out


@pytest.mark.parametrize(
    ("args", "field"),
    [
        (("--moves-at-once", "0"), "moves_at_once"),
        (("--move-connections", "17"), "move_connections"),
        (("--cpu", "best"), "cpu_mode"),
        (("--join", "friends"), "join"),
        (("--witness", "my-router"), "my-router"),
        (("--restart-window", "soon"), "soon"),
    ],
)
def test_bad_values(
    agent: MemoryService, outlast: Outlast, args: tuple[str, ...], field: str
) -> None:
    before = agent.settings
    said = outlast("pool", "set", *args)
    assert said.code == 2
    assert field in said.err
    assert agent.settings == before
