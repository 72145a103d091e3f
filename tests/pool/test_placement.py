"""Where a VM goes, against a second opinion, and whether the reason names every host."""

from __future__ import annotations

from build import record
from hypothesis import given
from hypothesis import strategies as st

from outlast.placement.choose import Candidate, choose

HOSTS = "abcdef"


def host(slot: int, free_mib: int = 1000, vms: int = 0, closed: str = "") -> Candidate:
    return Candidate(slot, HOSTS[slot - 1], free_mib, vms, closed)


def test_the_most_free_memory_wins_then_fewer_vms_then_the_lower_slot() -> None:
    vm = record(memory_mib=100)
    assert choose(vm, [host(1, 500), host(2, 900)]).host == "b"
    assert choose(vm, [host(1, 500, vms=2), host(2, 500, vms=1)]).host == "b"
    assert choose(vm, [host(2, 500), host(1, 500)]).host == "a"


def test_memory_is_hard_to_the_last_mebibyte() -> None:
    assert choose(record(memory_mib=500), [host(1, 500)]).slot == 1
    refused = choose(record(memory_mib=501), [host(1, 500)])
    assert refused.slot == 0
    assert refused.why == "a has 500 MiB free of the 501 needed"


def test_preferred_hosts_are_the_only_ones() -> None:
    vm = record(memory_mib=100, preferred=("b",))
    assert choose(vm, [host(1, 9000), host(2, 200)]).host == "b"
    full = choose(vm, [host(1, 9000), host(2, 50)])
    assert full.slot == 0
    assert "a is not on its list of preferred hosts" in full.why
    assert "b has 50 MiB free" in full.why


def test_a_closed_host_never_blocks_a_start_elsewhere() -> None:
    made = choose(record(memory_mib=100), [host(1, 9000, closed="is dead"), host(2, 200)])
    assert made.host == "b"
    assert "a is dead" in made.why


def test_an_empty_pool_is_said() -> None:
    assert choose(record(), []).why == "the pool has no host"


candidates = st.lists(
    st.builds(
        host,
        slot=st.integers(1, 6),
        free_mib=st.integers(0, 2000),
        vms=st.integers(0, 5),
        closed=st.sampled_from(["", "", "is dead"]),
    ),
    unique_by=lambda c: c.slot,
    max_size=6,
)


@given(candidates, st.integers(1, 2000), st.frozensets(st.sampled_from(HOSTS), max_size=3))
def test_the_choice_is_the_one_that_trying_everything_finds(
    hosts: list[Candidate], need_mib: int, preferred: frozenset[str]
) -> None:
    vm = record(memory_mib=need_mib, preferred=tuple(sorted(preferred)))
    fit = [
        c
        for c in hosts
        if not c.closed and c.free_mib >= need_mib and (not preferred or c.host in preferred)
    ]
    made = choose(vm, hosts)
    if not fit:
        assert made.slot == 0
    else:
        best = min(fit, key=lambda c: (-c.free_mib, c.vms, c.slot))
        assert (made.slot, made.host) == (best.slot, best.host)
    for c in hosts:
        assert f"{c.host} " in made.why  # every candidate is accounted for
    assert made == choose(vm, list(reversed(hosts)))
