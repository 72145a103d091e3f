"""When links break: who stays, computed by each host for itself with the same result."""

from __future__ import annotations

from dataclasses import replace

import pytest
from build import NOW, SETTINGS, TIMING, Story, story

from outlast.model import BlockState, LocalVm, View, VmState
from outlast.pool.membership import Members, Membership
from outlast.settings import PoolSettings, S

FAR = 10 * TIMING.link_lost_ns
STRICT = replace(SETTINGS, partition="strict")
GRACE = TIMING.partition_grace_ns


def cut(hosts: int, me: int, links: set[tuple[int, int]], vms: dict[int, int]) -> Story:
    """A pool in which only these links are up and every host runs so many VMs."""
    near = {
        s: frozenset(b if a == s else a for a, b in links if s in (a, b))
        for s in range(1, hosts + 1)
    }
    told = story(hosts, me)
    for slot in near:
        if slot != me:
            told = told.shows(slot, heard=near[slot], vm_count=vms.get(slot, 0))
    hear = {s: 0 if s in near[me] else FAR for s in near if s != me}
    local = {f"vm{n}": LocalVm(f"vm{n}", VmState.RUNNING) for n in range(vms.get(me, 0))}
    return replace(told, facts=replace(told.facts, links=hear, local=local))


def after_grace(told: Story, settings: PoolSettings = STRICT) -> Membership:
    """What the host proposes once the grace, and its turn, have come."""
    members = Members(settings)
    members.step(NOW, told.facts)
    result = members.step(NOW + GRACE, told.facts)
    return result if result.swap else members.step(NOW + GRACE + 60 * S, told.facts)


def proposed(result: Membership) -> frozenset[int]:
    assert result.swap is not None, "it proposes nothing"
    value = result.swap.value
    assert isinstance(value, View)
    assert value.kind == "exclude"
    return value.slots


def test_nothing_happens_before_the_grace_is_over() -> None:
    told = cut(2, 1, set(), {})
    members = Members(STRICT)
    assert members.step(NOW, told.facts).swap is None
    assert members.step(NOW + GRACE - 1, told.facts).swap is None


def test_two_hosts_cut_off_the_master_stays() -> None:
    assert proposed(after_grace(cut(2, 1, set(), {}))) == {1}
    assert after_grace(cut(2, 2, set(), {})).swap is None


def test_the_larger_part_stays_and_the_smaller_proposes_nothing() -> None:
    links = {(2, 3)}
    assert proposed(after_grace(cut(3, 2, links, {}))) == {2, 3}
    assert after_grace(cut(3, 1, links, {})).swap is None


def test_a_single_bad_link_between_connected_hosts_excludes_nobody() -> None:
    told = cut(3, 1, {(1, 2), (2, 3)}, {})
    assert after_grace(told).swap is None


def test_a_shattered_network_excludes_nobody() -> None:
    for me in (1, 2, 3, 4):
        assert after_grace(cut(4, me, set(), {})).swap is None


def test_hold_excludes_nobody() -> None:
    hold = replace(SETTINGS, partition="hold")
    assert after_grace(cut(2, 1, set(), {}), hold).swap is None


def test_a_death_is_never_delayed_by_a_bad_network() -> None:
    told = cut(3, 1, set(), {}).shows(2, state=BlockState.CLOSED)
    result = Members(STRICT).step(NOW, told.facts)
    assert result.swap is not None
    assert isinstance(result.swap.value, View)
    assert result.swap.value.kind == "death"
    assert result.swap.value.slots == {1, 3}


@pytest.mark.parametrize("me", [2, 3])
def test_a_host_counts_its_own_vms_as_everybody_else_does(me: int) -> None:
    """The master alone, 2-3 and 3-4 linked: b with three VMs outweighs d with one, for b too."""
    links, vms = {(2, 3), (3, 4)}, {2: 3, 4: 1}
    assert proposed(after_grace(cut(4, me, links, vms))) == {2, 3}


def test_the_lighter_side_does_not_think_itself_heavier() -> None:
    assert after_grace(cut(4, 4, {(2, 3), (3, 4)}, {2: 3, 4: 1})).swap is None
