"""The best set of hosts, against a stupid second opinion that tries every subset."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.pool.links import EXACT_MAX, best_set, linked, up_links

Pairs = frozenset[tuple[int, int]]


def fully_linked(slots: tuple[int, ...], pairs: Pairs) -> bool:
    return all(pair in pairs for pair in combinations(slots, 2))


def score(slots: frozenset[int], master: int, vms: Mapping[int, int]) -> tuple[int, bool, int, int]:
    return len(slots), master in slots, sum(vms.get(s, 0) for s in slots), -min(slots)


def brute(
    live: frozenset[int], pairs: Pairs, master: int, vms: Mapping[int, int]
) -> list[frozenset[int]]:
    """All subsets in which every pair is linked and that score best."""
    sets = [
        frozenset(some)
        for size in range(1, len(live) + 1)
        for some in combinations(sorted(live), size)
        if fully_linked(some, pairs)
    ]
    best = max(score(s, master, vms) for s in sets)
    return [s for s in sets if score(s, master, vms) == best]


def all_pairs(hosts: int) -> list[tuple[int, int]]:
    return list(combinations(range(1, hosts + 1), 2))


@st.composite
def maps(draw: st.DrawFn) -> tuple[frozenset[int], Pairs, int, dict[int, int]]:
    hosts = draw(st.integers(1, 7))
    pairs = frozenset(p for p in all_pairs(hosts) if draw(st.booleans()))
    master = draw(st.integers(0, hosts))
    vms = {s: draw(st.integers(0, 3)) for s in range(1, hosts + 1)}
    return frozenset(range(1, hosts + 1)), pairs, master, vms


@settings(max_examples=400)
@given(maps())
def test_the_best_set_is_the_one_that_trying_everything_finds(
    drawn: tuple[frozenset[int], Pairs, int, dict[int, int]],
) -> None:
    live, pairs, master, vms = drawn
    best, rule = best_set(live, pairs, master, vms)
    assert best in brute(live, pairs, master, vms)
    assert rule


def test_every_map_of_up_to_five_hosts() -> None:
    """1 + 2 + 8 + 64 + 1024 maps, each with every master: exact, not sampled."""
    vms = {1: 0, 2: 2, 3: 1, 4: 2, 5: 0}
    count = 0
    for hosts in range(1, 6):
        live = frozenset(range(1, hosts + 1))
        every = all_pairs(hosts)
        for chosen in range(1 << len(every)):
            pairs = frozenset(p for k, p in enumerate(every) if chosen >> k & 1)
            for master in (0, 1, hosts):
                best, _ = best_set(live, pairs, master, vms)
                assert best in brute(live, pairs, master, vms), (pairs, master)
                count += 1
    assert count == 3 * (1 + 2 + 8 + 64 + 1024)


@given(maps())
def test_the_named_rule_is_the_one_that_decided(
    drawn: tuple[frozenset[int], Pairs, int, dict[int, int]],
) -> None:
    live, pairs, master, vms = drawn
    best, rule = best_set(live, pairs, master, vms)
    rivals = [
        frozenset(some)
        for some in combinations(sorted(live), len(best))
        if fully_linked(some, pairs) and frozenset(some) != best
    ]
    if not rivals:
        assert rule == "it is the largest fully linked set"
    elif rule == "it contains the master":
        assert master in best
        assert not all(master in r for r in rivals)
    elif rule == "more VMs run in it":
        assert all(score(r, master, vms)[2] < score(best, master, vms)[2] or master in best
                   for r in rivals)  # fmt: skip


def test_a_tie_goes_by_master_then_vms_then_lowest_slot() -> None:
    live, pairs = frozenset({1, 2, 3, 4}), frozenset({(1, 2), (3, 4)})
    better = "more of its hosts reach the witness"
    assert best_set(live, pairs, 3, {1: 9}, frozenset({1})) == (frozenset({1, 2}), better)
    assert best_set(live, pairs, 3, {1: 9}, frozenset({1, 3, 4})) == (frozenset({3, 4}), better)
    assert best_set(live, pairs, 3, {1: 9}) == (frozenset({3, 4}), "it contains the master")
    assert best_set(live, pairs, 0, {4: 1}) == (frozenset({3, 4}), "more VMs run in it")
    assert best_set(live, pairs, 0, {}) == (frozenset({1, 2}), "it has the lowest slot")


def test_nobody_alive_is_said() -> None:
    assert best_set(frozenset(), frozenset(), 1, {}) == (frozenset(), "nobody is alive")


def test_a_link_needs_both_ends() -> None:
    pairs = up_links({1: {2, 3}, 2: {1}, 3: set()})
    assert pairs == {(1, 2)}
    assert linked(pairs, 2, 1)
    assert not linked(pairs, 1, 3)


@given(st.dictionaries(st.integers(1, 7), st.frozensets(st.integers(1, 7))))
def test_links_are_what_both_ends_say(heard: dict[int, frozenset[int]]) -> None:
    expected = {
        (a, b)
        for a, b in all_pairs(7)
        if a in heard and b in heard and b in heard[a] and a in heard[b]
    }
    assert up_links(heard) == expected


def test_a_big_pool_still_gets_a_fully_linked_set_quickly() -> None:
    """Above EXACT_MAX the search is greedy: it need not be the largest, it must be one."""
    hosts = 2 * EXACT_MAX
    live = frozenset(range(1, hosts + 1))
    half = hosts // 2
    pairs = frozenset(
        (a, b) for a, b in all_pairs(hosts) if (a <= half) == (b <= half) and (a, b) != (1, 2)
    )
    best, _ = best_set(live, pairs, 1, {})
    assert fully_linked(tuple(sorted(best)), pairs)
    assert len(best) == half
