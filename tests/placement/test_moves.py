"""Evacuation, balancing, consolidation: what their plans promise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.skewed import skewed
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pools import hosts, pools

from outlast.errors import NotFound
from outlast.placement.balance import balance, spread
from outlast.placement.evacuate import consolidate, evacuate
from outlast.placement.fit import broken, fits
from outlast.placement.layout import Layout
from outlast.placement.picture import (
    Group,
    GroupKind,
    Host,
    HostState,
    Picture,
    Policy,
    Priority,
    Vm,
)
from outlast.placement.plan import Move, follow, undo, waves
from outlast.placement.refuge import Refuges
from outlast.placement.spare import unsafe


@given(pools(), st.data())
@settings(deadline=None)
def test_after_evacuating_a_host_nothing_is_left_but_what_is_named(
    picture: Picture, data: st.DataObject
) -> None:
    host = data.draw(st.sampled_from(picture.hosts)).name
    plan = evacuate(picture, host)
    after = follow(picture, plan.moves)  # feasible at each step
    left = {v.name for v in after.vms if v.host == host}
    assert left == {name for name, _ in plan.left}
    assert all(why for _, why in plan.left)
    assert not broken(Layout(after))


@given(pools())
@settings(deadline=None)
def test_balancing_breaks_nothing_and_a_second_time_moves_nothing(picture: Picture) -> None:
    plan = balance(picture)
    after = follow(picture, plan.moves, grouped=False)
    assert not broken(Layout(after))
    assert plan.after <= plan.before
    assert len(unsafe(after)) <= len(unsafe(picture))
    assert balance(after).moves == ()


@given(pools())
@settings(deadline=None)
def test_no_step_makes_the_target_fuller_than_the_fullest_host(picture: Picture) -> None:
    now, fullest = picture, [1.0]
    for move in balance(picture).moves:
        before = Layout(now)
        fullest.append(max(before.memory_share(h) for h in range(len(now.hosts))))
        now = follow(now, [move], grouped=False)
        after = Layout(now)
        # an exchange is two moves: what counts is the moment before its first
        assert after.memory_share(after.host_at[move.target]) <= max(fullest[-2:]) + 1e-9
    last = Layout(now)
    assert max(last.memory_share(h) for h in range(len(now.hosts))) <= max(fullest[1:2] or [1.0])


def test_an_exchange_that_opens_a_pass_fills_no_host_on_the_way() -> None:
    """vm7 to b and vm3 to d ends even, but b would be full while both are there."""
    vms = (Vm("still", 3, 1, "a", movable=False), Vm("vm7", 6, 1, "a"),
           Vm("vm3", 4, 1, "b"), Vm("stays", 2, 1, "b", movable=False),
           Vm("here", 1, 1, "c", movable=False))  # fmt: skip
    picture = Picture(hosts(10, 12, 8, 8), vms, policy=Policy(moved_share_max=9.0))
    for move in balance(picture).moves:
        before = Layout(picture)
        picture = follow(picture, [move])
        after = Layout(picture)
        target = after.host_at[move.target]
        assert after.memory_share(target) <= max(map(before.memory_share, range(4))) + 1e-9, move


LISTED = {"b": ("b", "a"), "a": ("a",)}
AN_EXCHANGE = Picture(  # of vm1 and vm2: with both on a there is no room for vm4 should b die
    (Host("a", 16, 8), Host("b", 19, 8)),
    tuple(
        Vm(name, mib, 1, host, busy_cores=busy, preferred=LISTED[host], movable=movable,
           priority=Priority.HIGH if high else Priority.BEST_EFFORT)
        for name, mib, host, busy, high, movable in (
            ("vm0", 3, "b", 0.0, True, True), ("vm1", 2, "b", 0.0, False, True),
            ("vm2", 1, "b", 1.0, False, True), ("vm3", 6, "b", 0.0, False, False),
            ("vm4", 7, "b", 1.0, True, False), ("vm6", 4, "a", 0.5, True, False),
        )
    ),
    policy=Policy(moved_share_max=9.0),
)  # fmt: skip


@example(AN_EXCHANGE)
@given(pools(most_hosts=4))
@settings(deadline=None)
def test_no_step_costs_a_host_its_safety(picture: Picture) -> None:
    """By the exact check of every host after every move, those within an exchange too."""
    began = set(unsafe(picture))
    for move in balance(picture).moves:
        picture = follow(picture, [move], grouped=False)
        assert set(unsafe(picture)) <= began, move


@given(pools(), st.integers(1, 4))
@settings(deadline=None)
def test_the_moves_of_a_wave_fit_together_with_nothing_freed(picture: Picture, n: int) -> None:
    moves = balance(picture).moves
    grouped = waves(picture, moves, n)
    assert [m for wave in grouped for m in wave] == list(moves)
    now = picture
    for wave in grouped:
        assert len(wave) <= n
        room = Layout(now)
        for move in wave:
            room.free_mib[room.host_at[move.target]] -= move.mib
        assert all(free >= 0 for free in room.free_mib)
        now = follow(now, wave)


@given(pools())
@settings(deadline=None)
def test_undo_gives_the_pool_back(picture: Picture) -> None:
    moves = balance(picture).moves
    assert follow(follow(picture, moves), undo(moves)) == picture


@given(pools())
@settings(deadline=None)
def test_consolidation_empties_the_hosts_it_names_and_keeps_the_rest_safe(
    picture: Picture,
) -> None:
    known = set(unsafe(picture))
    plan = consolidate(picture)
    after = follow(picture, plan.moves)
    assert not {v.name for v in after.vms if v.host in plan.emptied}
    off = tuple(
        replace(h, state=HostState.DOWN) if h.name in plan.emptied else h for h in after.hosts
    )
    assert set(unsafe(replace(after, hosts=off))) <= known


@given(pools(), st.data())
@settings(deadline=None)
def test_refuges_stay_true_while_vms_move(picture: Picture, data: st.DataObject) -> None:
    layout = Layout(picture)
    refuges = Refuges(layout)
    for _ in range(6 if picture.vms else 0):
        vm = data.draw(st.integers(0, len(picture.vms) - 1))
        target = data.draw(st.integers(0, len(picture.hosts) - 1))
        if target == layout.where[vm] or layout.free_mib[target] < layout.mib[vm]:
            continue
        if vm in layout.together or not fits(layout, vm, target):
            continue
        before = (list(layout.where), list(refuges.of), set(refuges.unsafe()))
        if refuges.move((vm, target)):
            assert refuges.unsafe() <= before[2]
            for host in range(len(picture.hosts)):
                for dying in range(len(picture.hosts)):
                    mine = [v for v in layout.on[dying] if refuges.of[v] == host]
                    assert host != dying or not mine
                    assert sum(layout.mib[v] for v in mine) <= max(0, layout.free_mib[host])
            for v, host in enumerate(refuges.of):
                for g in layout.apart.get(v, ()) if host >= 0 else ():
                    assert all(layout.where[m] != host for m in layout.members[g])
        else:
            assert (layout.where, refuges.of, refuges.unsafe()) == before


def test_a_skewed_pool_is_balanced_with_few_moves() -> None:
    pool = skewed(12, 200, 0.7)
    plan = balance(pool)
    assert plan.before > 0.1
    assert plan.after < 0.03
    assert plan.mib < 0.3 * sum(h.memory_mib for h in pool.hosts)
    assert len(unsafe(follow(pool, plan.moves))) <= len(unsafe(pool))


def test_a_nearly_full_pool_is_evened_out_by_way_of_its_large_vms() -> None:
    picture = skewed(10, 100, 0.93)
    plan = balance(picture)
    after = follow(picture, plan.moves)
    assert plan.after < 0.04 < plan.before, "single moves that pay end at 0.064"
    assert any("large VMs" in move.why or "after it" in move.why for move in plan.moves)
    assert set(unsafe(after)) <= set(unsafe(picture))
    assert not balance(after).moves


def test_apart_groups_are_mended_and_soft_ones_when_spreading() -> None:
    vms = (Vm("x", 1, 1, "a"), Vm("y", 1, 1, "a"))
    hard = Picture(hosts(8, 8, 8), vms, (Group("g", GroupKind.APART, ("x", "y")),),
                   Policy(moved_share_max=1))  # fmt: skip
    assert len({v.host for v in follow(hard, balance(hard).moves).vms}) == 2
    soft = replace(hard, groups=(Group("g", GroupKind.APART, ("x", "y"), hard=False),))
    assert len({v.host for v in follow(soft, spread(soft).moves).vms}) == 2


def test_a_plan_keeps_the_limits_of_the_policy() -> None:
    pool = skewed(8, 80, 0.7)
    assert len(balance(replace(pool, policy=Policy(moves_max=3))).moves) <= 3
    assert balance(replace(pool, policy=Policy(moved_share_max=0))).moves == ()


def test_a_step_that_a_rule_forbids_is_named() -> None:
    picture = Picture(hosts(8, 2), (Vm("x", 4, 1, "a"),))
    with pytest.raises(ValueError, match=r"move 1, x: a -> b .* b has 2 MiB free of the 4"):
        follow(picture, [Move("x", "a", "b", 4, "test")])
    with pytest.raises(NotFound, match="no host z"):
        evacuate(picture, "z")


def test_a_group_kept_together_leaves_a_host_together() -> None:
    vms = (Vm("x", 3, 1, "a"), Vm("y", 3, 1, "a"))
    picture = Picture(hosts(8, 5, 6), vms, (Group("g", GroupKind.TOGETHER, ("x", "y")),))
    after = follow(picture, evacuate(picture, "a").moves)
    assert [v.host for v in after.vms] == ["c", "c"]
