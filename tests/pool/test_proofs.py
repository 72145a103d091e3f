"""Silence and the proofs of death: each rule of silence.py and proof.py, from both sides."""

from __future__ import annotations

from dataclasses import replace

import pytest
from build import NOW, TIMING, Story, story, term, view
from hypothesis import given
from hypothesis import strategies as st

from outlast.model import BlockState, Proof, ProofKind
from outlast.pool.proof import Excluded, of_death
from outlast.pool.silence import limit_ns, silent
from outlast.settings import MS, PRESETS, RHO, S, Timing

DEAD = TIMING.dead_ns


def proof_of_b(
    told: Story, life: int = 1, known_ns: int = NOW - S, excluded: Excluded | None = None,
    extra_ns: int = 0,
) -> Proof | None:  # fmt: skip
    """What host a can say of a term of host b."""
    return of_death(
        told.facts, TIMING, 2, term(2, life),
        known_ns=known_ns, excluded=excluded or {}, extra_ns=extra_ns,
    )  # fmt: skip


def is_silent(told: Story, extra_ns: int = 0) -> bool:
    return silent(told.facts.seen[2], told.facts.sample, TIMING, term(2), extra_ns)


# ---- silence


def test_a_block_unchanged_for_t_dead_is_silent_and_not_a_nanosecond_earlier() -> None:
    assert is_silent(story().still(2, DEAD))
    assert not is_silent(story().still(2, DEAD - 1))


def test_the_victims_longer_promise_counts() -> None:
    slow = story().shows(2, dead_after_ms=120_000)
    limit = limit_ns(slow.facts.seen[2], TIMING)
    assert limit == int(120_000 * MS * (1 + RHO)) + TIMING.settle_ns
    assert not is_silent(slow.still(2, DEAD))
    assert not is_silent(slow.still(2, limit - 1))
    assert is_silent(slow.still(2, limit))


def test_a_shorter_promise_never_shortens_the_pools_own_limit() -> None:
    hasty = story().shows(2, dead_after_ms=1)
    assert limit_ns(hasty.facts.seen[2], TIMING) == DEAD
    assert not is_silent(hasty.still(2, DEAD - 1))


@pytest.mark.parametrize("good_ns", [0, TIMING.settle_ns - 1])
def test_storage_that_just_came_back_proves_nothing(good_ns: int) -> None:
    assert not is_silent(story().still(2, 2 * DEAD).sampled(run_ns=good_ns))


def test_the_run_of_good_reads_must_cover_settle_and_three_beats() -> None:
    enough = max(TIMING.settle_ns, 3 * TIMING.beat_ns)
    assert is_silent(story().still(2, DEAD).sampled(run_ns=enough))
    assert not is_silent(story().still(2, DEAD).sampled(run_ns=enough - 1))
    slow_beat = replace(TIMING, beat_ns=TIMING.settle_ns)
    told = story().still(2, DEAD).sampled(run_ns=TIMING.settle_ns).facts
    assert not silent(told.seen[2], told.sample, slow_beat, term(2))


def test_an_unreadable_block_is_neither_alive_nor_silent() -> None:
    told = story().still(2, 10 * DEAD).unreadable(2)
    assert not is_silent(told)
    assert proof_of_b(told) is None


def test_silence_is_about_one_life() -> None:
    told = story().still(2, 10 * DEAD).facts
    assert not silent(told.seen[2], told.sample, TIMING, term(2, 2))


def test_the_storm_brake_adds_to_the_limit() -> None:
    assert not is_silent(story().still(2, 2 * DEAD - 1), extra_ns=DEAD)
    assert is_silent(story().still(2, 2 * DEAD), extra_ns=DEAD)


@given(
    timing=st.sampled_from(list(PRESETS.values())),
    promise_ms=st.integers(0, 600_000),
    rate=st.floats(1 - RHO, 1 + RHO),
)
def test_no_silent_host_can_still_run_by_its_own_promise(
    timing: Timing, promise_ms: int, rate: float
) -> None:
    """On the victim's clock its promise is over before the observer's limit, settle time left."""
    told = story().shows(2, dead_after_ms=promise_ms)
    limit = limit_ns(told.facts.seen[2], timing)
    victim_needs_ns = promise_ms * MS * rate
    assert victim_needs_ns + timing.settle_ns <= limit + 1


# ---- P1


def test_p1_closed_for_that_term() -> None:
    made = proof_of_b(story().shows(2, state=BlockState.CLOSED))
    assert made is not None
    assert made.kind is ProofKind.CLOSED
    assert (made.slot, made.term, made.by_slot) == (2, term(2), 1)


@pytest.mark.parametrize("state", [s for s in BlockState if s is not BlockState.CLOSED])
def test_p1_nothing_but_closed_is_closed(state: BlockState) -> None:
    assert proof_of_b(story().shows(2, state=state)) is None


def test_p1_a_newer_term() -> None:
    made = proof_of_b(story().shows(2, term=term(2, 2), state=BlockState.JOINING))
    assert made is not None
    assert made.kind is ProofKind.CLOSED


@pytest.mark.parametrize("known_ns", [NOW, NOW + S])
def test_p1_a_block_read_before_the_record_was_known_proves_nothing(known_ns: int) -> None:
    """The lease names a NEWER life of b; the block was read before that life began."""
    old_block = story().shows(2, term=term(2, 1))
    assert proof_of_b(old_block, life=2, known_ns=known_ns) is None
    assert proof_of_b(story().shows(2, state=BlockState.CLOSED), known_ns=known_ns) is None


def test_p1_an_earlier_term_of_this_host_itself() -> None:
    facts = story().facts
    earlier = of_death(facts, TIMING, 1, term(1, 0), known_ns=NOW - S, excluded={})
    assert earlier is not None
    assert earlier.kind is ProofKind.CLOSED
    assert of_death(facts, TIMING, 1, term(1), known_ns=NOW - S, excluded={}) is None


# ---- P2


def test_p2_silence_names_its_numbers() -> None:
    made = proof_of_b(story().still(2, DEAD))
    assert made is not None
    assert made.kind is ProofKind.SILENT
    for number in ("60.0 s", "limit 60 s", "1000.0 s"):
        assert number in made.evidence


def test_p2_stands_on_the_older_read_when_the_newest_failed() -> None:
    told = story().still(2, DEAD).sampled(good=False)
    made = proof_of_b(told)
    assert made is not None
    assert made.kind is ProofKind.SILENT


# ---- P3

B_OUT = view(1, 3, version=2, kind="exclude")


def excluded_for(ns: int, life: int = 1) -> dict[tuple[int, str], int]:
    return {(2, term(2, life)): NOW - ns}


def test_p3_excluded_for_t_dead_and_not_earlier() -> None:
    told = story().follows(B_OUT)
    made = proof_of_b(told, excluded=excluded_for(DEAD))
    assert made is not None
    assert made.kind is ProofKind.EXCLUDED
    assert proof_of_b(told, excluded=excluded_for(DEAD - 1)) is None


def test_p3_needs_a_view_that_leaves_the_term_out() -> None:
    assert proof_of_b(story(), excluded=excluded_for(5 * DEAD)) is None


def test_p3_needs_a_good_read() -> None:
    told = story().follows(B_OUT).sampled(good=False)
    assert proof_of_b(told, excluded=excluded_for(5 * DEAD)) is None


def test_p3_the_victims_longer_promise_and_the_brake_count() -> None:
    slow = story().follows(B_OUT).shows(2, dead_after_ms=120_000)
    assert proof_of_b(slow, excluded=excluded_for(DEAD)) is None
    quick = story().follows(B_OUT)
    assert proof_of_b(quick, excluded=excluded_for(DEAD), extra_ns=1) is None


# ---- P5: nothing else


def test_a_host_that_writes_is_alive_whatever_else_is_wrong() -> None:
    told = story().shows(2, agent_away_ms=10**9, heard=frozenset(), free_mib=0, vm_count=0)
    cut_off = replace(told.facts, links={3: 0})
    assert of_death(cut_off, TIMING, 2, term(2), known_ns=NOW - S, excluded={}) is None


def test_a_slot_never_seen_proves_nothing() -> None:
    facts = story().facts
    assert of_death(facts, TIMING, 9, term(9), known_ns=NOW - S, excluded={}) is None


@given(
    still_ns=st.integers(0, 3 * DEAD),
    run_ns=st.integers(0, 60 * S),
    state=st.sampled_from(BlockState),
    life=st.sampled_from([1, 2]),
    known_ns=st.sampled_from([NOW - S, NOW, NOW + S]),
    out_ns=st.one_of(st.none(), st.integers(0, 3 * DEAD)),
)
def test_every_proof_has_one_of_the_three_grounds(
    still_ns: int, run_ns: int, state: BlockState, life: int, known_ns: int, out_ns: int | None
) -> None:
    """A second opinion, written from docs/PROTOCOL.md and not from the code."""
    told = story().follows(B_OUT).still(2, still_ns).sampled(run_ns=run_ns)
    told = told.shows(2, term=term(2, life), state=state)
    excluded = {} if out_ns is None else excluded_for(out_ns)
    p1 = known_ns < NOW and (life == 2 or state is BlockState.CLOSED)
    enough = max(TIMING.settle_ns, 3 * TIMING.beat_ns)
    p2 = life == 1 and still_ns >= DEAD and run_ns >= enough
    p3 = out_ns is not None and out_ns >= DEAD
    made = proof_of_b(told, known_ns=known_ns, excluded=excluded)
    assert (made is not None) == (p1 or p2 or p3)
