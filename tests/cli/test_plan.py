"""`outlast plan` on a file without any service; snapshots and what-if from an agent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bench.skewed import skewed
from command_line import Outlast
from memory_service import MemoryService

from outlast.cli.plan import vm_of
from outlast.errors import InvalidInput
from outlast.placement.picture import Group, GroupKind, Host, HostState, Picture, Policy, Vm
from outlast.placement.snapshot import read, write

TIGHT = str(Path(__file__).parent.parent / "placement/reported/tight.json")


@pytest.fixture
def alone(outlast: Outlast, monkeypatch: pytest.MonkeyPatch) -> Outlast:
    """The command line where no agent can be reached."""
    monkeypatch.setenv("OUTLAST_AGENT", "unix:/nonexistent/agent.sock")
    return outlast


def test_a_failure_is_told_without_a_service(alone: Outlast) -> None:
    said = alone("plan", "--from", TIGHT, "--fail", "b")
    assert said.code == 0
    assert said.out.startswith("if b dies: ")
    assert "db7 does not fit because" in said.out
    told = alone("--json", "plan", "--from", TIGHT, "--fail", "b,c").json
    assert (told["hosts"], told["survived"]) == (["b", "c"], False)


def test_plans_are_told_with_their_cost(alone: Outlast) -> None:
    moves = alone("--json", "plan", "--from", TIGHT, "--balance", "--at-once", "2").json
    assert [m for wave in moves["waves"] for m in wave] == [m["vm"] for m in moves["moves"]]
    assert moves["after"] < moves["before"]
    emptied = alone("plan", "--from", TIGHT, "--evacuate", "c")
    assert emptied.code == 0
    assert "GiB to copy" in emptied.out
    assert alone("plan", "--from", TIGHT, "--consolidate").code == 0
    assert "survives the failure of" in alone("plan", "--from", TIGHT).out


def test_a_thorough_plan_is_evener(alone: Outlast, tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text(write(skewed(6, 50, 0.9, seed=5)))
    balanced = ("--json", "plan", "--from", str(file), "--balance")
    assert alone(*balanced, "--thorough").json["after"] <= 0.02 < alone(*balanced).json["after"]
    refused = alone("plan", "--from", str(file), "--thorough")
    assert "--thorough belongs to --balance" in refused.err
    assert refused.code == 2


def test_soft_groups_are_pulled_apart_only_when_asked(alone: Outlast, tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    vms = (Vm("x", 8, 1, "a"), Vm("y", 8, 1, "a"), Vm("z", 16, 2, "b"))
    soft = (Group("web", GroupKind.APART, ("x", "y"), hard=False),)
    policy = Policy(moved_share_max=1, deviation_goal=1)
    file.write_text(write(Picture((Host("a", 64, 8), Host("b", 64, 8)), vms, soft, policy)))
    spread = alone("--json", "plan", "--from", str(file), "--spread").json
    assert [(m["vm"], m["target"]) for m in spread["moves"]] == [("x", "b")]
    assert "group web keeps it apart" in spread["moves"][0]["why"]
    assert alone("--json", "plan", "--from", str(file), "--balance").json["moves"] == []


def test_a_vm_is_placed_with_reasons_or_refused_with_them(alone: Outlast) -> None:
    said = alone("plan", "--from", TIGHT, "--place", "memory=8GiB,vcpus=2,priority=high")
    assert said.code == 0
    assert said.out.startswith("new goes to c: c has the most left: ")
    assert "d is closed: new memory arrives" in said.out
    refused = alone("plan", "--from", TIGHT, "--place", "memory=1TiB")
    assert (refused.code, refused.out) == (7, "")
    assert "MiB free of the 1048576 MiB needed" in refused.err


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["--from", "/nonexistent", "--balance"], 3, "/nonexistent cannot be read"),
        (["--from", TIGHT, "--fail", "z"], 3, "there is no host z"),
        (["--from", TIGHT, "--fail", ","], 2, "no host is named"),
        (["--from", TIGHT, "--balance", "--fail", "b"], 2, "one question at a time"),
        (["--from", TIGHT, "--place", "memory"], 2, "is not NAME=VALUE"),
        (["--from", TIGHT, "--place", "vcpus=2"], 2, "--place.memory_mib: it is missing"),
        (["--from", TIGHT, "--place", "memory=1GiB,colour=red"], 2, "--place.colour"),
        (["--from", TIGHT, "--place", "memory=1GiB,preferred=z"], 2, "there is no host z"),
        (["--from", TIGHT, "--balance", "--at-once", "0"], 2, "moves nothing"),
        (["--from", "/dev/null"], 2, "the snapshot is not whole"),
    ],
)
def test_what_cannot_be_answered_says_why(
    alone: Outlast, given: list[str], code: int, said: str
) -> None:
    found = alone("plan", *given)
    assert (found.code, found.out) == (code, "")
    assert said in found.err


def test_the_picture_of_an_agent_is_one_that_can_be_read(
    outlast: Outlast, agent: MemoryService
) -> None:
    outlast("vm", "create", "web", "--memory", "512MiB", "--disk", "1M", "--start")
    said = outlast("pool", "snapshot")
    assert said.code == 0, said.err
    picture = read(said.out)
    assert picture.vm("web").memory_mib == 512
    assert outlast("pool", "what-if", "--fail", picture.hosts[0].name).code == 0
    said = outlast("pool", "what-if", "--any", "1")
    assert said.code == 0 and "any 1 host may fail" in said.out
    for wrong in ((), ("--any", "1", "--fail", "a"), ("--any", "99")):
        assert outlast("pool", "what-if", *wrong).code == 2


def test_a_strict_list_of_hosts_that_are_gone_is_no_free_choice(
    agent: MemoryService, outlast: Outlast
) -> None:
    outlast("vm", "create", "web", "--memory", "512MiB", "--start", "--no-wait")
    held = agent.read_vm("web")
    assert held is not None
    agent.write_vm(held.version, replace(held.value, preferred=("gone",)))
    picture = read(outlast("pool", "snapshot").out)
    assert picture.host("gone").state is HostState.DOWN
    assert outlast("pool", "what-if", "--fail", "a").code == 0


def test_a_vm_in_short() -> None:
    vm = vm_of("memory=1GiB,vcpus=4,networks=br0+br1,preferred=a,strict=no,name=db")
    assert (vm.name, vm.memory_mib, vm.vcpus, vm.networks) == ("db", 1024, 4, ("br0", "br1"))
    assert not vm.strict
    with pytest.raises(InvalidInput):
        vm_of("memory=8,vcpus=1")
