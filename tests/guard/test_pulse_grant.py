"""More time while nobody has storage: who may ask, who may give, what it is worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pulse_world import BEAT, TIMING, World, peer_block

from outlast.guard.pulse_asking import NEVER, Proposed, read_proposal
from outlast.guard.pulse_core import PulseCore
from outlast.guard.pulse_facts import Extend
from outlast.guard.pulse_grant import Extensions
from outlast.guard.pulse_windows import Instant
from outlast.wire.grant import Packet, Word

NONCE, OTHER_NONCE = "a" * 32, "b" * 32
DARK_BEATS = TIMING.gap_ns // BEAT + 1  # as long without storage, and it is time to ask
assert TIMING.fence_ns // 3 < DARK_BEATS * BEAT


class Asker:
    """A member and its extensions, told of every cycle as the pulse does."""

    def __init__(self, *others: int) -> None:
        self.world = World()
        self.world.become_member()
        for slot in others:
            self.world.put(peer_block(slot=slot, view=2))
        self.extensions = Extensions(self.core)
        self.extensions.told_first = True
        self.world.view((1, self.term), *((slot, f"{slot:032x}") for slot in others))
        self.light()

    @property
    def core(self) -> PulseCore:
        return self.world.core

    @property
    def term(self) -> str:
        return self.core.term

    def light(self, **fault: str) -> None:
        for _ in range(2):
            self.world.wait(BEAT)
            commands = self.world.cycle(**fault)  # type: ignore[arg-type]
            assert self.world.sample is not None
            self.extensions.cycled(self.world.sample, commands)

    def dark(self, beats: int = DARK_BEATS) -> None:
        for _ in range(beats):
            self.world.wait(BEAT)
            self.world.heed()

    def now(self) -> Instant:
        return self.world.now()

    def ask(self, nonce: str = NONCE) -> tuple[list[Packet], Extend | None]:
        return self.extensions.ask(self.now(), nonce)

    def hear(self, slot: int, word: Word = Word.GRANTED, nonce: str = NONCE) -> Extend | None:
        view = self.core.view
        assert view is not None
        packet = Packet(word, slot, 1, self.term, view.version, nonce)
        return self.extensions.heed_answer(packet, self.now())

    def asked_by(self, slot: int = 2, **changes: object) -> Word:
        view = self.core.view
        assert view is not None
        term = view.members[slot].term if slot in view.members else "0" * 32
        packet = Packet(Word.ASK, slot, 1, term, view.version, NONCE)
        answer = self.extensions.answer(replace(packet, **changes), self.now())  # type: ignore[arg-type]
        assert answer is not None and (answer.to_slot, answer.nonce) == (slot, NONCE)
        return answer.word


def test_nobody_is_asked_while_beats_are_confirmed() -> None:
    asker = Asker(2, 3)
    assert asker.ask() == ([], None)
    asker.dark(1)
    assert asker.ask() == ([], None)  # there is time yet


def test_all_others_are_asked_and_all_must_grant() -> None:
    asker = Asker(2, 3)
    asker.dark()
    at = asker.now()
    packets, _ = asker.ask()
    assert [(p.word, p.to_slot, p.term) for p in packets] == [
        (Word.ASK, 2, asker.term), (Word.ASK, 3, asker.term),
    ]  # fmt: skip
    asker.world.wait(BEAT // 20)
    assert asker.hear(2) is None
    assert asker.hear(2) is None  # twice the same is not two
    assert asker.hear(3, Word.HAS_STORAGE) is None
    assert asker.hear(3) is None  # a host that has refused is not asked again in this round
    asker.world.wait(TIMING.fence_ns // 6)
    asker.ask(OTHER_NONCE)
    assert asker.extensions.refusals() == {3: "has storage"}
    again = asker.now()
    assert asker.hear(2) is None and asker.hear(3) is None  # answers to the question before
    asker.hear(2, nonce=OTHER_NONCE)
    assert asker.hear(3, nonce=OTHER_NONCE) == Extend(asker.term, again)
    assert again.boot_ns > at.boot_ns


def test_time_counts_from_the_question_and_runs_out() -> None:
    asker = Asker(2)
    asker.dark()
    at = asker.now()
    asker.ask()
    asker.world.wait(BEAT)
    extend = asker.hear(2)
    assert extend == Extend(asker.term, at)
    asker.world.obey([extend])
    assert asker.ask(OTHER_NONCE) == ([], None)
    asker.dark()
    packets, extend = asker.ask(OTHER_NONCE)
    assert packets and extend is None  # the next F needs the next question


def test_alone_it_needs_nobody() -> None:
    asker = Asker()
    asker.dark()
    at = asker.now()
    assert asker.ask() == ([], Extend(asker.term, at))


@pytest.mark.parametrize(
    "why", ["proposed", "not named", "newer named", "view unread", "closing", "old agent"]
)
def test_it_does_not_ask_when_there_may_be_a_newer_view(why: str) -> None:
    asker = Asker()
    if why == "proposed":
        asker.extensions.propose(asker.core.view.version + 1)  # type: ignore[union-attr]
    elif why == "old agent":
        asker.extensions.told_first = False
    elif why == "not named":
        asker.extensions.named = 0
    elif why == "newer named":
        asker.world.put(peer_block(slot=3, view=99))  # of whomever
        asker.light()
    elif why == "view unread":
        asker.light(view_error="damaged")
    else:
        asker.core.leave(True)
    asker.dark()
    assert asker.ask() == ([], None)


def test_it_does_not_ask_while_it_reads() -> None:
    """Storage that is there but does not take its block is no reason to live on."""
    asker = Asker()
    for _ in range(DARK_BEATS):
        asker.light(view_error="damaged")
    assert asker.ask() == ([], None)


def test_it_grants_in_the_dark_and_counts_the_silence_anew() -> None:
    asker = Asker(2, 3)
    assert asker.asked_by(2) is Word.HAS_STORAGE
    asker.dark()
    assert asker.asked_by(2) is Word.GRANTED
    granted = asker.now()
    asker.dark(3)
    asker.light()
    seen = asker.core.windows.slots[2]
    assert seen.since == granted
    assert asker.core.windows.slots[3].since.boot_ns < granted.boot_ns


@pytest.mark.parametrize(
    ("why", "word"),
    [
        ("another view", Word.OTHER_VIEW),
        ("another term", Word.OTHER_VIEW),
        ("a stranger", Word.OTHER_VIEW),
        ("proposed", Word.CHANGES_VIEW),
        ("old agent", Word.CHANGES_VIEW),
        ("leaving", Word.NOT_A_MEMBER),
        ("guard mute", Word.NOT_A_MEMBER),
    ],
)
def test_it_refuses(why: str, word: Word) -> None:
    asker = Asker(2)
    asker.dark()
    slot, changes = 2, dict[str, object]()
    match why:
        case "another view":
            changes = {"view": 1}
        case "another term":
            changes = {"term": "9" * 32}
        case "a stranger":
            slot = 4
        case "proposed":
            asker.extensions.propose(99)
        case "old agent":
            asker.extensions.told_first = False
        case "leaving":
            asker.core.leave(True)
        case "guard mute":
            asker.core.heed(None, asker.now())
    before = asker.core.windows.slots[2].since
    assert asker.asked_by(slot, **changes) is word
    assert asker.core.windows.slots[2].since == before


def test_a_packet_for_somebody_else_is_not_answered() -> None:
    asker = Asker(2)
    packet = Packet(Word.ASK, 2, 3, "9" * 32, 1, NONCE)
    assert asker.extensions.answer(packet, asker.now()) is None


def test_what_was_proposed_survives_the_process_but_not_the_boot(tmp_path: Path) -> None:
    path = tmp_path / "proposed"
    first = Proposed(path, "boot-1")
    assert first.version == 0
    first.raise_to(7)
    first.raise_to(5)
    assert Proposed(path, "boot-1").version == 7
    assert Proposed(path, "boot-2").version == 0


@pytest.mark.parametrize("harm", ["garbage", "no folder", "gone"])
def test_where_it_cannot_be_kept_no_time_is_given(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "run" / "proposed"
    if harm != "no folder":
        path.parent.mkdir()
    if harm == "garbage":
        path.write_text("boot-1 what?")
    proposed = Proposed(path, "boot-1")
    if harm == "gone":
        path.unlink()
        proposed.raise_to(3)
    assert proposed.version == NEVER


@pytest.mark.parametrize("said", [{}, {"proposing": True}, {"proposing": "7"}, {"proposing": 0}])
def test_other_messages_propose_nothing(said: dict[str, object]) -> None:
    assert read_proposal(said) is None
    assert read_proposal({"proposing": 7}) == 7
