"""What a decision may never hold: a permission used before it is seen, a lease moved unproven."""

from __future__ import annotations

from dataclasses import replace

import pytest
from build import NOW, SETTINGS, Story, record, spec, story, term, view

from outlast.errors import BrokenInvariant
from outlast.model import Lease, Proof, ProofKind
from outlast.pool.core import PoolCore
from outlast.pool.decision import Decision, Start, Swap, check
from outlast.settings import S

PROOF = Proof(ProofKind.SILENT, 2, term(2), 1, "told")
MINE = Lease("web", 1, term(1), "start")


def start(vm: str = "web") -> Decision:
    return Decision(starts=(Start(vm, spec(vm), 1, "wanted"),))


def swap(lease: Lease) -> Decision:
    return Decision(swaps=(Swap(f"lease/{lease.vm}", 1, lease, "told"),))


def refused(told: Story, decision: Decision, word: str) -> None:
    with pytest.raises(BrokenInvariant, match=word):
        check(told.facts, decision)


def test_a_start_under_the_own_lease_in_the_own_view_is_fine() -> None:
    check(story().leased("web", 1).facts, start())


def test_no_start_without_seeing_the_lease() -> None:
    refused(story(), start(), "without seeing")
    refused(story().leased("web", 0), start(), "without seeing")
    refused(story().leased("web", 2), start(), "without seeing")
    refused(story().leased("web", 1, life=0), start(), "without seeing")


def test_no_lease_is_written_and_used_in_one_step() -> None:
    both = replace(start(), swaps=swap(MINE).swaps)
    refused(story().leased("web", 1), both, "written and used|taken over without")


def test_no_start_by_a_host_that_no_view_lists() -> None:
    outside = story().leased("web", 1)
    refused(outside.follows(view(2, 3)), start(), "no view lists")
    newer = replace(outside.facts, view=None)
    with pytest.raises(BrokenInvariant, match="no view lists"):
        check(newer, start())


def test_a_free_lease_is_taken_for_oneself_only() -> None:
    free = story().leased("web", 0)
    check(free.facts, swap(MINE))
    refused(free, swap(Lease("web", 2, term(2), "start")), "somebody else")
    refused(free, swap(Lease("web", 1, term(1, 0), "start")), "somebody else")


def test_a_held_lease_is_taken_with_a_proof_only() -> None:
    held = story().leased("web", 2)
    refused(held, swap(MINE), "without a proof")
    check(held.facts, swap(replace(MINE, via="takeover", proof=PROOF)))


def test_the_own_lease_is_freed_only_when_the_vm_is_gone() -> None:
    check(story().leased("web", 1).facts, swap(Lease("web")))
    refused(story().leased("web", 1).runs("web"), swap(Lease("web")), "still here")
    lingering = story().leased("web", 1).guard(populated=frozenset({"web"}))
    refused(lingering, swap(Lease("web")), "still here")


def test_nobody_frees_what_somebody_else_holds() -> None:
    """I8: freeing it and taking it free would move a lease without any proof."""
    with pytest.raises(BrokenInvariant):
        check(story().leased("web", 2).facts, swap(Lease("web")))


# ---- the core keeps to it


def test_a_permission_is_never_used_in_the_step_that_asks_for_it() -> None:
    """From the wish to the start, step by step, each seeing what the one before did."""
    core = PoolCore(SETTINGS)
    told = story(hosts=1).wants(record("web"))
    ordered = core.step(NOW + S, told.facts)
    assert [s.name for s in ordered.swaps] == ["order/1"]
    assert not ordered.starts


def test_the_largest_is_placed_first_so_that_all_find_room() -> None:
    """By name, the small one would take the room that only the large one needs."""
    told = story(hosts=2).shows(2, free_mib=3600)
    told = told.wants(record("a-small", memory_mib=1000)).wants(record("z-large", memory_mib=3800))
    ordered = PoolCore(SETTINGS).step(NOW + S, told.facts)
    said = [n.fields["vm"] for n in ordered.notes if n.code == "order-given"]
    assert said == ["z-large", "a-small"]
    assert {s.name for s in ordered.swaps} == {"order/1", "order/2"}


def test_a_vm_without_a_lease_is_ended_at_once() -> None:
    decision = PoolCore(SETTINGS).step(NOW + S, story().wants(record("web")).runs("web").facts)
    assert [k.vm for k in decision.kills] == ["web"]


def test_a_lease_of_a_living_host_is_left_alone() -> None:
    told = story().wants(record("web")).leased("web", 2)
    decision = PoolCore(SETTINGS).step(NOW + S, told.facts)
    assert not decision.swaps
    assert not decision.starts


def test_the_same_facts_give_the_same_decision() -> None:
    told = story().wants(record("web")).leased("web", 1).facts
    assert PoolCore(SETTINGS).step(NOW + S, told) == PoolCore(SETTINGS).step(NOW + S, told)


def test_nothing_starts_within_the_margin_before_the_deadline() -> None:
    told = story().wants(record("web")).leased("web", 1)
    margin = SETTINGS.timing.margin_ns
    late = PoolCore(SETTINGS).step(NOW + S, told.guard(remaining_ns=margin).facts)
    early = PoolCore(SETTINGS).step(NOW + S, told.guard(remaining_ns=margin + 1).facts)
    assert not late.starts
    assert [s.vm for s in early.starts] == ["web"]
