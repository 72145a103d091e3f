"""What is left when hosts die, held against trying everything."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from pools import hosts, pools

from outlast.errors import InvalidInput, NotFound, PoolTrouble
from outlast.placement.fit import broken, fits
from outlast.placement.layout import Layout
from outlast.placement.picture import (
    Admission,
    Group,
    GroupKind,
    Picture,
    Policy,
    Priority,
    Vm,
)
from outlast.placement.refuge import Refuges
from outlast.placement.spare import admit, any_of, any_sentence, every, unsafe, what_if


def survivable(picture: Picture, dead: int) -> bool:
    """Every way to place what must restart, tried."""
    layout = Layout(picture)
    lost = list(layout.on[dead])
    for vm in lost:
        layout.take(vm)
    must = [v for v in lost if picture.vms[v].ha
            and picture.vms[v].priority is not Priority.BEST_EFFORT]  # fmt: skip
    gone = frozenset([dead])
    for spots in product(range(len(picture.hosts)), repeat=len(must)):
        put = []
        for vm, host in zip(must, spots, strict=True):
            if not fits(layout, vm, host, gone):
                break
            layout.put(vm, host)
            put.append(vm)
        for vm in put:
            layout.take(vm)
        if len(put) == len(must):
            return True
    return False


def test_the_sentence_names_targets_in_order_and_who_does_not_fit() -> None:
    vms = (
        Vm("db7", 9, 1, "b"), Vm("web", 2, 1, "b", priority=Priority.HIGH),
        Vm("ci", 1, 1, "b", priority=Priority.BEST_EFFORT), Vm("x", 2, 1, "a"),
    )  # fmt: skip
    found = what_if(Picture(hosts(8, 16), vms), ["b"])
    assert found.homeless == ("db7",)
    assert found.proven
    assert found.sentence == (
        "if b dies: 2 of 3 VMs restart (web on a, ci on a); "
        "db7 does not fit because a has 3 MiB free of the 9 MiB needed"
    )


def test_high_priority_goes_first_and_best_effort_stays_off_when_it_is_tight() -> None:
    vms = tuple(Vm(p.value, 4, 1, "b", priority=p) for p in reversed(Priority))
    found = what_if(Picture(hosts(12, 16), vms), ["b"])
    assert [r.vm for r in found.restarts] == ["high", "normal", "low", "best-effort"]
    assert [bool(r.target) for r in found.restarts] == [True, True, True, False]
    assert found.survived
    assert "best-effort stays off because a has 0 MiB free" in found.sentence


def test_a_tighter_packing_is_found_where_the_emptiest_host_first_fails() -> None:
    vms = (Vm("s", 4, 1, "c", priority=Priority.HIGH), Vm("l", 10, 1, "c"))
    found = what_if(Picture(hosts(10, 5, 20), vms), ["c"])
    assert (found.way, found.survived) == ("tight", True)


def test_combinations_are_searched_where_both_simple_ways_fail() -> None:
    vms = tuple(Vm(f"v{mib}", mib, 1, "c") for mib in (7, 5, 4, 6))
    found = what_if(Picture(hosts(9, 13, 99), vms), ["c"])
    assert (found.way, found.survived) == ("searched", True)
    assert {r.vm: r.target for r in found.restarts} == {"v7": "b", "v6": "b", "v5": "a", "v4": "a"}


def test_a_group_kept_together_restarts_as_one_or_not_at_all() -> None:
    vms = (Vm("x", 4, 1, "c"), Vm("y", 4, 1, "c"))
    app = (Group("app", GroupKind.TOGETHER, ("x", "y")),)
    assert not what_if(Picture(hosts(6, 6, 8), vms, app), ["c"]).survived
    found = what_if(Picture(hosts(6, 8, 8), vms, app), ["c"])
    assert [r.target for r in found.restarts] == ["b", "b"]


def test_several_hosts_at_once() -> None:
    vms = (Vm("x", 4, 1, "b"), Vm("y", 4, 1, "c"))
    picture = Picture(hosts(6, 6, 6), vms)
    assert not unsafe(picture)
    assert not what_if(picture, ["b", "c"]).survived
    with pytest.raises(NotFound, match="no host z"):
        what_if(picture, ["z"])
    with pytest.raises(InvalidInput, match="no host is named"):
        what_if(picture, [])


@given(pools(most_hosts=4, most_vms=8))
@settings(max_examples=150, deadline=None)
def test_the_answer_is_that_of_trying_everything(picture: Picture) -> None:
    for n, host in enumerate(picture.hosts):
        found = what_if(picture, [host.name])
        assert found.proven
        assert found.survived == survivable(picture, n)


@given(pools())
@settings(deadline=None)
def test_every_restart_it_names_is_possible_at_once(picture: Picture) -> None:
    for name, found in every(picture).items():
        target = {r.vm: r.target for r in found.restarts}
        vms = tuple(replace(v, host=target[v.name]) if v.host == name else v for v in picture.vms)
        assert not broken(Layout(replace(picture, vms=vms)))


@given(pools())
@settings(deadline=None)
def test_refuges_know_the_same_unsafe_hosts(picture: Picture) -> None:
    found = {picture.hosts[h].name for h in Refuges(Layout(picture)).unsafe()}
    assert found == set(unsafe(picture))


@pytest.mark.parametrize("policy", list(Admission))
def test_what_would_break_it_is_warned_about_or_refused(policy: Admission) -> None:
    before = Picture(hosts(8, 8), (Vm("x", 4, 1, "a"),), policy=Policy(admission=policy))
    verdict = admit(before, before.with_vm(Vm("y", 5, 1, "b")))
    assert verdict.allowed == (policy is not Admission.REFUSE)
    assert ("does not fit because" in verdict.warning) == (policy is not Admission.OFF)
    if policy is Admission.REFUSE:
        with pytest.raises(PoolTrouble, match="does not survive"):
            verdict.enforce()
    assert admit(before, before.with_vm(Vm("y", 2, 1, "b"))).warning == ""


def test_a_host_that_leaves_is_judged_too() -> None:
    before = Picture(hosts(8, 8, 8), (Vm("x", 4, 1, "a"), Vm("y", 6, 1, "b")),
                     policy=Policy(admission=Admission.REFUSE))  # fmt: skip
    assert not admit(before, before.without_host("c")).allowed


def test_any_so_many_hosts_is_every_choice_of_them() -> None:
    vms = (Vm("web", 6, 1, "a"), Vm("db", 6, 1, "b"))
    picture = Picture(hosts(8, 8, 8), vms)
    found = any_of(picture, 2)
    assert [f.hosts for f in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [f.homeless != () for f in found] == [True, True, True]
    assert any_sentence(found, 2) == (
        "not any 2 hosts may fail: 3 choices leave VMs without a place, of 3"
    )
    assert [f.survived for f in any_of(picture, 1)] == [True, True, True]
    assert any_sentence(any_of(picture, 1), 1).startswith("any 1 host may fail: every VM")
    for wrong in (0, 3):
        with pytest.raises(InvalidInput, match="cannot fail and leave one"):
            any_of(picture, wrong)
    with pytest.raises(InvalidInput, match="too many"):
        any_of(Picture(tuple(replace(hosts(8)[0], name=f"h{n}") for n in range(20)), ()), 3)
