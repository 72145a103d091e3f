"""The bound of the benchmark, held against every end state of small pools."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from bench.least import evenest, least_deviation
from bench.skewed import skewed
from hypothesis import given, settings
from pools import hosts, pools

from outlast.placement.balance import balance
from outlast.placement.layout import Layout
from outlast.placement.picture import Picture, Vm
from outlast.placement.plan import follow
from outlast.placement.spare import unsafe


@given(pools(most_hosts=3, most_vms=5, groups=False))
@settings(max_examples=40, deadline=None)
def test_no_end_state_of_a_safe_pool_that_stays_safe_is_below_it(picture: Picture) -> None:
    if unsafe(picture):
        return
    bound = least_deviation(picture)
    names = [h.name for h in picture.hosts]
    for spots in product(names, repeat=len(picture.vms)):
        vms = tuple(replace(v, host=at) for v, at in zip(picture.vms, spots, strict=True))
        end = replace(picture, vms=vms)
        if min(Layout(end).free_mib) >= 0 and not unsafe(end):
            assert Layout(end).deviation() >= bound - 1e-9


def test_a_place_that_must_be_free_is_counted_by_hand() -> None:
    # x restarts only where 8 of 10 are free, so one host of the two is to be nearly empty
    picture = Picture(hosts(10, 10), (Vm("x", 8, 1, "a", busy_cores=0),))
    assert least_deviation(picture) == evenest([10, 10], 12, {1: 8})
    assert least_deviation(picture) == pytest.approx(((0.2**2 + 0.2**2) / 4) ** 0.5)
    assert least_deviation(Picture(hosts(10, 10), (Vm("x", 4, 1, "a", busy_cores=0),))) < 1e-9


def test_a_nearly_full_pool_cannot_be_even_and_safe() -> None:
    picture = skewed(20, 400, 0.93)
    assert 0.0232 < least_deviation(picture) < 0.0234


def test_plans_end_above_it() -> None:
    picture = skewed(10, 100, 0.93)
    plan = balance(picture)
    assert plan.after >= least_deviation(picture)
    assert unsafe(follow(picture, plan.moves)) == unsafe(picture)
