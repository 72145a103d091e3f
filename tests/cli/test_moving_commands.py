"""The commands that move VMs, maintain hosts and switch HA, against a real agent server."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from command_line import Outlast
from memory_service import MemoryService, block

from outlast.pool.facts import Seen
from outlast.settings import S


@pytest.fixture
def web(agent: MemoryService, outlast: Outlast) -> MemoryService:
    assert outlast("vm", "create", "web", "--memory", "512MiB", "--start").code == 0
    return agent


def test_migrate_waits_until_it_is_there(web: MemoryService, outlast: Outlast) -> None:
    said = outlast("vm", "migrate", "web", "--to", "b", "--no-wait")
    assert (said.code, said.out) == (0, "web shall move to b\n")
    assert web.leases["web"].value.slot == 2
    said = outlast("--json", "vm", "migrate", "web", "--to", "c")
    assert said.code == 0
    assert json.loads(said.out)[0]["host"] == "c"
    assert outlast("vm", "migrate", "web", "--to", "c").code != 0
    assert "no host 'x'" in outlast("vm", "migrate", "web", "--to", "x").err


def test_a_move_that_fails_says_why(web: MemoryService, outlast: Outlast) -> None:
    web.refuses = "b has no room"
    said = outlast("vm", "migrate", "web", "--to", "b")
    assert said.code != 0
    assert "web: b has no room" in said.err
    assert web.leases["web"].value.slot == 1
    assert "it did not move to b: b has no room" in outlast("vm", "list").out


def test_cancel_takes_the_wish_back(web: MemoryService, outlast: Outlast) -> None:
    web.obedient = False
    assert outlast("vm", "migrate", "web", "--no-wait").code == 0
    assert outlast("vm", "migrate", "web", "--cancel").out == "web stays where it is\n"
    held = web.read_vm("web")
    assert held is not None
    assert held.value.move is None


def test_maintenance_shows_its_plan_and_asks(web: MemoryService, outlast: Outlast) -> None:
    said = outlast("host", "maintain", "a")
    assert said.code != 0
    assert "1 VM moves away from a" in said.out
    assert "--yes" in said.err
    assert web.slots[1].maintenance == ""
    said = outlast("host", "maintain", "b", "--why", "new memory", "--yes")
    assert said.code == 0, said.err
    assert said.out.endswith("b is in maintenance and runs no VMs\n")
    assert "in maintenance: new memory" in outlast("host", "list").out
    assert outlast("host", "resume", "b").out == "b is in service\n"
    assert "no host 'x'" in outlast("host", "maintain", "x", "--yes").err


def test_power_off_of_a_host_that_is_none(web: MemoryService, outlast: Outlast) -> None:
    assert "no host 'x'" in outlast("host", "power-off", "x", "--yes").err
    said = outlast("host", "power-off", "b", "--migrate", "all", "--stop", "--yes")
    assert "either --migrate or --stop" in said.err


def test_ha_of_a_vm_and_of_the_pool(web: MemoryService, outlast: Outlast) -> None:
    assert outlast("vm", "ha", "web", "off", "--why", "a test", "--for", "2h").code == 0
    assert "off by uid 0 until" in outlast("vm", "show", "web").out
    assert outlast("vm", "ha", "web", "on").out == "HA of web is on\n"
    assert outlast("pool", "ha", "off", "--why", "new switches").code == 0
    assert "HA of the pool is off by uid 0: new switches" in outlast("status").out
    assert outlast("pool", "ha", "on").out == "HA of the pool is on\n"
    assert "on or off" in outlast("vm", "ha", "web", "maybe").err
    assert "for off" in outlast("pool", "ha", "on", "--for", "2h").err


def test_maintenance_that_leaves_no_reserve_is_told_or_refused(
    web: MemoryService, outlast: Outlast
) -> None:
    web.seen = {2: Seen(block(2, free_mib=600), S), 3: Seen(block(3, free_mib=100), S)}
    said = outlast("host", "maintain", "a")
    assert "web: a -> b" in said.out
    assert "careful: after this the pool does not survive the failure of b" in said.out
    web.settings = replace(web.settings, admission="refuse")
    refused = outlast("host", "maintain", "a", "--yes")
    assert refused.code != 0
    assert "refused: after this the pool does not survive the failure of b" in refused.err
    assert web.slots[1].maintenance == ""
