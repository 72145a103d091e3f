"""Moving VMs and maintaining hosts through the API: what is wished, refused, shown, let in."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import TERMS, MemoryService

from outlast.agent import arrivals
from outlast.agent.api import Api
from outlast.agent.arrivals import admit
from outlast.agent.farewell import Farewell
from outlast.agent.host_wishes import HostWishes
from outlast.agent.wishes import Wishes
from outlast.errors import Conflict, InvalidInput, NotFound, Refused
from outlast.hypervisor.mover import Progress
from outlast.model import BlockState, GuardState, Handover, LocalVm, Move, VmState
from outlast.wire.shapes import BadField, VmCreate, make

WAY = Handover("1" * 16, 2, 1, TERMS[1])


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    (tmp_path / "images").mkdir()
    made = MemoryService(tmp_path, obedient=False)
    wishes = Wishes(made)
    wishes.create(make(VmCreate, name="web", memory="512MiB"))
    wishes.start("web")
    made.hold("web", 1)
    made.run("web")
    return made


@pytest.fixture
def wishes(service: MemoryService) -> Wishes:
    return Wishes(service)


def record(service: MemoryService) -> Move | None:
    held = service.read_vm("web")
    assert held is not None
    return held.value.move


def test_a_wish_to_move_stands_in_the_record(wishes: Wishes, service: MemoryService) -> None:
    said = wishes.migrate("web", "b")
    assert (said.changed, said.sentence) == (True, "web shall move to b")
    wish = record(service)
    assert wish is not None
    assert (wish.to, wish.failed, len(wish.id)) == ("b", "", 16)
    status = Api(service).vm("web", {})
    assert status.move is not None
    assert status.sentence == "it runs on a and shall move to b"
    with pytest.raises(Conflict, match="shall move to b already"):
        wishes.migrate("web", "c")
    assert wishes.stay("web").changed
    assert record(service) is None


def test_how_far_a_move_is(service: MemoryService, wishes: Wishes) -> None:
    wishes.migrate("web", "b")
    wish = record(service)
    assert wish is not None
    service.hold("web", 1, move=Handover(wish.id, 1, 2, TERMS[2]))
    service.progress = {"web": Progress(3 << 20, 1 << 20, 4 << 20, 2 << 20, 1 << 20, 12)}
    api = Api(service)
    status = api.vm("web", {api.slot: api.local()})
    assert status.move is not None
    assert status.move.under_way
    assert status.move.to == "b"
    assert status.move.progress is not None
    assert status.move.progress.left_bytes == 1 << 20
    assert status.sentence == "it runs on a and is moving to b"


def test_a_move_that_failed_may_be_wished_again(service: MemoryService, wishes: Wishes) -> None:
    held = service.read_vm("web")
    assert held is not None
    failed = replace(held.value, move=Move("2" * 16, "b", "", "", "no room"))
    service.write_vm(held.version, failed)
    assert "it did not move to b: no room" in Api(service).vm("web", {}).sentence
    wishes.migrate("web", "c")
    wish = record(service)
    assert wish is not None
    assert wish.to == "c"


@pytest.mark.parametrize(
    ("to", "error", "words"),
    [
        ("a", Conflict, "is on a already"),
        ("x", BadField, "no host 'x'"),
        ("../b", InvalidInput, "host name"),
    ],
)
def test_targets_that_are_none(
    wishes: Wishes, service: MemoryService, to: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        wishes.migrate("web", to)
    assert record(service) is None


def test_what_does_not_run_does_not_move(wishes: Wishes, service: MemoryService) -> None:
    wishes.create(make(VmCreate, name="db", memory="512MiB"))
    with pytest.raises(Conflict, match="'db' does not run"):
        wishes.migrate("db", "b")
    with pytest.raises(NotFound):
        wishes.migrate("nothing", "b")
    held = service.read_vm("web")
    assert held is not None
    service.write_vm(held.version, replace(held.value, preferred=("a", "c")))
    with pytest.raises(Conflict, match="preferred"):
        wishes.migrate("web", "b")


def test_what_has_just_left_is_waited_for(service: MemoryService) -> None:
    service.hold("web", 2, move=WAY)
    threading.Timer(0.3, service.local.clear).start()
    admit(service, "web", WAY.id, "b")
    assert service.admitted == ["web"]


def test_a_copy_comes_only_for_its_lease(
    service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.local.clear()
    service.hold("web", 2, move=WAY)
    admit(service, "web", WAY.id, "b")
    assert service.admitted == ["web"]
    for vm, id_, caller, error, words in (
        ("web", WAY.id, "c", Refused, "does not hold its lease"),
        ("web", WAY.id, "", Refused, "does not hold its lease"),
        ("web", "3" * 16, "b", Conflict, "names no such move"),
        ("db", WAY.id, "b", Conflict, "has no lease"),
        ("..", WAY.id, "b", InvalidInput, "VM name"),
    ):
        with pytest.raises(error, match=words):
            admit(service, vm, id_, caller)
    service.hold("web", 2, move=replace(WAY, to_term="d" * 32))
    with pytest.raises(Conflict, match="an earlier term"):
        admit(service, "web", WAY.id, "b")
    service.hold("web", 2, move=WAY)
    service.local["web"] = LocalVm("web", VmState.PAUSED)
    monkeypatch.setattr(arrivals, "REST_S", 0.1)
    with pytest.raises(Conflict, match="here already"):
        admit(service, "web", WAY.id, "b")
    assert service.admitted == ["web"]


# ---- hosts


def test_maintenance_and_back(service: MemoryService) -> None:
    hosts = HostWishes(service)
    assert hosts.maintain("b", "new memory").changed
    assert service.slots[2].maintenance == "new memory"
    (shown,) = [h for h in Api(service).status({}).hosts if h.name == "b"]
    assert shown.maintenance == "new memory"
    assert not hosts.maintain("b", "new memory").changed
    held = service.read_vm("web")
    assert held is not None
    service.write_vm(held.version, replace(held.value, away_from="b"))
    said = hosts.serve("b", bring_back=True)
    assert said.sentence == "b is in service; web shall move back"
    wish = record(service)
    assert wish is not None
    assert wish.to == "b"
    assert service.slots[2].maintenance == ""


def test_wishes_about_hosts_that_are_refused(service: MemoryService) -> None:
    hosts = HostWishes(service)
    with pytest.raises(NotFound, match="no host 'x'"):
        hosts.maintain("x", "")
    with pytest.raises(BadField, match="one line"):
        hosts.maintain("b", "two\nlines")
    service.view = replace(service.view, members={}) if service.view else None
    with pytest.raises(Conflict, match="no member"):
        hosts.power_off("b")


def test_a_power_off_names_one_boot(service: MemoryService) -> None:
    HostWishes(service).power_off("a")
    assert service.slots[1].power_off == "boot-of-a"
    HostWishes(service).power_off("b")
    assert service.slots[2].power_off == "x"  # of its block


def test_the_farewell_waits_for_moves_and_for_the_end(service: MemoryService) -> None:
    done: list[str] = []
    farewell = Farewell("boot-of-a", lambda: done.append("leave"), lambda: done.append("off"))
    facts = service.facts(0)
    assert farewell.step(facts) == []
    HostWishes(service).power_off("a")
    Wishes(service).migrate("web", "b")
    assert farewell.step(service.facts(0)) == []
    assert done == [], "it waits for the move"
    Wishes(service).stay("web")
    (said,) = farewell.step(service.facts(0))
    assert said.code == "host-leaves"
    farewell.step(service.facts(0))
    assert done == ["leave"], "its guard is still open"
    ended = replace(service.guard, state=GuardState.CLOSED, remaining_ns=-1)
    closed = replace(service.facts(0), guard=ended, block_state=BlockState.CLOSED)
    for _ in range(3):
        farewell.step(closed)
    assert done == ["leave"], "its block does not say so yet"
    later = replace(closed, sample=replace(closed.sample, seq=closed.sample.seq + 2))
    farewell.step(replace(later, sample=replace(later.sample, good=False)))
    assert done == ["leave"]
    for _ in range(2):
        farewell.step(later)
    assert done == ["leave", "off"]


def test_a_power_off_of_an_earlier_boot_says_nothing(service: MemoryService) -> None:
    service.slots[1] = replace(service.slots[1], power_off="an earlier boot")
    farewell = Farewell("boot-of-a", lambda: 1 / 0, lambda: None)
    assert farewell.step(service.facts(0)) == []
