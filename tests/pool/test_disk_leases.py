"""A lease that was taken for work on a VM's disks: nothing starts on it, and it never stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
from build import NOW, SETTINGS, Story, record, story, term

from outlast.errors import BrokenInvariant
from outlast.model import Desired, Lease
from outlast.pool.core import PoolCore
from outlast.pool.decision import DISKS, Decision, Start, check
from outlast.pool.facts import Held
from outlast.settings import S


def borrowed(wanted: bool) -> Story:
    """Host a holds the lease of `web` for work on its disks."""
    told = story(hosts=2).wants(record(desired=Desired.RUNNING if wanted else Desired.STOPPED))
    lease = Lease("web", 1, term(1), DISKS, why="a snapshot")
    facts = replace(told.facts, leases={"web": Held(3, lease, NOW - S)})
    return replace(told, facts=facts)


def decided(told: Story, **changes: object) -> Decision:
    return PoolCore(SETTINGS).step(NOW + S, replace(told.facts, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("program", [True, False])
def test_work_under_way_is_left_alone(wanted: bool, program: bool) -> None:
    told = borrowed(wanted)
    if program:  # one works on the disks now, in the VM's control group
        told = told.guard(populated=frozenset({"web"}))
    decision = decided(told, busy=frozenset({(DISKS, "web")}))
    assert not decision.starts
    assert not decision.kills
    assert not decision.stops
    assert not [swap for swap in decision.swaps if swap.name == "lease/web"]


@pytest.mark.parametrize("wanted", [True, False])
def test_work_that_lost_its_agent_is_ended_and_then_the_lease_is_freed(wanted: bool) -> None:
    core, told = PoolCore(SETTINGS), borrowed(wanted)
    left = core.step(NOW + S, told.guard(populated=frozenset({"web"})).facts)
    assert [kill.vm for kill in left.kills] == ["web"]
    assert not left.swaps
    assert not core.step(NOW + 2 * S, told.facts).swaps, "its writes may be on their way"
    assert not core.step(NOW + 3 * S, told.sampled(started_ns=NOW + 3 * S).facts).swaps
    later_ns = NOW + 3 * S + SETTINGS.timing.settle_ns
    gone = core.step(later_ns, told.sampled(started_ns=later_ns).facts)
    assert not gone.kills
    assert not gone.starts
    (swap,) = [swap for swap in gone.swaps if swap.name == "lease/web"]
    assert isinstance(swap.value, Lease)
    assert (swap.expected, swap.value.held, swap.value.via) == (3, False, "free")


@pytest.mark.parametrize("kind", ["taken", "shut down"])
def test_what_left_nothing_before_the_work_vouches_for_nothing_after_it(kind: str) -> None:
    """The VM had left nothing, and its lease went over to the work between two looks."""
    core, told = PoolCore(SETTINGS), borrowed(False)
    draining = core._hosting._draining
    draining.taken("web") if kind == "taken" else draining.shut_down("web")
    busy = replace(told.facts, busy=frozenset({(DISKS, "web")}))
    core.step(NOW + S, busy)
    ended = told.sampled(started_ns=NOW + 2 * S).facts
    assert not core.step(NOW + 2 * S, ended).swaps, "its writes may be on their way"


def test_other_hosts_wait_for_the_holder() -> None:
    told = borrowed(wanted=True)
    elsewhere = replace(told.facts.leases["web"].value, slot=2, term=term(2))
    decision = decided(told, leases={"web": Held(3, elsewhere, NOW - S)})
    assert not decision.starts
    assert not decision.swaps


def test_a_start_on_such_a_lease_is_a_broken_invariant() -> None:
    told = borrowed(wanted=True)
    start = Start("web", record().spec, 3, "luck")
    with pytest.raises(BrokenInvariant, match="work on its disks"):
        check(told.facts, Decision(starts=(start,)))
