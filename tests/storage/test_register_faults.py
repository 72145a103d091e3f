"""The register on a storage that loses replies, executes late, fills up, lies and is collected.

The claims of outlast/storage/register.py against the truth kept by the pretended disk, over many
schedules; and the same check against registers with one rule taken out, to see that it can fail.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pretend_disk import Disk, Fault, PretendFiles, Schedule

from outlast.errors import StorageTrouble
from outlast.storage.posix import PosixRegister
from outlast.storage.register import Outcome

ROOT, NAME = Path("/pool"), "lease/web"
FOLDER = ROOT / "reg" / "lease" / "web"


@dataclass
class Story:
    """What one run came to."""

    truth: list[object] = field(default_factory=list)
    told: dict[tuple[int, int], tuple[int, Outcome | None, object]] = field(default_factory=dict)
    counts: dict[Outcome | None, int] = field(default_factory=dict)


def play(
    seed: int, kind: type[PosixRegister] = PosixRegister, hosts: int = 3, swaps: int = 6,
    fault_rate: float = 0.08, keep: int = 2,
) -> Story:  # fmt: skip
    """One run: each host reads and swaps, now and then with what it had read long ago."""
    disk = Disk()
    for folder in (ROOT, ROOT / "reg", ROOT / "tmp"):
        disk.folders[folder] = None
    schedule = Schedule(disk, seed, fault_rate)
    story = Story()

    def open_register(host: int, gate) -> PosixRegister:
        numbers = iter(range(10**6))
        return kind(
            ROOT, str(host), keep=keep, keep_age_s=0, settle_s=25, files=PretendFiles(disk, gate),
            nonce=lambda: f"{host}-{next(numbers)}", clock=lambda: disk.now, sleep=lambda _s: None,
        )  # fmt: skip

    def life(host: int) -> None:
        register = open_register(host, schedule.gate(host))
        done, newest = 0, 0
        for number in range(swaps):
            try:
                floor = done
                version, value = register.read(NAME)
                assert version >= max(newest, floor), "a reader went back"
                assert version <= len(disk.truth.get(FOLDER, [])), "a version that never was"
                assert value == (disk.truth[FOLDER][version - 1] if version else None)
                newest = version
            except StorageTrouble as trouble:
                assert "backwards" not in trouble.sentence, trouble.sentence
                assert "damaged" not in trouble.sentence, trouble.sentence
            mine = {"host": host, "number": number}
            story.told[host, number] = (newest, None, mine)  # sent, not answered yet
            try:
                answer = register.swap(NAME, newest, mine)
            except StorageTrouble as trouble:
                assert "backwards" not in trouble.sentence, trouble.sentence
                story.told[host, number] = (newest, Outcome.CONFLICT, mine)  # as certain as that
                continue
            story.told[host, number] = (newest, answer.outcome, mine)
            if answer.ok:
                assert answer.version == newest + 1
                done = answer.version

    schedule.run([lambda host=host: life(host) for host in range(hosts)])
    story.truth = disk.truth.get(FOLDER, [])
    judge(story, open_register(99, lambda _operation: Fault.NONE))
    return story


def judge(story: Story, reader: PosixRegister) -> None:
    """Rules 1, 2 and 4 of the port, after every outstanding link was executed."""
    for expected, outcome, value in story.told.values():
        story.counts[outcome] = story.counts.get(outcome, 0) + 1
        if outcome is Outcome.OK:
            assert story.truth[expected] == value, "told OK, but it was not the successor"
        elif outcome is Outcome.CONFLICT:
            assert value not in story.truth, "told CONFLICT, but it was written"
    winners = [expected for expected, outcome, _ in story.told.values() if outcome is Outcome.OK]
    assert len(winners) == len(set(winners)), "two winners of one version"
    version, value = reader.read(NAME)
    assert version == len(story.truth), "the newest version was lost"
    assert value == (story.truth[-1] if story.truth else None)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32), hosts=st.integers(2, 4), swaps=st.integers(2, 10),
    fault_rate=st.sampled_from([0.0, 0.03, 0.08, 0.2]), keep=st.integers(2, 4),
)  # fmt: skip
def test_every_answer_is_true(
    seed: int, hosts: int, swaps: int, fault_rate: float, keep: int
) -> None:
    play(seed, hosts=hosts, swaps=swaps, fault_rate=fault_rate, keep=keep)


def test_the_runs_contain_what_they_should() -> None:
    total: dict[Outcome | None, int] = {}
    for seed in range(40):
        for outcome, count in play(seed, fault_rate=0.15).counts.items():
            total[outcome] = total.get(outcome, 0) + count
    assert all(total.get(outcome, 0) >= 3 for outcome in (*Outcome, None)), total
    quiet = play(1, fault_rate=0, keep=50)
    assert quiet.counts.keys() <= {Outcome.OK, Outcome.CONFLICT}
    assert quiet.counts[Outcome.OK] == len(quiet.truth)


class NoPredecessor(PosixRegister):
    """Rule 3 left out: a link that succeeded is believed."""

    def _is_real(self, task, nonce) -> bool:
        return True


class ErrorIsFailure(PosixRegister):
    """Rule 4 left out: an error counts as a failed swap."""

    def _publish(self, task):
        try:
            outcome = self._attempt(task, True)
        except (OSError, StorageTrouble):
            return Outcome.CONFLICT
        return outcome or Outcome.CONFLICT


class NoNonce(PosixRegister):
    """Rule 2 left out: a taken name is a conflict, whoever wrote it."""

    def _attempt(self, task, first):
        outcome = super()._attempt(task, first)
        return outcome if first or outcome is None else Outcome.CONFLICT


@pytest.mark.parametrize("kind", [NoPredecessor, ErrorIsFailure, NoNonce])
def test_without_one_rule_an_answer_is_false(kind: type[PosixRegister]) -> None:
    for seed in range(3000):
        try:
            play(seed, kind, swaps=10, fault_rate=0.1)
        except AssertionError:
            return
    pytest.fail("3000 runs without a violation: the check has no teeth")
