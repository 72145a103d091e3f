"""Random runs: safety under faults, then recovery; and proof that the checks can fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from outlast.guard.core import GuardCore
from outlast.guard.facts import Reading
from outlast.pool import proof
from outlast.pool.facts import Sample, Seen
from outlast.settings import S, Timing
from outlast.sim.seeds import play

SEEDS = range(1, 121)
MUTANT_SEEDS = range(1, 60)


@pytest.mark.slow
def test_seeds_are_safe_and_recover() -> None:
    bad = [o for o in map(play, SEEDS) if o.kind != "ok"]
    assert not bad, "\n".join(f"seed {o.seed}: {o.kind}: {o.words}" for o in bad)


def test_a_seed_replays_exactly() -> None:
    assert play(3) == play(3)


def _impatient(seen: Seen, sample: Sample, timing: Timing, term: str, extra_ns: int = 0) -> bool:
    """Silence declared after one second, long before the silent host's guard has closed."""
    return bool(seen.block and seen.block.term == term and seen.still_ns >= 1 * S)


def _deaf(self: GuardCore, now: Reading) -> int:
    """A guard whose deadline never comes."""
    return 10 * S


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "name", "mutant"),
    [(proof, "silent", _impatient), (GuardCore, "remaining_ns", _deaf)],
    ids=["silence by an impatient timer", "a guard without a deadline"],
)
def test_a_rule_switched_off_is_caught(
    monkeypatch: pytest.MonkeyPatch, place: object, name: str, mutant: Callable[..., object]
) -> None:
    monkeypatch.setattr(place, name, mutant)
    assert any(play(seed).kind == "safety" for seed in MUTANT_SEEDS)
