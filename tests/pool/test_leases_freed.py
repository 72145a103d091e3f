"""When a lease is given back: not before nothing that its VM wrote can still be on its way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from build import NOW, SETTINGS, TIMING, Story, record, story

from outlast.model import Desired, Lease
from outlast.pool.core import PoolCore
from outlast.pool.facts import Exit, Result
from outlast.settings import S

X_NS = TIMING.settle_ns
WANTED = story().wants(record()).leased("web", 1)
UNWANTED = WANTED.wants(record(desired=Desired.STOPPED), version=2)
BEGUN = Result("start", "web", True)
FAILED = Result("start", "web", False, "other", "QEMU ended at once")


class Life:
    """One agent of host a that has seen `web` run. Its storage answers, unless a test says so."""

    def __init__(self, seen: bool = True) -> None:
        self.core = PoolCore(SETTINGS)
        self.told: list[str] = []
        if seen:
            self.core.step(NOW, WANTED.runs("web").facts)

    def freed(
        self, after_ns: int, told: Story = UNWANTED, *happened: Exit | Result,
        asked_ns: int = -1, **sample: object,
    ) -> bool:  # fmt: skip
        """Is the lease free, so long after it was seen running? asked_ns: when the storage was
        asked what it has answered now; it answers at once by default."""
        asked_ns = after_ns if asked_ns < 0 else asked_ns
        told = told.sampled(started_ns=NOW + asked_ns, **sample)
        exits = tuple(one for one in happened if isinstance(one, Exit))
        results = tuple(one for one in happened if isinstance(one, Result))
        facts = replace(told.facts, exits=exits, results=results)
        decision = self.core.step(NOW + after_ns, facts)
        self.told += [note.sentence for note in decision.notes]
        return any(isinstance(s.value, Lease) and not s.value.held for s in decision.swaps)


@pytest.mark.parametrize("kind", ["crashed", "killed"])
def test_a_killed_vm_keeps_its_lease_until_the_storage_has_answered_for_x(kind: str) -> None:
    life = Life()
    assert not life.freed(1 * S, UNWANTED, Exit("web", kind))
    assert not life.freed(2 * S)
    assert not life.freed(2 * S + X_NS - 1)
    assert life.freed(2 * S + X_NS)


def test_a_question_that_hung_is_not_answered_all_the_while() -> None:
    """It is no break in the run of answers, and yet nothing was executed meanwhile."""
    life = Life()
    assert not life.freed(1 * S, UNWANTED, Exit("web", "crashed"))
    assert not life.freed(5 * S, asked_ns=1 * S + 1)
    assert not life.freed(2 * S + X_NS)
    assert not life.freed(5 * S + X_NS - 1)
    assert life.freed(5 * S + X_NS)


def test_storage_that_was_away_must_answer_for_x_again() -> None:
    life = Life()
    assert not life.freed(1 * S, UNWANTED, Exit("web", "crashed"))
    assert not life.freed(60 * S, good=False, steady_ns=0)
    assert not life.freed(61 * S, steady_ns=0)
    assert not life.freed(61 * S + X_NS - 1, steady_ns=X_NS - 1)
    assert life.freed(61 * S + X_NS, steady_ns=X_NS)


def test_storage_that_seemed_to_stand_still_must_answer_for_x_again() -> None:
    """In the middle of X, for less than what breaks the run of good reads."""
    life = Life()
    assert not life.freed(1 * S, UNWANTED, Exit("web", "crashed"))
    assert not life.freed(2 * S)
    assert not life.freed(2 * S + X_NS, steady_ns=X_NS - 1)
    assert life.freed(3 * S + X_NS, steady_ns=X_NS)


def test_a_storage_that_pauses_for_long_is_told_once() -> None:
    life, told = Life(), f"has not answered for {X_NS / S:g} s without a pause yet"
    for after_ns in range(1 * S, 10 * X_NS, S):
        exits = (Exit("web", "crashed"),) if after_ns == S else ()
        assert not life.freed(after_ns, UNWANTED, *exits, steady_ns=0)
        assert after_ns > 4 * X_NS or not any(told in said for said in life.told)
    assert sum(told in said for said in life.told) == 1


def test_a_vm_that_shut_itself_down_has_flushed() -> None:
    life = Life()
    assert not life.freed(1 * S, UNWANTED, Exit("web", "shutdown"))  # told first
    assert life.freed(2 * S)


def test_a_new_agent_does_not_know_how_it_ended() -> None:
    life = Life(seen=False)
    assert not life.freed(0)
    assert not life.freed(1)
    assert not life.freed(X_NS)
    assert life.freed(1 + X_NS)


def test_a_start_that_failed_after_a_death_waits_too() -> None:
    life = Life()
    assert not life.freed(1 * S, WANTED, Exit("web", "crashed"))
    assert not life.freed(1 * S + 1, WANTED)  # it is begun again
    assert not life.freed(2 * S, WANTED, FAILED)
    assert not life.freed(3 * S, WANTED)
    assert not life.freed(3 * S + X_NS - 1, WANTED)
    assert life.freed(3 * S + X_NS, WANTED)
    assert life.told.count("web is being started on a: it died here; restart 1 of at most 5") == 1


def test_a_start_that_failed_may_have_had_a_qemu_that_wrote() -> None:
    """Also when nothing of the VM was ever seen here."""
    life = Life(seen=False)
    assert not life.freed(0, WANTED)
    assert not life.freed(1 * S, WANTED, FAILED)
    assert not life.freed(2 * S, WANTED)
    assert not life.freed(2 * S + X_NS - 1, WANTED)
    assert life.freed(2 * S + X_NS, WANTED)


def test_one_that_died_before_it_was_seen_has_run() -> None:
    """It lived between two looks: its death is told and counted, and its writes are waited for."""
    life = Life(seen=False)
    assert not life.freed(0, WANTED)
    assert not life.freed(1 * S, WANTED, BEGUN, Exit("web", "crashed", "killed"))
    assert "web died on a: killed" in life.told
    assert not life.freed(2 * S, WANTED)  # it is begun again
    assert not life.freed(3 * S, WANTED, FAILED)
    assert not life.freed(4 * S, WANTED)
    assert not life.freed(4 * S + X_NS - 1, WANTED)
    assert life.freed(4 * S + X_NS, WANTED)


def test_one_that_dies_each_time_before_it_is_seen_stays_down_at_last() -> None:
    life = Life(seen=False)
    for after_ns in range(0, 60 * S, 5 * S):
        life.freed(after_ns, WANTED)
        life.freed(after_ns + 1 * S, WANTED, BEGUN, Exit("web", "crashed"))
    assert any("died 6 times" in said for said in life.told)
