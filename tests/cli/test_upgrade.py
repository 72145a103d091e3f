"""`pool upgrade-check`: what is in the way, who comes next; `pool upgrade` has no way back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from command_line import Outlast
from memory_service import SETTINGS, MemoryService

from outlast import settings
from outlast.cli.upgrade import judge
from outlast.errors import Conflict
from outlast.settings import check_protocol
from outlast.wire.shapes import HaOffInfo, HostStatus, MoveStatus, PoolStatus, VmStatus


def host(name: str, version: str, **more: object) -> HostStatus:
    known = {"name": name, "slot": ord(name) - 96, "state": "member", "sentence": f"{name} is well",
             "version": version, "guard_version": version}  # fmt: skip
    return HostStatus.model_validate(known | more)


def pool(*hosts: HostStatus, **more: object) -> PoolStatus:
    known = {"name": "prod", "uuid": "u", "preset": "standard", "answered_by": "a",
             "sentence": "all is well", "master": "a", "hosts": list(hosts)}  # fmt: skip
    return PoolStatus.model_validate(known | more)


def test_the_master_comes_last() -> None:
    found = judge(
        pool(host("a", "0.1.0", master=True), host("b", "0.1.0"), host("c", "0.2.0")), [], "0.2.0"
    )
    assert found.order == ("b", "a")
    assert not found.obstacles
    assert "version 0.1.0: a, b (2 of 3)" in found.remarks


def test_a_guard_that_was_not_restarted_is_named() -> None:
    found = judge(pool(host("a", "0.2.0", guard_version="0.1.0"), host("b", "0.2.0")), [], "0.2.0")
    assert found.order == ("a",)
    assert any("its guard is 0.1.0 still" in remark for remark in found.remarks)


def test_versions_that_are_no_neighbours_go_step_by_step() -> None:
    found = judge(pool(host("a", "0.1.0"), host("b", "0.10.0")), [], "0.9.0")
    assert any("go step by step" in remark for remark in found.remarks)
    assert found.order == ("a",), "0.10 is newer than 0.9"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ({"hosts": [host("b", "0.1.0", state="silent", sentence="b is silent")]}, "b is silent"),
        ({"master": ""}, "no master"),
        ({"ha_off": HaOffInfo(why="tests")}, "switched off: tests"),
        (
            {"vms": [VmStatus(name="web", uuid="u", state="running", sentence="", desired="running",
                              host="a", memory_mib=1, vcpus=1, ha=True, move=MoveStatus(id="1"))]},
            "web is on its way from a",
        ),
    ],
)  # fmt: skip
def test_what_is_in_the_way(spoil: dict[str, object], why: str) -> None:
    found = judge(pool(host("a", "0.1.0")).model_copy(update=spoil), [])
    assert any(why in obstacle for obstacle in found.obstacles)


def test_a_pool_that_has_no_room_for_a_failure_waits() -> None:
    assert judge(pool(host("a", "0.1.0")), ["if b dies, db stays down"]).obstacles == (
        "if b dies, db stays down",
    )


def test_the_protocol_is_raised_when_all_hosts_speak_it(
    agent: MemoryService, outlast: Outlast
) -> None:
    agent.slots = {n: replace(r, protocol=2) for n, r in agent.slots.items()}
    agent.slots[2] = replace(agent.slots[2], protocol=1)
    said = outlast("pool", "upgrade")
    assert said.code == 0
    assert "protocol 1, as b can at best already" in said.out
    agent.slots[2] = replace(agent.slots[2], protocol=2)
    assert "all hosts could speak 2" in outlast("pool", "upgrade-check").out
    assert json.loads(outlast("--json", "pool", "upgrade").out)["changed"] is True
    assert agent.settings.protocol == 2
    agent.slots = {n: replace(r, protocol=1) for n, r in agent.slots.items()}
    outlast("pool", "upgrade")
    assert agent.settings.protocol == 2, "there is no way back"


def test_an_agent_refuses_a_pool_it_does_not_speak_with(monkeypatch: pytest.MonkeyPatch) -> None:
    check_protocol(SETTINGS)
    with pytest.raises(Conflict, match="speaks protocol 2, this version of Outlast at most 1"):
        check_protocol(replace(SETTINGS, protocol=2))
    monkeypatch.setattr(settings, "PROTOCOL", 4)
    monkeypatch.setattr(settings, "PROTOCOL_OLDEST", 3)
    with pytest.raises(Conflict, match="no older one than 3"):
        check_protocol(SETTINGS)
