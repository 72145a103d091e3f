"""Hard rules and the choice of a host."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import hosts, pools

from outlast.errors import InvalidInput
from outlast.placement.choose import answer, best, best_host, in_turn
from outlast.placement.fit import broken, fits, refusal
from outlast.placement.layout import Layout
from outlast.placement.picture import (
    Group,
    GroupKind,
    Host,
    HostState,
    Picture,
    Policy,
    Vm,
    checked,
)


def rejected(picture: Picture, vm: Vm) -> dict[str, str]:
    return dict(best(picture, vm).rejected)


@pytest.mark.parametrize(
    ("host", "vm", "said"),
    [
        (Host("a", 8, 4), Vm("x", 9, 1), "a has 8 MiB free of the 9 MiB needed"),
        (Host("a", 8, 4, reserved_mib=3), Vm("x", 6, 1), "a has 5 MiB free of the 6 MiB needed"),
        (Host("a", 99, 1), Vm("x", 1, 9), "a has 8 vCPUs free of the 9 needed (1 core carries 8)"),
        (Host("a", 8, 4, HostState.DOWN), Vm("x", 1, 1), "a is down"),
        (Host("a", 8, 4, HostState.CLOSED, why="repair"), Vm("x", 1, 1), "a is closed: repair"),
        (Host("a", 8, 4, networks=()), Vm("x", 1, 1, networks=("n",)),
         "a does not reach network n"),
        (Host("a", 8, 4, storage=("t",)), Vm("x", 1, 1, storage=("s",)),
         "a does not reach storage s"),
        (Host("a", 8, 4, cpu_models=("v2",)), Vm("x", 1, 1, cpu_model="v3"),
         "a cannot offer CPU model v3"),
        (Host("a", 8, 4), Vm("x", 1, 1, preferred=("b",)),
         "a is not on its list of preferred hosts"),
    ],
)  # fmt: skip
def test_each_rule_has_its_sentence(host: Host, vm: Vm, said: str) -> None:
    picture = Picture((host, Host("b", 99, 16)))
    assert rejected(picture, vm) == {"a": said}
    assert best(picture, vm).host == "b"


def test_groups_bind_and_say_so() -> None:
    web = (Vm("w1", 1, 1, "a"), Vm("w2", 1, 1))
    picture = Picture(hosts(8, 8), web, (Group("web", GroupKind.APART, ("w1", "w2")),))
    assert rejected(picture, web[1]) == {"a": "a runs w1, which group web keeps apart from it"}
    both = replace(picture, groups=(Group("app", GroupKind.TOGETHER, ("w1", "w2")),))
    assert rejected(both, web[1]) == {"b": "group app keeps it with w1 on a"}


def test_soft_wishes_count_more_than_free_room_and_less_than_rules() -> None:
    vm = Vm("x", 4, 1, preferred=("a",), strict=False)
    assert best(Picture(hosts(8, 100)), vm).host == "a"
    assert best(Picture(hosts(3, 100)), vm).host == "b"
    apart = (Group("g", GroupKind.APART, ("x", "y"), hard=False),)
    picture = Picture(hosts(100, 8), (Vm("y", 1, 1, "a"), Vm("x", 1, 1)), apart)
    assert best(picture, picture.vm("x")).host == "b"


def test_the_emptiest_host_is_chosen_with_the_score_of_each() -> None:
    found = best(Picture(hosts(8, 16)), Vm("x", 4, 2, busy_cores=1.0))
    assert [s.host for s in found.scores] == ["b", "a"]
    assert found.scores[0].memory == 0.75
    assert found.scores[0].cpu == 0.875
    assert found.why.startswith(
        "b has the most left: 75% of its memory, 88% of its CPU and 97% of its vCPUs (score 0.83); "
        "then a (0.71)"
    )


def test_a_host_without_anything_left_is_told_in_plain_words() -> None:
    busy = replace(hosts(8)[0], other_cores=99.0, over_mib=8)
    said = best(Picture((busy,)), Vm("x", 4, 2, likes=("gone",))).why
    assert said == (
        "only a can take it: 50% of its memory, none of its CPU and 97% of its vCPUs "
        "(score -4.04), none of its memory idle, "
        "although 1 wish of the VM is not met there"
    ), said


def test_what_is_true_of_several_hosts_is_said_once() -> None:
    down = tuple(Host(name, 8, 4, HostState.DOWN, why="it is dead") for name in "yz")
    picture = Picture((*hosts(*[8] * 7), *down))
    why = best(picture, Vm("x", 4, 2, preferred=("a",))).why
    assert why.endswith(
        "; b, c, d, e and 2 more are not on its list of preferred hosts; y is down: it is dead; "
        "z is down: it is dead"
    )


@given(pools(), st.data())
def test_the_fast_rules_and_the_words_agree(picture: Picture, data: st.DataObject) -> None:
    layout = Layout(picture)
    for vm in range(len(picture.vms)):
        leaving = frozenset(data.draw(st.sets(st.integers(0, len(picture.hosts) - 1), max_size=1)))
        for host in range(len(picture.hosts)):
            assert fits(layout, vm, host, leaving) == (not refusal(layout, vm, host, leaving))


@given(pools())
def test_the_fast_choice_is_the_one_that_is_told(picture: Picture) -> None:
    layout = Layout(picture)
    for vm in range(len(picture.vms)):
        told = answer(layout, vm).host
        at = layout.take(vm)
        fast = best_host(layout, vm)
        layout.put(vm, at)
        assert (picture.hosts[fast].name if fast >= 0 else "") == told


@given(pools())
@settings(max_examples=40)
def test_a_layout_counts_what_its_picture_says(picture: Picture) -> None:
    layout = Layout(picture)
    for vm in range(len(picture.vms)):
        layout.put(vm, layout.take(vm))
    again = Layout(layout.as_picture())
    assert (layout.free_mib, layout.free_vcpus) == (again.free_mib, again.free_vcpus)
    assert layout.there == again.there
    assert layout.as_picture() == picture
    assert not broken(layout)


@pytest.mark.parametrize(
    ("picture", "field"),
    [
        (Picture(hosts(8), (Vm("x", -1, 1),)), "vms.x.memory_mib"),
        (Picture(hosts(8), (Vm("x", 1, 0),)), "vms.x.vcpus"),
        (Picture(hosts(8), (Vm("x", 1, 1, "z"),)), "vms.x.host"),
        (Picture(hosts(8), (Vm("x", 1, 1, preferred=("z",)),)), "vms.x.preferred"),
        (Picture(hosts(8), (Vm("x", 1, 1), Vm("x", 1, 1))), "vms: x is there twice"),
        (Picture(hosts(8), (Vm("x", 1, 1, busy_cores=float("nan")),)), "vms.x.busy_cores"),
        (Picture((Host("a", 8, 1, reserved_mib=8),)), "hosts.a.reserved_mib"),
        (Picture(hosts(8), policy=Policy(memory_ratio=0)), "policy.memory_ratio"),
        (Picture(hosts(8), (Vm("x", 1, 1), Vm("y", 1, 1)),
                 (Group("g", GroupKind.APART, ("x", "y")),)), "2 VMs cannot be apart on 1 hosts"),
        (Picture(hosts(8), (), (Group("g", GroupKind.APART, ("x",)),)), "groups.g.vms"),
    ],
)  # fmt: skip
def test_a_picture_that_contradicts_itself_names_the_field(picture: Picture, field: str) -> None:
    with pytest.raises(InvalidInput, match=field) as caught:
        checked(picture)
    assert caught.value.hint


@given(pools(), st.data())
@settings(max_examples=150, deadline=None)
def test_a_measured_load_lets_nobody_in_and_keeps_nobody_out(
    picture: Picture, data: st.DataObject
) -> None:
    cores = st.one_of(st.none(), st.floats(0, 100))
    mib = st.one_of(st.none(), st.integers(-100, 100))
    loaded = replace(picture, hosts=tuple(
        replace(h, other_cores=data.draw(cores), over_mib=data.draw(mib)) for h in picture.hosts
    ))  # fmt: skip
    for n in range(len(picture.vms)):
        one, other = answer(Layout(picture), n), answer(Layout(loaded), n)
        assert one.rejected == other.rejected
        assert bool(one.host) == bool(other.host)
        layout = Layout(loaded)
        layout.take(n)
        fast = best_host(layout, n)
        assert (picture.hosts[fast].name if fast >= 0 else "") == other.host


def test_new_vms_take_their_places_one_after_the_other() -> None:
    picture = Picture(hosts(8, 6), (Vm("old", 2, 1, "a"),))
    new = [Vm(f"new-{n}", 3, 1) for n in range(5)]
    assert in_turn(picture, new) == ["b", "a", "b", "a", ""]
    assert in_turn(picture, []) == []
    with pytest.raises(InvalidInput):
        in_turn(picture, [Vm("new", -1, 1)])
