"""The pool evens itself out: when it may, how much of it, and when it must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import TERMS, MemoryService

from outlast.agent.balancer import HOUR_S, REST_S, Balancer, Pace, unquiet
from outlast.agent.wishes import Wishes
from outlast.model import Lease
from outlast.placement.plan import Move
from outlast.pool.facts import Held, Seen
from outlast.settings import S
from outlast.wire.shapes import VmCreate, make

MIB = 8192


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    """Eight VMs of 512 MiB on host a, b and c are empty, and the pool may even itself out."""
    (tmp_path / "images").mkdir()
    made = MemoryService(tmp_path, obedient=False)
    made.settings = replace(made.settings, balance="auto")
    made.slots = {n: replace(r, memory_mib=MIB, cores=8) for n, r in made.slots.items()}
    for n in (2, 3):
        seen = made.seen[n]
        assert seen.block is not None
        made.seen[n] = Seen(replace(seen.block, free_mib=MIB, free_vcpus=64), S)
    wishes = Wishes(made)
    for n in range(8):
        wishes.create(make(VmCreate, name=f"vm{n}", memory="512MiB"))
        wishes.start(f"vm{n}")
        made.leases[f"vm{n}"] = Held(1, Lease(f"vm{n}", 1, TERMS[1], "start", 1), 0)
    return made


def balancer(service: MemoryService) -> Balancer:
    def look() -> object:
        return service.facts(0), service.settings

    return Balancer(look, Wishes(service).migrate, service.told.append)  # type: ignore[arg-type]


def test_it_moves_one_wave_and_then_waits_for_it(service: MemoryService) -> None:
    ours = balancer(service)
    made = ours.step(0)
    assert 0 < len(made) <= service.settings.moves_at_once
    for move in made:
        held = service.read_vm(move.vm)
        assert held is not None and held.value.move is not None
        assert held.value.move.to in {"b", "c"}
        assert held.value.move.why.startswith("it evens out the pool")
    (said,) = service.told
    assert said.code == "balancing" and made[0].vm in said.sentence
    assert ours.step(60) == [], "it waits until they have moved"


def test_it_is_off_unless_somebody_wished_it(service: MemoryService) -> None:
    service.settings = replace(service.settings, balance="off")
    assert balancer(service).step(0) == []


def test_an_even_pool_is_left_alone(service: MemoryService) -> None:
    for n in range(8):
        slot = 1 if n < 2 else 2 + n % 2
        service.leases[f"vm{n}"] = Held(1, Lease(f"vm{n}", slot, TERMS[slot], "start", 1), 0)
    assert balancer(service).step(0) == []


def _silent(service: MemoryService) -> None:
    service.seen[2] = replace(service.seen[2], still_ns=20 * S)


def _agent_away(service: MemoryService) -> None:
    seen = service.seen[2]
    assert seen.block is not None
    service.seen[2] = replace(seen, block=replace(seen.block, agent_away_ms=5000))


def _not_master(service: MemoryService) -> None:
    assert service.view is not None
    service.view = replace(service.view, master=2)


def _out(service: MemoryService) -> None:
    assert service.view is not None
    members = {slot: m for slot, m in service.view.members.items() if slot != 3}
    service.view = replace(service.view, members=members)


def _maintained(service: MemoryService) -> None:
    service.slots[3] = replace(service.slots[3], maintenance="new memory")


def _not_started(service: MemoryService) -> None:
    del service.leases["vm3"]


def _moving(service: MemoryService) -> None:
    Wishes(service).migrate("vm3", "b")


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (_silent, "b does not write"),
        (_agent_away, "the agent of b is away"),
        (_not_master, "not the master"),
        (_out, "c is no member"),
        (_maintained, "c is in maintenance"),
        (_not_started, "vm3 is not started"),
        (_moving, "vm3 shall move"),
    ],
)
def test_a_pool_that_is_not_quiet_is_left_alone(
    service: MemoryService, harm: Callable[[MemoryService], None], why: str
) -> None:
    assert unquiet(service.facts(0), service.settings) == ""
    harm(service)
    assert why in unquiet(service.facts(0), service.settings)
    assert balancer(service).step(0) == []


def _move(vm: str) -> Move:
    return Move(vm, "a", "b", 512, "")


def test_so_many_moves_an_hour_and_no_vm_twice_in_a_while() -> None:
    pace = Pace()
    for n in range(3):
        pace.made(100.0 * n, f"vm{n}")
    wave = [_move("vm7"), _move("vm8"), _move("vm9")]
    assert pace.choose(300, wave, 5) == wave[:2]
    assert pace.choose(300, wave, 3) == []
    assert pace.choose(100 + HOUR_S, wave, 3) == wave[:1]
    resting = [_move("vm2"), _move("vm9")]
    assert pace.choose(200 + REST_S, resting, 9) == [], "later moves may need its room"
    assert pace.choose(201 + REST_S, resting, 9) == resting
