"""Who is switched off, who never is, and what comes of what the switch says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import TERMS, MemoryService

from outlast.agent.fencer import Fencer, targets
from outlast.equipment import PowerSwitch
from outlast.errors import StorageTrouble
from outlast.model import BlockState, Fence
from outlast.pool.facts import Facts, Held, Seen
from outlast.pool.proof import of_death
from outlast.power.port import Fenced, Outcome, SwitchSaid
from outlast.settings import PRESETS, S

TIMING = PRESETS["standard"]
SWITCH = PowerSwitch(2, "uuid-2", "fence_dummy")


class Switch:
    """A power switch that says what the test wants, and remembers whom it switched off."""

    def __init__(self, outcome: Outcome = Outcome.OFF) -> None:
        self.outcome, self.off = outcome, list[tuple[int, str]]()

    def fence(self, slot: int, uuid: str, limit_s: float) -> Fenced:
        self.off.append((slot, uuid))
        return Fenced(self.outcome, "the switch says so")

    def test(self, slot: int, uuid: str, limit_s: float) -> SwitchSaid:
        raise AssertionError("nobody asked for that")


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    """Host a looks; b has neither written nor been heard for a second longer than F."""
    made = MemoryService(tmp_path)
    silent(made, 2, TIMING.fence_ns + S)
    return made


def silent(service: MemoryService, slot: int, still_ns: int) -> None:
    service.seen[slot] = replace(service.seen[slot], still_ns=still_ns)
    service.links[slot] = still_ns


def fencer(service: MemoryService, switch: Switch, wired: int = 2) -> Fencer:
    return Fencer(
        service, lambda slot: SWITCH if slot == wired else None, switch, service.told.append
    )


def codes(service: MemoryService) -> list[str]:
    return [said.code for said in service.told]


def test_a_silent_host_is_switched_off_once_and_that_is_written(service: MemoryService) -> None:
    switch = Switch()
    ours = fencer(service, switch)
    ours.step()
    ours.step()
    assert switch.off == [(2, "uuid-2")]
    fence = service.fences[2].value
    assert (fence.term, fence.how, fence.by) == (TERMS[2], "switch", "a")
    assert codes(service) == ["fence-begins"]


def test_what_is_written_is_a_proof_once_the_block_was_looked_at_again(
    service: MemoryService,
) -> None:
    fencer(service, Switch()).step()
    facts = replace(service.facts(1000 * S), fences=service.fences)
    proof = of_death(facts, TIMING, 2, TERMS[2], known_ns=0, excluded={})
    assert proof is not None and "its power switch" in proof.evidence
    writes = replace(facts, seen={**facts.seen, 2: replace(facts.seen[2], still_ns=S)})
    assert of_death(writes, TIMING, 2, TERMS[2], known_ns=0, excluded={}) is None


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN])
def test_a_switch_that_proves_nothing_changes_nothing(
    service: MemoryService, outcome: Outcome
) -> None:
    switch = Switch(outcome)
    ours = fencer(service, switch)
    ours.step()
    ours.step()
    assert len(switch.off) == 1 and not service.fences
    assert codes(service) == ["fence-begins", "fence-failed"]


def test_without_a_switch_nobody_is_switched_off(service: MemoryService) -> None:
    switch = Switch()
    fencer(service, switch, wired=3).step()
    assert not switch.off and not service.told


def test_what_cannot_be_written_is_said(
    service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_slot: int) -> None:
        raise StorageTrouble("the storage is away")

    monkeypatch.setattr(service, "read_fence", fails)
    fencer(service, Switch()).step()
    assert codes(service)[-1] == "fence-failed" and "storage is away" in service.told[-1].sentence


def _writes(service: MemoryService) -> None:
    service.seen[2] = replace(service.seen[2], still_ns=TIMING.fence_ns - S)


def _heard(service: MemoryService) -> None:
    service.links[2] = TIMING.link_lost_ns - S


def _unreadable(service: MemoryService) -> None:
    service.seen[2] = Seen(None, TIMING.fence_ns + S)


def _another_term(service: MemoryService) -> None:
    seen = service.seen[2]
    assert seen.block is not None
    block = replace(seen.block, term="9" * 32, state=BlockState.JOINING)
    service.seen[2] = replace(seen, block=block)


def _most_silent(service: MemoryService) -> None:
    silent(service, 3, TIMING.gap_ns)


def _known_off(service: MemoryService) -> None:
    service.fences[2] = Held(1, Fence(2, TERMS[2], "anna"), 0)


def _guard_closed(service: MemoryService) -> None:
    service.guard = replace(service.guard, remaining_ns=0)


@pytest.mark.parametrize(
    "sign", [_writes, _heard, _unreadable, _another_term, _most_silent, _known_off, _guard_closed]
)
def test_who_is_never_switched_off(
    service: MemoryService, sign: Callable[[MemoryService], None]
) -> None:
    sign(service)
    facts = replace(service.facts(1000 * S), fences=service.fences)
    assert targets(facts, TIMING) == []


@pytest.mark.parametrize(
    "blind",
    [
        lambda f: replace(f, sample=replace(f.sample, good=False)),
        lambda f: replace(f, sample=replace(f.sample, run_ns=TIMING.fence_ns - S)),
    ],
)
def test_who_has_not_looked_for_long_enough_shoots_nobody(
    service: MemoryService, blind: Callable[[Facts], Facts]
) -> None:
    assert targets(service.facts(1000 * S), TIMING) == [(2, TERMS[2])]
    assert targets(blind(service.facts(1000 * S)), TIMING) == []


def test_of_two_hosts_the_silent_one_is_switched_off(service: MemoryService) -> None:
    assert service.view is not None
    members = {slot: m for slot, m in service.view.members.items() if slot != 3}
    service.view = replace(service.view, members=members)
    assert targets(service.facts(1000 * S), TIMING) == [(2, TERMS[2])]


def test_the_lowest_living_member_does_it(tmp_path: Path) -> None:
    other = MemoryService(tmp_path, slot=3)
    silent(other, 2, TIMING.fence_ns + S)
    assert targets(other.facts(1000 * S), TIMING) == [], "host a does it"
    one = MemoryService(tmp_path, slot=2)
    silent(one, 1, TIMING.fence_ns + S)
    assert targets(one.facts(1000 * S), TIMING) == [(1, TERMS[1])]
