"""Thorough plans: the end state that is aimed at, the way to it, and what both may never cost."""

from __future__ import annotations

from random import Random
from unittest.mock import patch

from bench.skewed import skewed
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import hosts, pools

from outlast.placement import balance as balancing
from outlast.placement.aim import Aim
from outlast.placement.balance import EVEN, Budget, Search, balance
from outlast.placement.fit import broken
from outlast.placement.layout import Layout
from outlast.placement.picture import Picture, Policy, Vm
from outlast.placement.plan import follow
from outlast.placement.route import route
from outlast.placement.spare import unsafe

FREELY = Policy(moved_share_max=9.0)


def aim_of(picture: Picture, seed: int = 1, mib_max: int = 1 << 40) -> Aim:
    layout = Layout(picture)
    vms = [n for n, vm in enumerate(picture.vms) if vm.movable and n not in layout.together]
    return Aim(layout, vms, lambda vm, host: False, layout.where[:], mib_max, Random(seed))


def search_of(picture: Picture) -> Search:
    return Search(Layout(picture), Budget.of(Layout(picture)))


def test_a_pool_that_stays_uneven_is_evened_out_at_every_step_safely() -> None:
    picture = skewed(6, 50, 0.9, seed=5)
    began, fullest = set(unsafe(picture)), [1.0]
    plan = balance(picture, Random(1))
    assert plan.after <= EVEN < balance(picture).after
    assert plan.mib <= 0.3 * sum(host.memory_mib for host in picture.hosts)
    for move in plan.moves:
        before = Layout(picture)
        fullest.append(max(map(before.memory_share, range(6))))
        picture = follow(picture, [move], grouped=False)
        assert set(unsafe(picture)) <= began, move
        after = Layout(picture)
        assert after.memory_share(after.host_at[move.target]) <= max(fullest[-2:]) + 1e-9
    assert not broken(Layout(picture))
    assert not balance(picture, Random(1)).moves


@given(pools())
@settings(deadline=None, max_examples=20)
def test_a_thorough_plan_breaks_nothing_and_is_the_same_again(picture: Picture) -> None:
    with patch.object(balancing, "ATTEMPTS", 1000):
        plan = balance(picture, Random(1))
        assert balance(picture, Random(1)) == plan
    assert plan.after <= balance(picture).after
    began = set(unsafe(picture))
    for move in plan.moves:
        picture = follow(picture, [move], grouped=False)
        assert set(unsafe(picture)) <= began, move
    assert not broken(Layout(picture))


@given(pools(), st.integers(0, 9), st.integers(0, 30))
@settings(deadline=None, max_examples=40)
def test_what_is_aimed_at_is_as_even_and_as_near_as_is_said(
    picture: Picture, seed: int, mib_max: int
) -> None:
    aim = aim_of(picture, seed, mib_max)
    found = aim.run(2000, 0.0)
    layout = Layout(picture)
    home, safe = layout.where[:], set(unsafe(picture))
    for vm, host in enumerate(found):
        layout.move(vm, host)
    squares = layout.deviation() ** 2 * 2 * len(picture.hosts)
    assert abs(squares - aim._least) < 1e-9
    assert layout.deviation() <= Layout(picture).deviation() + 1e-9
    moved = [vm for vm, host in enumerate(home) if layout.where[vm] != host]
    assert sum(layout.mib[vm] for vm in moved) <= mib_max
    assert not broken(layout)
    assert set(unsafe(layout.as_picture())) <= safe


@given(pools(groups=False), st.data())
@settings(deadline=None, max_examples=60)
def test_no_move_that_refuges_allow_is_refused_for_want_of_places(
    picture: Picture, data: st.DataObject
) -> None:
    with patch("outlast.placement.aim.LEAST_MIB", 1):
        aim = aim_of(picture)
    layout = aim._layout
    for _ in range(6 if picture.vms else 0):
        vm = data.draw(st.integers(0, len(picture.vms) - 1))
        target = data.draw(st.integers(0, len(picture.hosts) - 1))
        source = layout.where[vm]
        if target == source or layout.free_mib[target] < layout.mib[vm]:
            continue
        steps = ((vm, target),)
        layout.move(vm, target)
        enough = aim._places.enough(steps, source, target)
        layout.move(vm, source)
        if aim._refuges.move(*steps):
            assert enough
            aim._places.count(source)
            aim._places.count(target)


def test_a_small_one_stands_aside_so_that_two_large_ones_change_places() -> None:
    vms = (Vm("x", 6, 1, "a", ha=False), Vm("y", 7, 1, "b", ha=False),
           Vm("small", 3, 1, "c", ha=False), Vm("full", 8, 1, "d", ha=False))  # fmt: skip
    picture = Picture(hosts(10, 10, 8, 8), vms, policy=FREELY)
    goal = [1, 0, 2, 3]  # x and y fit nowhere beside each other, and on c not beside small
    found = route(lambda: search_of(picture), goal, Random(1))
    assert found.layout.where == goal
    assert "small" in {m.vm for m in found.moves}
    follow(picture, found.moves, grouped=False)


def test_where_no_way_leads_to_the_end_the_nearest_is_kept() -> None:
    vms = (Vm("x", 6, 1, "a", ha=False), Vm("y", 6, 1, "b", ha=False), Vm("z", 1, 1, "a", ha=False))
    picture = Picture(hosts(8, 8), vms, policy=FREELY)
    found = route(lambda: search_of(picture), [1, 0, 1], Random(1))
    assert found.layout.where == [0, 1, 1]


def test_who_cannot_move_or_does_not_run_does_not_stand_aside() -> None:
    vms = (Vm("x", 6, 1, "a", ha=False), Vm("y", 6, 1, "b", ha=False),
           Vm("fixed", 1, 1, "c", ha=False, movable=False), Vm("off", 1, 1))  # fmt: skip
    picture = Picture(hosts(8, 8, 8), vms, policy=FREELY)
    found = route(lambda: search_of(picture), [1, 0, 2, -1], Random(1))
    assert found.layout.where[2:] == [2, -1]
    follow(picture, found.moves, grouped=False)
