"""Proofs of death of one life (slot, term). A proof once true stays true for ever.

Rules:
1. P1 the slot's block says closed for this term, or shows another term. "Another" counts only when
   the block was read after the lease or view that names the old term was, so it must be newer.
2. P2 silence (silence.py).
3. P3 this host's own confirmed block has named, for at least T_dead, a view without the term: its
   guard cannot have been fed since.
4. P4 the register `fence/<slot>` says that the host of this term is off: its power switch or a
   person did. After that was read here, the settle time and three beats of good reads must have
   shown the block unchanged: a host that still writes is not off, whoever says so.
5. Nothing else proves death: no ping, no libvirt, no timer.
6. P2 and P3 count only while no block names a view newer than the one followed: a host may live on
   time that the members of the view its block names have given it.
"""

from __future__ import annotations

from collections.abc import Mapping

from outlast.model import BlockState, Proof, ProofKind
from outlast.pool.facts import Facts
from outlast.pool.silence import limit_ns, silent
from outlast.settings import S, Timing

Excluded = Mapping[tuple[int, str], int]  # (slot, term) -> since when our block announces it


def of_death(
    facts: Facts, timing: Timing, slot: int, term: str, *, known_ns: int, excluded: Excluded,
    extra_ns: int = 0,
) -> Proof | None:  # fmt: skip
    """The strongest proof that (slot, term) runs nothing any more, or None.

    known_ns: when the record that names the term was read; a block read before proves nothing.
    """
    made = _by_block(facts, slot, term, known_ns)
    made = made or _by_fence(facts, timing, slot, term)
    if made:
        return made
    seen, since = facts.seen.get(slot), excluded.get((slot, term))
    quiet = seen is not None and silent(seen, facts.sample, timing, term, extra_ns)
    if (not quiet and since is None) or _blind(facts):
        return None
    if quiet and seen and seen.block:
        evidence = (
            f"block {seen.block.seq} unchanged for {seen.still_ns / S:.1f} s, "
            f"limit {limit_ns(seen, timing) / S:g} s, "
            f"reads good for {facts.sample.run_ns / S:.1f} s"
        )
        return Proof(ProofKind.SILENT, slot, term, facts.me.slot, evidence)
    if since is None or facts.view is None or facts.view.lists(slot, term):
        return None
    limit = limit_ns(seen, timing) if seen else timing.dead_ns
    if facts.sample.started_ns - since >= limit + extra_ns and facts.sample.good:
        waited = (facts.sample.started_ns - since) / S
        evidence = f"out of the views announced here for {waited:.1f} s, limit {limit / S:g} s"
        return Proof(ProofKind.EXCLUDED, slot, term, facts.me.slot, evidence)
    return None


def _by_fence(facts: Facts, timing: Timing, slot: int, term: str) -> Proof | None:
    held, seen, sample = facts.fences.get(slot), facts.seen.get(slot), facts.sample
    if held is None or held.value.term != term or seen is None or seen.block is None:
        return None
    least_ns = min(seen.still_ns, sample.run_ns, sample.started_ns - held.read_ns)
    if slot == facts.me.slot or least_ns < max(timing.settle_ns, 3 * timing.beat_ns):
        return None
    who = "its power switch" if held.value.how == "switch" else held.value.by
    evidence = (
        f"{who} says that it is off, block {seen.block.seq} unchanged for {seen.still_ns / S:.1f} s"
    )
    return Proof(ProofKind.FENCED, slot, term, facts.me.slot, evidence)


def _blind(facts: Facts) -> bool:
    """Rule 6."""
    followed = facts.view.version if facts.view else 0
    return any(s.block and s.block.view_version > followed for s in facts.seen.values())


def _by_block(facts: Facts, slot: int, term: str, known_ns: int) -> Proof | None:
    if slot == facts.me.slot:
        if term == facts.term:
            return None
        evidence = f"this host's own earlier term; it is in term {facts.term[:8]} now"
        return Proof(ProofKind.CLOSED, slot, term, slot, evidence)
    seen = facts.seen.get(slot)
    if seen is None or seen.block is None or facts.sample.started_ns <= known_ns:
        return None
    block = seen.block
    if block.term == term and block.state is BlockState.CLOSED:
        return Proof(ProofKind.CLOSED, slot, term, facts.me.slot, f"block {block.seq} says closed")
    if block.term != term:
        evidence = f"block {block.seq} shows term {block.term[:8]}, so {term[:8]} is over"
        return Proof(ProofKind.CLOSED, slot, term, facts.me.slot, evidence)
    return None
