"""More time while nobody has storage: when a host asks all others, and when one grants it.

P: pure; instants, nonces and packets are arguments. No VM can be taken over without storage, so
while all hosts are without it all VMs may live on. Rules:

 1. A host without storage asks ALL other members of the view it follows, and only when its own
    block, read back, has named that view, and the newest read of the area gave no hint of a newer
    one. Whoever can prove this host silent has then read that name in the same block, so it
    follows that view or a newer one.
 2. Time is given by unanimous answers to one question, and from the instant BEFORE it was asked:
    D = asked + F. It is never kept: the next F needs the next question.
 3. A member grants only while it has no storage itself, its own term is open, and it follows the
    same view, which lists the term that asks. Granting restarts its silence window of that slot.
 4. A host whose agent has begun to write the next view (`proposed`) neither asks nor grants until
    it follows that view: whoever the new view lets in was asked by nobody.
    An agent that does not know of this rule (0.1.0) is not trusted with it: `told_first` is False.
 5. Alone in the view, a host needs nobody's word.

An old grant is worth nothing to anybody else: a window that restarted at the grant proves silence
only T_dead later, and the grant has run out long before. The rest follows from who may write views.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from outlast.guard.pulse_core import PulseCore
from outlast.guard.pulse_facts import Command, Confirm, Extend, Life, Open, Sample
from outlast.guard.pulse_windows import Instant, elapsed_most
from outlast.model import View
from outlast.wire.grant import Packet, Word

WORDS = {
    Word.HAS_STORAGE: "has storage",
    Word.OTHER_VIEW: "follows another view",
    Word.NOT_A_MEMBER: "has no open term in this view",
    Word.CHANGES_VIEW: "has begun to follow the next view",
}


@dataclass(slots=True)
class Question:
    """One round: who was asked when, and what came of it."""

    term: str
    view: int
    nonce: str
    asked: Instant
    answers: dict[int, Word] = field(default_factory=dict)


class Extensions:
    """What one host asks and answers; it moves nothing but the windows of the core."""

    def __init__(self, core: PulseCore, proposed: int = 0) -> None:
        self._core = core
        self.told_first = False  # the agent says that it tells of a view before it writes it
        self.proposed = proposed  # the newest view this host's agent may have written
        self.named = 0  # the newest view that the own block, read back, has named
        self.given = 0  # questions that all have answered well since the last confirmed beat
        self._newer = False  # the newest read gave a hint of a view that is not followed
        self._fed: Instant | None = None  # from when on the guard counts
        self._question: Question | None = None
        self._last: Question | None = None  # the round before

    # ---- what the shell tells

    def cycled(self, sample: Sample, commands: Iterable[Command]) -> None:
        """A cycle came to its end, and the core has judged it."""
        core = self._core
        if core.announced is not None:
            self.named = max(self.named, core.announced[0])
        if sample.area is not None:
            followed = core.view.version if core.view else 0
            blocks = (seen.block for seen in core.windows.slots.values())
            newer = any(b is not None and b.view_version > followed for b in blocks)
            self._newer = newer or bool(sample.view_error)
        for command in commands:
            if isinstance(command, Open | Confirm):
                self._fed, self._question, self._last, self.given = command.start, None, None, 0

    def propose(self, version: int) -> None:
        """Rule 4: the agent is about to write this version of the view."""
        self.proposed = max(self.proposed, version)

    # ---- asking

    def ask(self, now: Instant, nonce: str) -> tuple[list[Packet], Extend | None]:
        """What to send now, and what the guard is to be told at once (rule 5).

        nonce: 32 random hex digits. Call it every beat; most of the time there is nothing to do.
        """
        core, view = self._core, self._core.view
        if view is None or not self._wants(view, now):
            return [], None
        fence_ns = core.timing.fence_ns
        before = self._question
        if before is not None and elapsed_most(before.asked, now) < fence_ns // 6:
            return [], None
        self._last = before or self._last
        self._question = Question(core.term, view.version, nonce, now)
        others = sorted(view.slots - {core.me.slot})
        if not others:
            return [], self._extend(self._question)
        return [
            self._packet(Word.ASK, slot, core.term, view.version, nonce) for slot in others
        ], None

    def _wants(self, view: View, now: Instant) -> bool:
        core = self._core
        guard = core.guard
        if core.life is not Life.MEMBER or core.denied or core.leaving or guard is None:
            return False
        if self._fed is None or elapsed_most(self._fed, now) < core.timing.fence_ns // 3:
            return False
        if core.windows.fresh(now) or not self.told_first:
            return False
        settled = self.proposed <= view.version <= self.named and not self._newer
        return settled and guard.holds(core.term) and view.lists(core.me.slot, core.term)

    def heed_answer(self, packet: Packet, now: Instant) -> Extend | None:
        """Rule 2. The guard is to be told when everybody has granted."""
        core, question, view = self._core, self._question, self._core.view
        if question is None or packet.nonce != question.nonce or packet.word is Word.ASK:
            return None
        if view is None or (view.version, core.term) != (question.view, question.term):
            return None
        if not self._wants(view, now) or packet.from_slot in question.answers:
            return None
        question.answers[packet.from_slot] = packet.word
        granted = {s for s, word in question.answers.items() if word is Word.GRANTED}
        return self._extend(question) if granted >= view.slots - {core.me.slot} else None

    def _extend(self, question: Question) -> Extend:
        self._fed = question.asked
        self.given += 1
        return Extend(question.term, question.asked)

    # ---- answering

    def answer(self, packet: Packet, now: Instant) -> Packet | None:
        """The answer to a question; None: it is none, or not for this host."""
        core, view = self._core, self._core.view
        if packet.word is not Word.ASK or packet.to_slot != core.me.slot:
            return None
        word = self._judge(packet, now)
        if word is Word.GRANTED:
            core.windows.restart_slot(packet.from_slot, now)
        version = view.version if view else 0
        return self._packet(word, packet.from_slot, packet.term, version, packet.nonce)

    def _judge(self, packet: Packet, now: Instant) -> Word:
        """Rules 3 and 4."""
        core, view, guard = self._core, self._core.view, self._core.guard
        if view is None or core.denied or core.leaving or core.life is not Life.MEMBER:
            return Word.NOT_A_MEMBER
        if guard is None or not guard.holds(core.term) or not view.lists(core.me.slot, core.term):
            return Word.NOT_A_MEMBER
        if core.windows.fresh(now):
            return Word.HAS_STORAGE
        if self.proposed > view.version or self._newer or not self.told_first:
            return Word.CHANGES_VIEW
        same = view.version == packet.view and view.lists(packet.from_slot, packet.term)
        return Word.GRANTED if same else Word.OTHER_VIEW

    def _packet(self, word: Word, to_slot: int, term: str, view: int, nonce: str) -> Packet:
        return Packet(word, self._core.me.slot, to_slot, term, view, nonce)

    # ---- what it knows, for people

    def refusals(self) -> dict[int, str]:
        """Slot -> why the newest question that is over was not granted; silence counts too."""
        question, view = self._last, self._core.view
        if question is None or view is None:
            return {}
        others = view.slots - {self._core.me.slot}
        words = {s: question.answers.get(s) for s in others}
        return {
            slot: WORDS[word] if word else "does not answer"
            for slot, word in sorted(words.items())
            if word is not Word.GRANTED
        }
