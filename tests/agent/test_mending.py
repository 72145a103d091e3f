"""VMs that a disk error paused go on when the storage answers again, and no others do."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from memory_service import TERMS, MemoryService

from outlast.agent.mending import RETRY_MAX_NS, Mending
from outlast.hypervisor.driver import DISK_ERROR, MIGRATION
from outlast.model import GuardState, Handover, Lease, LocalVm, VmState
from outlast.pool.facts import Facts, Held
from outlast.settings import S


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    """Host a holds the lease of `web`, which a disk error has paused."""
    service = MemoryService(tmp_path)
    service.leases["web"] = Held(3, Lease("web", 1, TERMS[1], "start"), 0)
    service.local["web"] = LocalVm("web", VmState.PAUSED, DISK_ERROR)
    found = service.picture.facts
    assert found is not None
    return found


def test_it_goes_on(facts: Facts) -> None:
    assert Mending().step(S, facts) == ["web"]


def test_not_while_the_beats_are_not_confirmed(facts: Facts) -> None:
    assert Mending().step(S, replace(facts, sample=replace(facts.sample, good=False))) == []


@pytest.mark.parametrize("state", [s for s in GuardState if s is not GuardState.OPEN])
def test_not_under_a_guard_that_is_not_open(facts: Facts, state: GuardState) -> None:
    assert Mending().step(S, replace(facts, guard=replace(facts.guard, state=state))) == []


def test_what_somebody_paused_stays_paused(facts: Facts) -> None:
    for vm in (
        LocalVm("web", VmState.PAUSED, "paused through libvirt"),
        LocalVm("web", VmState.RUNNING, ""),
    ):
        assert Mending().step(S, replace(facts, local={"web": vm})) == []


def test_what_a_move_stopped_goes_on_when_the_move_is_over(facts: Facts) -> None:
    stopped = LocalVm("web", VmState.PAUSED, MIGRATION)
    facts = replace(facts, local={"web": stopped})
    assert Mending().step(S, facts) == ["web"]
    assert Mending().step(S, replace(facts, busy=frozenset({("move", "web")}))) == []
    move = Handover("1" * 16, 1, 2, TERMS[2])
    lease = replace(facts.leases["web"].value, move=move)
    assert Mending().step(S, replace(facts, leases={"web": Held(4, lease, 0)})) == []
    copy = replace(stopped, incoming="1" * 16)
    assert Mending().step(S, replace(facts, local={"web": copy})) == []


def test_a_vm_of_another_term_or_host_is_left_alone(facts: Facts) -> None:
    for lease in (Lease("web", 1, TERMS[2]), Lease("web", 2, TERMS[2]), Lease("web")):
        assert Mending().step(S, replace(facts, leases={"web": Held(3, lease, 0)})) == []
    assert Mending().step(S, replace(facts, leases={})) == []


def test_a_disk_that_goes_on_failing_is_tried_less_and_less_often(facts: Facts) -> None:
    mending, step_ns = Mending(), S // 10
    tries = [n * step_ns for n in range(600) if mending.step(n * step_ns, facts)]
    pauses = [b - a for a, b in pairwise(tries)]
    assert pauses == sorted(pauses)
    assert pauses[0] <= S
    assert RETRY_MAX_NS <= pauses[-1] <= RETRY_MAX_NS + step_ns
    assert 8 < len(tries) < 16


def test_after_a_long_good_time_the_first_try_is_quick_again(facts: Facts) -> None:
    mending = Mending()
    for n in range(100):
        mending.step(n * S, facts)
    running = replace(facts, local={"web": LocalVm("web", VmState.RUNNING, "")})
    for n in range(100, 130):
        assert mending.step(n * S, running) == []
    assert mending.step(130 * S, facts) == ["web"]
    assert mending.step(131 * S, facts) == ["web"]


def test_not_while_its_disk_is_changed_over(facts: Facts) -> None:
    assert Mending().step(S, replace(facts, busy=frozenset({("held", "web")}))) == []
