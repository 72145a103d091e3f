"""Rule 8 of pool/hosting.py switched off, piece by piece: the story of disks that are worked on
notices each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from outlast.model import Lease
from outlast.pool import hosting
from outlast.pool.decision import DISKS
from outlast.pool.facts import Facts, Held
from outlast.pool.hosting import Hosting, Work
from outlast.sim.scenario import Player

STORY = Path(__file__).parent.parent / "scenarios/vms/disks_worked_on.txt"
after_disk_work = Hosting._after_disk_work


def idle(self: Hosting, now_ns: int, facts: Facts, vm: str, held: Held[Lease], work: Work) -> None:
    """The hands' word that work is under way does not count."""
    idle = replace(facts, busy=facts.busy - {(DISKS, vm)})
    after_disk_work(self, now_ns, idle, vm, held, work)


def trusting(
    self: Hosting, _now_ns: int, facts: Facts, vm: str, held: Held[Lease], work: Work
) -> None:
    """What is left of the work is not ended before the lease is freed."""
    if (DISKS, vm) not in facts.busy:
        self._free(facts, vm, held, work, "it will be fine")


def lazy(self: Hosting, _now_ns: int, facts: Facts, vm: str, held: Held[Lease], work: Work) -> None:
    """Nobody frees the lease of work that lost its agent."""


def wrong() -> list[str]:
    happened = Player().play(STORY.read_text(encoding="utf-8"))
    return [line for line in happened.splitlines() if line.startswith(("BROKEN", "WRONG"))]


def test_with_the_rule_nothing_is_wrong() -> None:
    assert wrong() == []


@pytest.mark.parametrize("instead", [idle, trusting, lazy])
def test_without_a_piece_of_the_rule_the_story_breaks(
    instead: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hosting, "_after_disk_work", instead)
    assert wrong()


def test_a_lease_for_work_is_none_for_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "DISKS", "never")
    assert wrong()
