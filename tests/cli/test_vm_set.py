"""`outlast vm set`, and the same options of `vm create`."""

from __future__ import annotations

import json

import pytest
from command_line import Outlast
from memory_service import MemoryService

from outlast.model import GroupWish
from outlast.placement.snapshot import read


def test_set_and_create_know_the_same(agent: MemoryService, outlast: Outlast) -> None:
    made = outlast("vm", "create", "web", "--memory", "512MiB", "--priority", "high",
                   "--start-order", "1", "--start-delay", "20s", "--like", "b",
                   "--group", "apart:front", "--group", "together:app?")  # fmt: skip
    assert made.code == 0, made.err
    held = agent.read_vm("web")
    assert held is not None
    record = held.value
    assert (record.priority, record.start_order, record.start_delay_s) == ("high", 1, 20)
    assert record.groups == (GroupWish("front"), GroupWish("app", "together", False))
    shown = json.loads(outlast("--json", "vm", "show", "web").out)
    assert shown["groups"] == ["apart front", "together app (soft)"]
    picture = read(outlast("pool", "snapshot").out)
    assert picture.vm("web").priority.value == "high"
    assert {g.name for g in picture.groups} == {"front", "app"}
    assert (
        outlast("vm", "set", "web", "--like", "any", "--group", "none", "--prefer", "a").code == 0
    )
    held = agent.read_vm("web")
    assert held is not None
    assert (held.value.likes, held.value.groups, held.value.preferred) == ((), (), ("a",))


def test_hardware_is_wished_when_a_vm_is_made_and_its_size_later(
    agent: MemoryService, outlast: Outlast
) -> None:
    made = outlast("vm", "create", "web", "--memory", "512MiB", "--firmware", "uefi-secure",
                   "--tpm", "--watchdog", "reset", "--guest-agent", "--vcpus-max", "4",
                   "--memory-max", "2GiB", "--cpu", "passthrough",
                   "--device", "usb:046d:c52b", "--prefer", "a")  # fmt: skip
    assert made.code == 0, made.err
    assert outlast("vm", "set", "web", "--vcpus", "3", "--memory", "1GiB").code == 0
    held = agent.read_vm("web")
    assert held is not None
    spec = held.value.spec
    assert (spec.firmware, spec.watchdog, spec.agent_channel) == ("uefi-secure", "reset", True)
    assert (spec.devices, spec.vcpus, spec.memory_mib) == (("usb:046d:c52b",), 3, 1024)
    shown = " ".join(outlast("vm", "show", "web").out.split())
    assert "UEFI with Secure Boot, TPM, its host's processor, watchdog (reset), agent" in shown
    assert "up to 4 processors, up to 2048 MiB" in shown
    wrong = outlast("vm", "create", "db", "--memory", "512MiB", "--firmware", "openbios")
    assert wrong.code == 2 and "firmware" in wrong.err


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ((), "nothing to change"),
        (("--priority", "urgent"), "priority"),
        (("--group", "near:db"), "apart:db"),
        (("--group", "apart:No Name"), "groups"),
        (("--start-delay", "soon"), "span of time"),
        (("--ready", "tcp:99999"), "tcp:PORT"),
        (("--ready", "tcp:db.example:80"), "tcp:ADDRESS:PORT"),
        (("--ready", "delay:long"), "span of time"),
        (("--ready", "soon"), "no sign of readiness"),
        (("--prefer", "zeus"), "there is no host 'zeus'"),
    ],
)
def test_bad_wishes(
    agent: MemoryService, outlast: Outlast, args: tuple[str, ...], why: str
) -> None:
    outlast("vm", "create", "web", "--memory", "512MiB")
    before = agent.read_vm("web")
    said = outlast("vm", "set", "web", *args)
    assert said.code == 2
    assert why in said.err
    assert agent.read_vm("web") == before


def test_when_a_vm_is_ready_is_wished_and_shown(agent: MemoryService, outlast: Outlast) -> None:
    made = outlast("vm", "create", "db", "--memory", "512MiB", "--ready", "delay:2m")
    assert made.code == 0, made.err
    held = agent.read_vm("db")
    assert held is not None and held.value.ready == "delay:120"
    for wish in ("tcp:5432", "tcp:10.0.0.5:5432", "tcp:[fd00::5]:22"):
        assert outlast("vm", "set", "db", "--ready", wish).code == 0
        assert f"ready by {wish}" in outlast("vm", "show", "db").out
    refused = outlast("vm", "set", "db", "--ready", "agent")
    assert refused.code == 2 and "--guest-agent" in refused.err
    assert outlast("vm", "set", "db", "--ready", "runs").code == 0
    held = agent.read_vm("db")
    assert held is not None and held.value.ready == ""
