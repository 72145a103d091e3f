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
GRACE, BEAT = TIMING.partition_grace_ns, TIMING.beat_ns


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
    assert members.step(NOW + GRACE - BEAT - 1, told.facts).swap is None
    assert members.step(NOW + GRACE - BEAT, told.facts).swap is not None


def test_the_grace_begins_when_the_own_link_was_lost_but_no_more_than_a_beat_ago() -> None:
    told = cut(2, 1, set(), {})
    lost_ns = SETTINGS.timing.link_lost_ns
    told = replace(told, facts=replace(told.facts, links={2: lost_ns + BEAT // 4}))
    members = Members(STRICT)
    assert members.step(NOW, told.facts).swap is None
    assert members.step(NOW + GRACE - BEAT // 4 - 1, told.facts).swap is None
    assert members.step(NOW + GRACE - BEAT // 4, told.facts).swap is not None


def test_who_is_not_known_to_live_is_a_matter_of_proofs() -> None:
    told = cut(3, 1, {(1, 2)}, {}).shows(3, heard=frozenset())
    assert proposed(after_grace(told)) == {1, 2}
    assert after_grace(told.still(3, TIMING.gap_ns + 1)).swap is None


@pytest.mark.parametrize(
    ("says", "away_ms", "stays"),
    [(True, 0, True), (None, 0, True), (False, 0, False), (False, 700, True)],
)
def test_a_host_that_did_not_surely_lose_the_witness_stays(
    says: bool | None, away_ms: int, *, stays: bool
) -> None:
    told = cut(3, 1, {(1, 2)}, {}).shows(
        3, witness=says, agent_away_ms=away_ms, heard=frozenset()
    )  # fmt: skip
    for settings in (SETTINGS, STRICT):
        asked = replace(settings, witness="192.0.2.1")
        result = after_grace(replace(told, facts=replace(told.facts, pool=asked)), asked)
        if stays and settings is not STRICT:
            assert result.swap is None
        else:
            assert proposed(result) == {1, 2}


def test_that_it_stays_is_told_once_by_the_one_who_would_exclude_it() -> None:
    asked = replace(SETTINGS, witness="192.0.2.1")
    for me, times in ((1, 1), (2, 0)):
        told = cut(3, me, {(1, 2)}, {}).shows(3, witness=True, heard=frozenset())
        facts, members = replace(told.facts, pool=asked), Members(asked)
        results = [members.step(NOW + beats * GRACE, facts) for beats in range(4)]
        codes = [one.code for result in results for one in result.notes]
        assert codes.count("cut-off-stays") == times


def test_of_equal_halves_the_one_that_reaches_the_witness_stays() -> None:
    asked = replace(SETTINGS, witness="192.0.2.1")
    told = cut(2, 2, set(), {}).shows(1, witness=False, heard=frozenset())
    facts = replace(told.facts, pool=asked, witness=True)
    assert proposed(after_grace(replace(told, facts=facts), asked)) == {2}
    blind = replace(told.facts, pool=asked, witness=None)
    assert after_grace(replace(told, facts=blind), asked).swap is None


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
