"""Fire drills: refused in time, begun by their host, over by themselves, judged by the notes.

What a drill does to its host is tested with the pulse, the simulator and the rack.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from memory_service import MemoryService, block

from outlast.agent.api import Api
from outlast.agent.drilling import APPOINTMENT, BEGIN_S
from outlast.errors import Conflict, InvalidInput, NotFound
from outlast.pool.facts import Seen
from outlast.settings import S
from outlast.storage.drills import DrillRecord
from outlast.wire.shapes import VmCreate, make

NOON = datetime(2026, 11, 29, 12, 0)  # a Sunday


@pytest.fixture
def a(tmp_path: Path) -> MemoryService:
    """Host a, the master of three; web runs on b, db on c."""
    service = MemoryService(tmp_path)
    service.slots = {n: replace(r, cores=8, memory_mib=8192) for n, r in service.slots.items()}
    service.seen = {n: Seen(block(n, free_mib=8000, free_vcpus=8), S) for n in (2, 3)}
    for vm, slot in (("web", 2), ("db", 3)):
        service.home = slot
        wishes = Api(service).wishes
        wishes.create(make(VmCreate, name=vm, memory=128 << 20))
        wishes.start(vm)
    return service


def as_host(a: MemoryService, slot: int) -> MemoryService:
    """The same pool, seen by another host."""
    other = MemoryService(a._pool_dir, slot=slot)
    other.register, other.leases, other.slots = a.register, a.leases, a.slots
    other.drill = a.drill
    for name, held in a.leases.items():
        if held.value.slot == slot:
            other.run(name)
    return other


def begun(
    a: MemoryService, kind: str, host: str = "b", vm: str = ""
) -> tuple[DrillRecord, MemoryService]:
    """A drill that was wished on a and has begun on its host."""
    made = a.drills.wish(host, kind, vm, "anna")
    other = as_host(a, made.slot)
    other.drills.step(NOON)
    a.drill = other.drill
    return made, other


def notes(a: MemoryService, *told: tuple[float, str, str, dict[str, object]]) -> None:
    """Notes, so many seconds after the drill began."""
    assert a.drill is not None
    begun_s = a.drill.value.begun_s
    a.notes += [
        {"id": f"n{n}", "wall_s": begun_s + at, "host": host, "code": code, "sentence": code,
         "fields": fields}
        for n, (at, host, code, fields) in enumerate(told)
    ]  # fmt: skip


def judged(a: MemoryService) -> DrillRecord:
    assert a.drill is not None
    a.drills.step(NOON)
    a.clock_s += a.drill.value.for_s + 6
    a.drills.step(NOON)
    return a.drill.value


def test_a_drill_from_the_wish_to_its_report(a: MemoryService) -> None:
    wished, b = begun(a, "network")
    assert [(one.vm, one.host) for one in wished.foreseen] == [("web", "a")]
    assert b.muted == [("network", wished.for_s)]
    assert wished.for_s >= wished.latest_s > wished.earliest_s > 60
    assert [n.code for n in b.told] == ["drill-begins"]
    assert "web on a" in b.told[0].sentence
    notes(
        a, (75.0, "a", "order-given", {"vm": "web"}), (76.0, "a", "vm-starts", {"vm": "web"}),
        (77.0, "a", "vm-runs", {"vm": "web", "host": "a"}),
        (79.0, "a", "vm-alive", {"vm": "web", "host": "a", "sign": "its guest agent answers"}),
    )  # fmt: skip
    a.drills.step(NOON)
    assert a.drill is not None
    assert a.drill.value.open, "it is judged when it is over"
    ended = judged(a)
    assert (ended.state, ended.matched) == ("ended", True), ended.report
    assert "web runs on a after 77.0 s" in ended.report[0]
    assert ended.report[0].endswith("first sign of life after 79.0 s (its guest agent answers)")
    assert a.told[-1].code == "drill-ended"
    assert "as foreseen" in a.told[-1].sentence


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ((), "web did not run again"),
        (((80.0, "vm-runs", {"vm": "web", "host": "c"}),), "web runs on c"),
        (((300.0, "vm-runs", {"vm": "web", "host": "a"}),), "after 300.0 s"),
        (((70.0, "vm-killed", {"vm": "db"}),), "it was not to touch db"),
        (
            ((80.0, "vm-runs", {"vm": "web", "host": "a"}),
             (90.0, "vm-runs", {"vm": "web", "host": "a"})),
            "started 2 times",
        ),
    ],
)  # fmt: skip
def test_what_went_otherwise_is_told(
    a: MemoryService, told: tuple[tuple[float, str, dict[str, object]], ...], said: str
) -> None:
    begun(a, "network")
    notes(a, *((at, "a", code, fields) for at, code, fields in told))
    ended = judged(a)
    assert not ended.matched
    assert any(line.startswith("NOT as foreseen") and said in line for line in ended.report)
    assert "otherwise than foreseen" in a.told[-1].sentence


def test_agents_and_single_vms(a: MemoryService) -> None:
    made, b = begun(a, "agent")
    assert b.muted == [("agent", 0)]
    notes(a, (3.0, "b", "agent-started", {"host": "b"}))
    assert judged(a).matched
    assert made.foreseen == ()
    a.notes.clear()
    made, b = begun(a, "vm", "", "web")
    assert b.muted == [("vm web", 0)]
    notes(
        a,
        (0.1, "b", "vm-crashed", {"vm": "web"}),
        (1.0, "b", "vm-runs", {"vm": "web", "host": "b"}),
    )
    assert judged(a).matched


def test_the_pool_has_to_be_whole(a: MemoryService) -> None:
    a.slots[3] = replace(a.slots[3], maintenance="new memory")
    a.seen[2] = Seen(block(2, agent_away_ms=5000), S)
    with pytest.raises(Conflict) as refused:
        a.drills.wish("b", "network", "", "anna")
    for said in ("c is in maintenance", "its agent is away"):
        assert said in refused.value.sentence
    assert a.drill is None


def test_a_vm_that_would_stay_off_is_in_the_way(a: MemoryService) -> None:
    a.home = 2
    Api(a).wishes.create(make(VmCreate, name="pet", memory=128 << 20, ha=False))
    Api(a).wishes.start("pet")
    with pytest.raises(Conflict, match="pet would stay off"):
        a.drills.wish("b", "power", "", "anna")


def test_a_canary_takes_nobody_along(a: MemoryService) -> None:
    a.home = 2
    Api(a).wishes.create(make(VmCreate, name="mail", memory=128 << 20))
    Api(a).wishes.start("mail")
    with pytest.raises(Conflict, match="more than its canary web: mail"):
        a.drills.wish("", "storage", "web", "anna")
    assert a.drills.wish("", "vm", "web", "anna").host == "b"


def test_one_at_a_time_and_of_what_is_there(a: MemoryService) -> None:
    with pytest.raises(NotFound):
        a.drills.newest()
    with pytest.raises(NotFound):
        a.drills.wish("", "vm", "nobody", "anna")
    with pytest.raises(InvalidInput):
        a.drills.wish("b", "vm", "db", "anna")
    begun(a, "network")
    with pytest.raises(Conflict, match="under way"):
        a.drills.wish("c", "network", "", "anna")


def test_a_host_that_does_not_begin_cannot_begin_later(a: MemoryService) -> None:
    a.drills.wish("b", "network", "", "anna")
    late = as_host(a, 2)
    a.drills.step(NOON)
    a.clock_s += BEGIN_S + 1
    a.drills.step(NOON)
    assert a.drill is not None
    assert a.drill.value.state == "refused"
    assert a.told[-1].code == "drill-refused"
    late._swap_drill = a._swap_drill  # type: ignore[method-assign]
    late.drills._swap = a._swap_drill
    with pytest.raises(Conflict):
        late.drills.step(NOON)
    assert late.muted == []


def test_its_host_looks_again(a: MemoryService) -> None:
    a.drills.wish("b", "power", "", "anna")
    b = as_host(a, 2)
    b.reset = "none"
    b.drills.step(NOON)
    assert b.muted == []
    assert "nothing can reset b" in b.told[0].sentence
    b = as_host(a, 2)
    assert b.view is not None
    b.view = replace(b.view, version=8)
    b.drills.step(NOON)
    assert b.muted == []
    assert "the pool has changed" in b.told[0].sentence
    b = as_host(a, 2)
    b.slots = {**b.slots, 3: replace(b.slots[3], maintenance="since the wish")}
    b.drills.step(NOON)
    assert b.muted == []
    assert "c is in maintenance" in b.told[0].sentence


def test_only_the_master_judges_and_keeps_appointments(a: MemoryService) -> None:
    begun(a, "network")
    c = as_host(a, 3)
    c.drills.step(NOON)
    c.clock_s += 1000
    c.drills.step(NOON)
    assert c.drill is not None
    assert c.drill.value.state == "begun"


def test_appointments_are_kept_once(a: MemoryService) -> None:
    a.settings = replace(a.settings, drill_vm="web", drill_kind="vm", drill_at="sun 12:00")
    a.drills.step(datetime(2026, 11, 29, 11, 59))
    assert a.drill is None
    a.drills.step(datetime(2026, 11, 29, 12, 1))
    assert a.drill is not None
    made = a.drill.value
    assert (made.host, made.kind, made.by) == ("b", "vm", APPOINTMENT)
    other = as_host(a, 2)
    other.drills.step(NOON)
    a.drill = other.drill
    judged(a)
    told = len(a.told)
    a.drills.step(datetime(2026, 11, 29, 12, 5))
    assert a.drill.value.id == made.id
    assert len(a.told) == told


def test_an_appointment_that_is_hindered_says_why_once(a: MemoryService) -> None:
    a.settings = replace(a.settings, drill_vm="web", drill_kind="vm", drill_at="daily 12:00")
    a.slots[3] = replace(a.slots[3], maintenance="new memory")
    for minute in (1, 2, 3):
        a.drills.step(datetime(2026, 11, 29, 12, minute))
    refused = [n for n in a.told if n.code == "drill-refused"]
    assert len(refused) == 1
    assert "c is in maintenance" in refused[0].sentence
    assert "of b does not take place" in refused[0].sentence
    a.slots[3] = replace(a.slots[3], maintenance="")
    a.drills.step(datetime(2026, 11, 30, 12, 1))
    assert a.drill is not None
    assert a.drill.value.state == "wished"
