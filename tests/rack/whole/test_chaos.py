"""Chaos on a real pool: random faults from a seed, round after round, and the truth after each.

    make chaos MINUTES=10          or: OUTLAST_CHAOS_S=600 OUTLAST_SEED=7 pytest ...

After each round everything is healed, and then: every VM runs within a bound, no two QEMUs of one
VM ever lived at once, the disks prove one writer and no lost acknowledged write, views and leases
are sound chains.
"""

from __future__ import annotations

import os
import time

import pytest
from chaos import Chaos, want_all, wrong
from evidence import Lives, Story
from healing import restore

from outlast.rack.lab import Lab

SECONDS = float(os.environ.get("OUTLAST_CHAOS_S", "300"))
ROUND_S = 25.0

pytestmark = [pytest.mark.rack, pytest.mark.alone, pytest.mark.timeout(SECONDS + 300)]


def test_nothing_that_must_not_be_ever_is(lab: Lab) -> None:
    seed = int(os.environ.get("OUTLAST_SEED", time.time_ns() % 1_000_000))
    until = time.monotonic() + SECONDS
    rounds = faults = 0
    with Lives(lab) as lives:
        while time.monotonic() < until:
            rounds += 1
            chaos = Chaos(lab, seed * 1000 + rounds)
            story, ends = Story(lab), time.monotonic() + ROUND_S
            try:
                while time.monotonic() < min(ends, until):
                    chaos.hurt()
                restore(lab, before=want_all)
                found = wrong(lab, lives)
            finally:
                faults += len(chaos.done)
                print(f"OUTLAST_SEED={seed}, round {rounds}, at {story.since_wall_s:.0f}:")
                print("\n".join(chaos.done))
            assert not found, f"OUTLAST_SEED={seed}, round {rounds}"
    print(f"{rounds} rounds, {faults} faults, {len(lives.over)} QEMUs ended: nothing was wrong")
