"""Random runs: safety under faults, then recovery; and proof that the checks can fail."""

from __future__ import annotations

import os

import pytest
from mutants import BY_NAME, hunt

from outlast.sim.seeds import play
from outlast.sim.soak import Tally, soak

SECONDS = float(os.environ.get("OUTLAST_SIM_S", "20"))
# those that are caught within few seeds; `make mutants` plays all
QUICK = ("impatient", "too-soon", "deaf", "old-term", "watchdog", "by-slot", "overwrite",
         "harmless", "sure")  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_seeds_are_safe_and_recover() -> None:
    tally = soak(Tally("", 1, 1), SECONDS)
    print(tally.sentence())
    assert not tally.failures
    assert tally.counts == {"ok": tally.played}


def test_a_seed_replays_exactly() -> None:
    assert play(3) == play(3)


@pytest.mark.patient
@pytest.mark.parametrize("name", QUICK)
def test_a_rule_switched_off_is_caught(name: str) -> None:
    assert hunt(BY_NAME[name], 80).seed, f"{BY_NAME[name].rule}: nobody noticed"


def test_nothing_is_left_switched_off() -> None:
    before = {(m.name, at): vars(place)[name] for m in BY_NAME.values()
              for at, (place, name, _) in enumerate(m.patches)}  # fmt: skip
    hunt(BY_NAME["overwrite"], 1)
    after = {(m.name, at): vars(place)[name] for m in BY_NAME.values()
             for at, (place, name, _) in enumerate(m.patches)}  # fmt: skip
    assert before == after
