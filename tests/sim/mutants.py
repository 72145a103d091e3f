"""Each rule of the protocol switched off, one at a time: does the simulator notice?

    make mutants                  the table: rule, seed that catches it, what broke, processor time
    python tests/sim/mutants.py impatient --seeds 500       one of them

A mutant is caught when a seed ends with a broken invariant or without recovery. Some rules have
another one behind them, so that nothing bad comes of switching off one alone: BACKED names both.
The exhaustive models (tests/model) and the tests of each room hold these.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from outlast.guard.core import GuardCore
from outlast.guard.facts import Facts as GuardSeen
from outlast.guard.facts import Reading
from outlast.guard.pulse_core import PulseCore
from outlast.guard.pulse_facts import Command, Confirm, Extend, Life, Open
from outlast.guard.pulse_facts import Sample as Cycle
from outlast.guard.pulse_grant import Extensions
from outlast.guard.pulse_promise import Promise
from outlast.guard.pulse_windows import Instant, Windows
from outlast.guard.states import Duty
from outlast.model import NO_TERM, BlockState, Lease, LocalVm, Proof, ProofKind, View
from outlast.pool import decision, draining, hosting, plan, proof, silence
from outlast.pool.decision import Resume
from outlast.pool.facts import Facts, Sample, Seen
from outlast.pool.membership import Members
from outlast.pool.moving import Motion, Moving
from outlast.settings import S, Timing
from outlast.sim import disk_work
from outlast.sim.machine import Machine
from outlast.sim.moves import SimMove
from outlast.sim.seeds import TIMINGS, play
from outlast.sim.world import Disk
from outlast.wire.grant import Packet, Word

SEEDS_MAX = 400
Patch = tuple[object, str, Callable[..., object]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """seeds: within how many it has to be caught."""

    name: str
    rule: str
    patches: tuple[Patch, ...]
    seeds: int = SEEDS_MAX


@dataclass(frozen=True, slots=True)
class Catch:
    """seed 0: not caught. tried: how many seeds that took."""

    mutant: str
    seed: int
    tried: int
    kind: str
    words: str
    cpu_s: float


@contextlib.contextmanager
def switched_off(mutant: Mutant) -> Iterator[None]:
    before = [(place, name, vars(place)[name]) for place, name, _ in mutant.patches]
    for place, name, instead in mutant.patches:
        setattr(place, name, instead)
    try:
        yield
    finally:
        for place, name, was in before:
            setattr(place, name, was)


def hunt(mutant: Mutant, seeds: int = 0, after: int = 0) -> Catch:
    """Play seeds after this one until one catches it, with the timing `lab`: they are quickest."""
    begun, tried = time.process_time(), 0
    seed = after
    with switched_off(mutant):
        while tried < (seeds or mutant.seeds):
            seed += 1
            if TIMINGS[seed // 12 % len(TIMINGS)] != "lab":
                continue
            tried += 1
            try:
                outcome = play(seed)
                kind, words = outcome.kind, outcome.words
            except Exception as error:  # a mutant may break anything
                kind, words = "crash", f"{type(error).__name__}: {error}"
            if kind != "ok":
                cpu_s = time.process_time() - begun
                return Catch(mutant.name, seed, tried, kind, words, cpu_s)
    return Catch(mutant.name, 0, tried, "missed", "", time.process_time() - begun)


# ---- silence and proofs


def _impatient(seen: Seen, sample: Sample, timing: Timing, term: str, extra_ns: int = 0) -> bool:
    return bool(seen.block and seen.block.term == term and seen.still_ns >= S)


def _believe(
    facts: Facts, timing: Timing, slot: int, term: str, *, known_ns: int, excluded: object,
    extra_ns: int = 0,
) -> Proof:  # fmt: skip
    return Proof(ProofKind.SILENT, slot, term, facts.me.slot, "said so")


_by_block = proof._by_block


def _closing_is_closed(facts: Facts, slot: int, term: str, known_ns: int) -> Proof | None:
    seen = facts.seen.get(slot)
    block = seen.block if seen and slot != facts.me.slot else None
    if block and block.term == term and block.state is BlockState.CLOSING:
        return Proof(ProofKind.CLOSED, slot, term, facts.me.slot, "it is closing")
    return _by_block(facts, slot, term, known_ns)


def _excluded_long_ago(self: Members, facts: Facts, view: View) -> None:
    for held in facts.leases.values():
        key = (held.value.slot, held.value.term)
        if held.value.held and not view.lists(*key) and key[0] != facts.me.slot:
            self.excluded[key] = -(10**15)


def _too_soon(seen: Seen, timing: Timing) -> int:
    return timing.fence_ns


# ---- guard and pulse


def _deaf(self: GuardCore, now: Reading) -> int:
    return 10 * S


_duties = GuardCore._duties


def _harmless(self: GuardCore, now: Reading, facts: GuardSeen) -> tuple[Duty, ...]:
    gentle = (Duty.KILL, Duty.RESET)
    return tuple(d for d in _duties(self, now, facts) if d not in gentle)


def _let_in(self: GuardCore, *_: object, **__: object) -> dict[str, object]:
    return {"ok": True}


def _blind_feed(self: PulseCore, sample: Cycle) -> list[Command]:
    guard = self.guard
    if not self.good or sample.written is None or guard is None:
        return []
    if guard.holds(self.term):
        return [Confirm(self.term, sample.started)]
    if self.life is Life.JOINING and guard.quiet and not self._asked_open:
        view = self.view
        if view and view.lists(self.me.slot, self.term):
            self._asked_open = True
            return [Open(self.term, sample.started)]
    return []


def _nothing(*_: object) -> None:
    """The rule is off."""


_begin_term = PulseCore._begin_term


def _old_term_again(self: PulseCore, fresh_term: str) -> None:
    own = self.windows.block(self.me.slot)
    old = own.term if own else self.term
    _begin_term(self, old if old != NO_TERM else fresh_term)


# ---- more time while nobody has storage


_heed_answer = Extensions.heed_answer


def _one_is_enough(self: Extensions, packet: Packet, now: Instant) -> Extend | None:
    question = self._question
    extend = _heed_answer(self, packet, now)
    granted = packet.word is Word.GRANTED and question and packet.nonce == question.nonce
    return extend or (self._extend(question) if granted and question else None)


_ask = Extensions.ask


def _kept(self: Extensions, now: Instant, nonce: str) -> tuple[list[Packet], Extend | None]:
    """Asked once and kept: what was granted is taken again without asking."""
    view = self._core.view
    if self.given and view is not None and self._wants(view, now):
        return [], Extend(self._core.term, now)
    return _ask(self, now, nonce)


def _not_promised(self: Promise, written_ms: int) -> Timing | None:
    """The guard counts with a longer timing that the block never promises."""
    return self._wanted if self._wanted != self.timing else None


# ---- membership and hosting


def _by_slot(facts: Facts, lease: Lease) -> bool:
    return lease.slot == facts.me.slot


def _overwrite(self: Disk, name: str, expected: int, value: dict[str, object]) -> bool:
    self.registers.setdefault(name, []).append(value)
    self.swaps += 1
    return True


def _yes(*_: object, **__: object) -> bool:
    return True


# ---- live migration


def _any_copy(self: Moving, facts: Facts, local: LocalVm, lease: Lease, motion: Motion) -> bool:
    if local.incoming and ("resume", local.name) not in facts.busy:
        motion.resumes.append(Resume(local.name, "it is here"))
    return bool(local.incoming)


def _sure(self: SimMove, why: str) -> None:
    """The word was lost, libvirt let it go on, and the hands end it and call that a success."""
    if self._vm in self._source.running:
        self._source.runs(self._vm)
        self._source.end_vm(self._vm, lambda: self._report(True, ""))
    else:
        self._fail(why)


MUTANTS = (
    Mutant(
        "any-copy",
        "a copy goes on only under the lease given to it",
        ((Moving, "arrive", _any_copy), (decision, "_check_resume", _nothing)),
    ),
    Mutant("sure", "what may have gone on has not left", ((SimMove, "_resumes", _sure),)),
    Mutant("impatient", "P2: silence lasts T_dead", ((proof, "silent", _impatient),)),
    Mutant(
        "too-soon",
        "T_dead > F + K + X",
        ((proof, "limit_ns", _too_soon), (silence, "limit_ns", _too_soon)),
    ),
    Mutant(
        "no-proof",
        "a lease changes hands only with a proof",
        ((hosting, "of_death", _believe), (plan, "of_death", _believe)),
    ),
    Mutant("closing", "P1: closed, not closing", ((proof, "_by_block", _closing_is_closed),)),
    Mutant(
        "exclusion",
        "P3: announced T_dead ago",
        ((Members, "_remember_excluded", _excluded_long_ago),),
    ),
    Mutant("deaf", "the guard has a deadline", ((GuardCore, "remaining_ns", _deaf),)),
    Mutant(
        "harmless",
        "past its deadline a host is rid of its VMs: guard, reset and watchdog",
        ((GuardCore, "_duties", _harmless), (Machine, "_watchdog", _nothing)),
    ),
    Mutant(
        "let-in",
        "no VM starts past the guard",
        ((GuardCore, "admit", _let_in), (GuardCore, "enter", _let_in)),
    ),
    Mutant(
        "blind",
        "confirmed only while the newest view lists the term",
        ((PulseCore, "_feed", _blind_feed), (PulseCore, "_heed_view", _nothing)),
    ),
    Mutant(
        "old-term",
        "a closed term never opens again",
        ((PulseCore, "_begin_term", _old_term_again),),
    ),
    Mutant(
        "freed-soon",
        "a lease is freed only when nothing of its VM can be on its way",
        ((draining.Draining, "drained", _yes),),
    ),
    Mutant(
        "given-back",
        "work on disks that was broken off has its writes waited for",
        ((disk_work, "gives_back", _yes),),
    ),
    Mutant("watchdog", "a host that stands still is reset", ((Machine, "_watchdog", _nothing),)),
    Mutant(
        "unpromised",
        "a longer timing is promised before it is used",
        ((Promise, "confirmed", _not_promised),),
    ),
    Mutant(
        "one-grant", "all others must give time", ((Extensions, "heed_answer", _one_is_enough),)
    ),
    Mutant("kept-grant", "time is asked for anew each time", ((Extensions, "ask", _kept),)),
    Mutant(
        "free-grant", "who gives time counts silence anew", ((Windows, "restart_slot", _nothing),)
    ),
    Mutant("by-slot", "a lease names a term, not a slot", ((Facts, "holds", _by_slot),)),
    Mutant(
        "overwrite", "a swap succeeds only on the version it read", ((Disk, "swap", _overwrite),)
    ),
)
# what was tried alone, over 150 to 200 seeds each, and does no harm: rule -> what stands behind it
BACKED = {
    "P2: from reads that began after": "every step looks again before it acts",
    "P1: a block read after the record": "who takes a lease must find the proof himself",
    "time is given within one view only": "hosts that follow a newer view have storage",
    "windows begin at the own admission": "who lets a host in gives nobody time (tests/model)",
    "the guard kills past its deadline": "it resets the host before D + K",
    "no VM starts near the deadline": "an admission ends with its term",
    "only members with an open guard act": "the guard admits nothing",
    "a cold start proves every other term dead": "a lease still needs its own proof",
    "what runs without a lease is ended": "the guard ended it before the lease could move",
    "orders are the newest view's master's": "an order names versions, and the taker proves",
    "a closed term that has not drained resets the host": "a window of X (tests/model, reset)",
    "only who saw it leave gives a lease away": "a window of a tick here (tests/model, memory)",
}
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


def _hunted(given: tuple[str, int]) -> Catch:
    name, seeds = given
    return hunt(BY_NAME[name], seeds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="default: all")
    parser.add_argument("--seeds", type=int, default=0)
    args = parser.parse_args()
    say, missed = sys.stdout.write, 0
    say(f"{'mutant':12} {'after':>5} {'seed':>5} {'CPU s':>6}  rule, and what broke\n")
    with multiprocessing.Pool() as workers:
        wanted = [(name, args.seeds) for name in args.names or BY_NAME]
        for catch in workers.imap(_hunted, wanted):
            missed += not catch.seed
            say(f"{catch.mutant:12} {catch.tried:5} {catch.seed or '-':>5} {catch.cpu_s:6.1f}  ")
            say(f"{BY_NAME[catch.mutant].rule}: {catch.kind} {catch.words[:90]}\n")
            sys.stdout.flush()
    if not args.names:
        say("not hunted, since another rule stands behind them:\n")
        say("".join(f"  {rule}: {behind}\n" for rule, behind in BACKED.items()))
    say(f"{len(wanted) - missed} of {len(wanted)} caught\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
