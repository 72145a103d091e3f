"""What the status says, in plain words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import TERMS, MemoryService, block

from outlast.agent.api import Api
from outlast.errors import NotFound, PoolTrouble
from outlast.model import (
    BlockState,
    Desired,
    GuardState,
    Lease,
    Order,
    OrderBook,
    View,
    VmRecord,
    VmSpec,
    VmState,
)
from outlast.pool.facts import Held, Seen
from outlast.settings import S
from outlast.wire.shapes import HostStatus, LocalVmInfo, LocalVms, VmStatus


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    return MemoryService(tmp_path, obedient=False)


def wish(service: MemoryService, name: str = "web", **more: object) -> None:
    record = VmRecord(VmSpec(name, "u", 512, 1), desired=Desired.RUNNING)
    before = service.read_vm(name)
    service.write_vm(before.version if before else 0, replace(record, **more))  # type: ignore[arg-type]


def vm(service: MemoryService, peers: dict[int, LocalVms] | None = None) -> VmStatus:
    return Api(service).status(peers or {}).vms[0]


def host(service: MemoryService, name: str) -> HostStatus:
    return next(h for h in Api(service).status({}).hosts if h.name == name)


# ---- VMs


def test_a_running_vm_says_where_and_since_when(service: MemoryService) -> None:
    wish(service)
    service.hold("web", 1)
    service.run("web")
    said = vm(service)
    assert (said.state, said.host, said.epoch) == ("running", "a", 1)
    assert said.sentence == "it runs on a"
    assert said.since_wall_s is not None


def test_a_taken_over_vm_says_why(service: MemoryService) -> None:
    wish(service)
    service.hold("web", 1, via="takeover", why="c lost it, proof: silent (unchanged for 61 s)")
    service.run("web")
    assert vm(service).sentence == (
        "it runs on a, which took it over: c lost it, proof: silent (unchanged for 61 s)"
    )


def test_a_lease_alone_is_no_running_vm(service: MemoryService) -> None:
    wish(service)
    service.hold("web", 1)
    assert (vm(service).state, vm(service).host) == ("starting", "a")
    service.hold("web", 2)
    assert vm(service).state == "unconfirmed"
    assert vm(service).sentence == "b holds its lease, but its agent does not answer now"
    there = LocalVms(host="b", ready=True, vms={"web": LocalVmInfo(state="running")})
    assert vm(service, {2: there}).state == "running"
    assert vm(service, {2: LocalVms(host="b", ready=True)}).state == "starting"
    assert "hypervisor" in vm(service, {2: LocalVms(host="b", ready=False)}).sentence


def test_held_down_and_stopped(service: MemoryService) -> None:
    wish(service, held_down="it died 6 times within 10 minutes")
    assert vm(service).state == "down"
    assert vm(service).sentence == (
        "it stays down until somebody starts it: it died 6 times within 10 minutes"
    )
    wish(service, desired=Desired.STOPPED)
    assert (vm(service).state, vm(service).sentence) == ("stopped", "it is stopped")


def test_no_room_names_what_each_host_lacks(service: MemoryService) -> None:
    wish(service, spec=VmSpec("web", "u", 99999, 1))
    said = vm(service)
    assert said.state == "waiting"
    assert "no host can take it: a has 4096 MiB free of the 99999 MiB needed" in said.sentence
    assert "b has 2000 MiB free" in said.sentence
    wish(service, preferred=("b",))
    service.seen[2] = Seen(block(2, agent_away_ms=9000), S)
    assert "b is closed: its agent is away" in vm(service).sentence


def test_a_failed_start_is_told(service: MemoryService) -> None:
    wish(service)
    service.leases["web"] = Held(
        4, replace(_free("web"), via="failed", failed_slot=3, why="no such bridge br7"), 0
    )
    assert vm(service).sentence.startswith("it did not start on c: no such bridge br7; a host is")


def _free(name: str) -> Lease:
    return Lease(name)


def test_an_order_under_way(service: MemoryService) -> None:
    wish(service)
    order = Order("start", "web", 1, 0, "it is wanted and runs nowhere")
    service.books[3] = Held(1, OrderBook(3, 7, 1, TERMS[1], (order,)), 0)
    assert vm(service).state == "starting"
    assert vm(service).sentence == "c was told to start it: it is wanted and runs nowhere"
    service.books[3] = Held(2, OrderBook(3, 6, 1, TERMS[1], (order,)), 0)  # of an older view
    assert vm(service).state == "waiting"


def test_a_silent_holder_is_waited_for_with_numbers(service: MemoryService) -> None:
    wish(service)
    service.hold("web", 3)
    service.slots[3] = replace(service.slots[3], api="10.0.0.3:7791")
    assert set(Api(service).holders()) == {3}
    service.seen[3] = Seen(block(3), 20 * S)
    assert not Api(service).holders(), "asking a silent host only costs time"
    said = vm(service)
    assert said.state == "waiting"
    assert said.sentence.startswith(
        "its holder c is silent for 20.0 s; it counts as dead after 60 s, 40.0 s from now"
    )
    service.seen[3] = Seen(block(3), 61 * S)
    assert "c lost it (block 9 unchanged for 61.0 s, limit 60 s" in vm(service).sentence


def test_a_holder_that_left_is_waited_for(service: MemoryService) -> None:
    wish(service)
    service.hold("web", 3)
    assert service.view is not None
    members = {n: m for n, m in service.view.members.items() if n != 3}
    service.view = View(8, members, 1, "exclude", "c is cut off", 1)
    assert "no member any more" in vm(service).sentence


def test_stopping(service: MemoryService) -> None:
    wish(service, desired=Desired.STOPPED)
    service.hold("web", 1)
    service.run("web")
    assert (vm(service).state, vm(service).sentence) == (
        "stopping", "a is stopping it by asking the system inside it",
    )  # fmt: skip
    service.leases.clear()
    assert "without a lease" in vm(service).sentence


def test_paused(service: MemoryService) -> None:
    wish(service)
    service.hold("web", 1)
    service.run("web", VmState.PAUSED)
    assert vm(service).state == "paused"


def test_deleted_vms_are_not_shown(service: MemoryService) -> None:
    wish(service, desired=Desired.STOPPED, deleted=True)
    assert Api(service).status({}).vms == []
    with pytest.raises(NotFound):
        Api(service).vm("web", {})


def test_a_detail_has_its_own_notes(service: MemoryService) -> None:
    wish(service)
    for i, name in enumerate(["web", "db", "web"]):
        service.notes.append(
            {"wall_s": 2e9 + i, "host": "a", "code": "vm-runs", "sentence": f"{name} {i}",
             "fields": {"vm": name}}
        )  # fmt: skip
    service.notes.append({"wall_s": "torn"} | {"wall_s": 2e9 + 9})
    assert [n.sentence for n in Api(service).vm("web", {}, 5).recent] == ["web 0", "web 2"]
    assert [n.sentence for n in Api(service).vm("web", {}, 1).recent] == ["web 2"]


# ---- hosts


def test_members(service: MemoryService) -> None:
    assert [h.name for h in Api(service).status({}).hosts] == ["a", "b", "c"]
    a, b = host(service, "a"), host(service, "b")
    assert (a.state, a.answering, a.master, a.guard) == ("member", True, True, "open")
    assert a.deadline_ms is not None and 38_000 < a.deadline_ms <= 39_000
    assert a.beat_age_ms is not None and 1000 <= a.beat_age_ms < 2000
    assert (b.state, b.hears, b.unheard, b.free_mib) == ("member", ["a", "c"], [], 2000)
    assert b.beat_age_ms is not None and 1000 <= b.beat_age_ms < 2000


@pytest.mark.parametrize(
    ("seen", "state", "words"),
    [
        (Seen(block(3), 20 * S), "silent", "c is silent for 20.0 s; it counts as dead after 60 s"),
        (Seen(block(3), 90 * S), "silent", "longer than the limit of 60 s"),
        (Seen(block(3, BlockState.CLOSED), 900 * S), "closed", "ended its term in order"),
        (Seen(block(3, BlockState.JOINING), S), "joining", "waits until a member"),
        (Seen(block(3, term="d" * 32), S), "closing", "was excluded"),
        (Seen(None, 0), "unreadable", "proves nothing"),
        (None, "absent", "has not been seen"),
        (Seen(block(3, agent_away_ms=9500), S), "member", "its agent is away for 9.5 s"),
    ],
)
def test_another_host(service: MemoryService, seen: Seen | None, state: str, words: str) -> None:
    if seen is None:
        del service.seen[3]
    else:
        service.seen[3] = seen
    c = host(service, "c")
    assert c.state == state
    assert words in c.sentence


def test_a_host_that_only_the_storage_reaches(service: MemoryService) -> None:
    service.links[2] = 60 * S
    b = host(service, "b")
    assert b.state == "unreachable"
    assert host(service, "a").unheard == ["b"]


def test_this_host_closing_and_joining(service: MemoryService) -> None:
    service.guard = replace(service.guard, state=GuardState.CLOSING)
    assert host(service, "a").state == "closing"
    service.guard = replace(service.guard, state=GuardState.CLOSED)
    assert host(service, "a").state == "closed"
    assert host(service, "a").deadline_ms is None


def test_an_agent_that_knows_nothing_says_so(service: MemoryService) -> None:
    service.trouble = "the pulse of this host has not been heard yet"
    status = Api(service).status({})
    assert status.trouble == service.trouble
    assert status.hosts == [] and status.vms == []
    with pytest.raises(PoolTrouble, match="pulse"):
        Api(service).vms({})


@pytest.mark.parametrize(("wanted", "state"), [(False, "stopped"), (True, "waiting")])
def test_work_on_its_disks_is_told(tmp_path: Path, wanted: bool, state: str) -> None:
    service = MemoryService(tmp_path, obedient=False)
    desired = Desired.RUNNING if wanted else Desired.STOPPED
    assert service.write_vm(0, VmRecord(VmSpec("web", "u", 64, 1), desired)).ok
    service.hold("web", 1, via="disks", why="a backup")
    (vm,) = Api(service).vms({})
    assert (vm.state, vm.host) == (state, "a")
    assert vm.sentence.startswith("a works on its disks (a backup)")
