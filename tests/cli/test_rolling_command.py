"""`outlast pool maintain-all` against a real agent server."""

from __future__ import annotations

import io

import pytest
from command_line import Outlast
from memory_service import MemoryService, block

from outlast.pool.facts import Seen
from outlast.settings import S


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def web(agent: MemoryService, outlast: Outlast) -> MemoryService:
    agent.seen = {n: Seen(block(n, free_mib=8000), S) for n in (2, 3)}
    assert outlast("vm", "create", "web", "--memory", "512MiB", "--start").code == 0
    return agent


def test_hosts_one_after_the_other(
    web: MemoryService, outlast: Outlast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("\n\n\n"))
    said = outlast("pool", "maintain-all", "b", "c", "--yes", "--no-bring-back")
    assert said.code == 0, said.err
    assert said.out.endswith("all 2 hosts are done\n")
    for host in "bc":
        assert f"{host} runs no VMs: say when the work is done. Done?" in said.out
    assert {record.maintenance for record in web.slots.values()} == {""}


def test_it_asks_and_a_no_changes_nothing(
    web: MemoryService, outlast: Outlast, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--until reboot" in outlast("pool", "maintain-all", "--yes").err
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    said = outlast("pool", "maintain-all")
    assert said.code != 0
    assert "a: 1 VM moves away" in said.out
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    said = outlast("pool", "maintain-all", "b", "c", "--yes")
    assert said.code != 0
    assert "for the rest: outlast pool maintain-all b c" in said.out
    assert web.slots[2].maintenance == "rolling maintenance"
    assert outlast("pool", "maintain-all", "b", "--until", "reboot").code != 0
    assert "there is no host 'x'" in outlast("pool", "maintain-all", "x", "--until", "reboot").err


def test_what_cannot_go_on_says_what_is_left(web: MemoryService, outlast: Outlast) -> None:
    web.seen = {n: Seen(block(n, free_mib=100), S) for n in (2, 3)}
    said = outlast("pool", "maintain-all", "a", "--until", "reboot", "--yes")
    assert said.code != 0
    assert "web cannot leave a" in said.err
    assert "outlast pool maintain-all a" in said.err
    assert web.slots[1].maintenance == ""
