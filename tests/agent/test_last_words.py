"""The post-mortem of a host that went down: told by its next life, once, and never wrongly."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import SETTINGS, MemoryService

from outlast.agent.last_words import LastWords, load
from outlast.agent.notebook import linked
from outlast.agent.why import why_host
from outlast.model import GuardState, LocalVm, VmState
from outlast.pool.facts import Facts
from outlast.settings import S
from outlast.wire.shapes import TimelineEntry


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    found = MemoryService(tmp_path).picture.facts
    assert found is not None
    return found


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def lived(path: Path, facts: Facts, reason: str = "") -> None:
    """A life in boot 1 that ends with these facts, without a farewell."""
    words = LastWords(path, "a", "boot-1")
    assert words.begin() == []
    words.keep(facts, SETTINGS.timing, reason)
    state = facts.guard.state.value
    wait_for(lambda: (load(path) or {}).get("state") == state)


@pytest.mark.parametrize(
    ("state", "good", "said"),
    [
        (GuardState.OPEN, True, "nothing was amiss in its last word"),
        (GuardState.OPEN, False, "its storage had not confirmed a beat for 38.0 s and its guard "
                                 "would have ended its VMs 2.0 s later"),
        (GuardState.RESETTING, True, "its guard had ended its VMs (past its deadline)"),
    ],
)  # fmt: skip
def test_another_boot_explains_the_last_one(
    tmp_path: Path, facts: Facts, state: GuardState, good: bool, said: str
) -> None:
    guard = replace(facts.guard, remaining_ns=2 * S, state=state)
    sample = replace(facts.sample, good=good)
    path = tmp_path / "words"
    lived(path, replace(facts, guard=guard, sample=sample), "past its deadline")
    (told,) = LastWords(path, "a", "boot-2").begin()
    assert told.code == "guard-ended"
    assert said in told.sentence


def test_an_agent_that_only_restarts_or_took_leave_explains_nothing(
    tmp_path: Path, facts: Facts
) -> None:
    path = tmp_path / "words"
    lived(path, facts)
    same_boot = LastWords(path, "a", "boot-1")
    assert same_boot.begin() == []
    same_boot.close()
    assert LastWords(path, "a", "boot-2").begin() == []


@pytest.mark.parametrize(
    ("state", "term", "said"),
    [
        (GuardState.OPEN, "t" * 32, ""),
        (GuardState.OPEN, "u" * 32, "a new term is open since"),
        (GuardState.CLOSED, "t" * 32, "past its deadline"),
    ],
)
def test_a_guard_that_ended_vms_while_the_agent_was_away_is_told_once(
    tmp_path: Path, facts: Facts, state: GuardState, term: str, said: str
) -> None:
    path, here = tmp_path / "words", {"web": LocalVm("web", VmState.RUNNING)}
    opened = replace(facts.guard, state=GuardState.OPEN, term="t" * 32)
    lived(path, replace(facts, guard=opened, local=here))
    words = LastWords(path, "a", "boot-1")
    assert words.begin() == []
    now = replace(facts, guard=replace(opened, state=state, term=term), local={})
    unheard = replace(now, local_ready=False)
    assert words.keep(unheard, SETTINGS.timing, "past its deadline") == []
    told = words.keep(now, SETTINGS.timing, "past its deadline")
    assert [n.code for n in told] == (["term-ended"] if said else [])
    if told:
        assert "ended 1 VM while its agent was away" in told[0].sentence
        assert said in told[0].sentence
    assert words.keep(now, SETTINGS.timing, "past its deadline") == []


@pytest.mark.parametrize("data", [b"", b"[1]", b"{torn", b"\xff"])
def test_words_that_cannot_be_read_are_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "words"
    path.write_bytes(data)
    assert LastWords(path, "a", "boot-2").begin() == []


def test_a_vm_that_came_is_written_at_once(tmp_path: Path, facts: Facts) -> None:
    path = tmp_path / "words"
    lived(path, facts)
    words = LastWords(path, "a", "boot-1")
    words.begin()
    words.keep(facts, SETTINGS.timing, "")
    wait_for(lambda: (load(path) or {}).get("vms") == 0)
    here = {"web": LocalVm("web", VmState.RUNNING)}
    words.keep(replace(facts, local=here), SETTINGS.timing, "")
    wait_for(lambda: (load(path) or {}).get("vms") == 1)


def test_a_place_that_cannot_be_written_stops_nobody(tmp_path: Path, facts: Facts) -> None:
    words = LastWords(tmp_path / "none/words", "a", "boot-1")
    words.begin()
    words.keep(facts, SETTINGS.timing, "")
    words.close()


def test_its_own_word_stands_beside_what_the_others_saw() -> None:
    told = (
        ("c", "storage-sick", {"host": "c", "why": "w"}),
        ("a", "host-silent", {"host": "c", "still_s": 61.0, "limit_s": 60.0}),
        ("c", "guard-ended", {"host": "c", "ago_s": 90.0, "why": "w"}),
    )
    notes = linked(
        [
            {"wall_s": float(n), "host": host, "code": code, "sentence": code, "fields": fields}
            for n, (host, code, fields) in enumerate(told)
        ]
    )
    why = why_host("c", [TimelineEntry.model_validate(n) for n in notes])
    assert [s.code for s in why.steps] == ["storage-sick", "host-silent", "guard-ended"]


def test_a_drill_is_a_last_word(tmp_path: Path, facts: Facts) -> None:
    path = tmp_path / "words"
    words = LastWords(path, "a", "boot-1")
    words.begin()
    words.keep(replace(facts, local={"web": LocalVm("web", VmState.RUNNING)}), SETTINGS.timing, "")
    words.drill("power")
    wait_for(lambda: (load(path) or {}).get("drill") == "power")
    closing = replace(facts, guard=replace(facts.guard, state=GuardState.CLOSING))
    words.keep(closing, SETTINGS.timing, "a drill")
    (told,) = LastWords(path, "a", "boot-2").begin()
    assert "a drill of its power was under way; 1 VM ran there" in told.sentence
