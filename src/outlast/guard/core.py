"""What the guard decides: pure, so that the simulator and the tests run exactly this code.

The states, what moves them and the numbered rules are in states.py.

What it does not do: it reads no clock and no file, writes nothing, kills nothing. It says what is
to be done (Duty, in order) and the shell does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from outlast import __version__
from outlast.errors import BrokenInvariant, InvalidInput
from outlast.guard.facts import (
    VM_NAME,
    Facts,
    GuardTiming,
    Json,
    Memory,
    Reading,
    S,
    parse_open,
    read_start,
    read_stores,
    read_term,
    watchdog_refusal,
)
from outlast.guard.states import NEXT, Cause, Duty
from outlast.model import GuardState

ADMISSION_NS = 30_000_000_000
LATE_NUM, LATE_DEN = 6, 5  # rule 8: a watchdog fires up to a fifth later than it was set


class GuardCore:
    """The state machine. Not thread-safe; every call takes the present as its first argument."""

    def __init__(self, memory: Memory | None = None, ran_ns: int = -1) -> None:
        self._memory = memory or Memory()
        self._saved = self._memory
        self._ran_ns = ran_ns  # CLOCK_BOOTTIME: no VM was there after this; -1 = never
        self._populated = ran_ns >= 0  # at the look before; not known counts as yes
        self._admitted: dict[str, tuple[Reading, bool]] = {}  # since when; for a copy?

    # -- what it knows ---------------------------------------------------------------------

    @property
    def state(self) -> GuardState:
        return self._memory.state

    @property
    def ran_ns(self) -> int:
        return self._ran_ns

    def memory(self) -> Memory:
        return self._memory

    def remaining_ns(self, now: Reading) -> int:
        """Time to the deadline; negative after it. 0 while there was never a term."""
        if self._memory.state is GuardState.IDLE:
            return 0
        return self._memory.timing.fence_ns - now.since(self._memory.start)

    def may_start(self, now: Reading) -> bool:
        """Rules 4, 5 and 11: is there still time to let a VM in?"""
        timing = self._memory.timing
        beat_ns = timing.fence_ns - now.since(self._memory.beat)
        return self.state is GuardState.OPEN and beat_ns > timing.margin_ns

    def may_pet(self, now: Reading, facts: Facts) -> bool:
        """Rule 8."""
        memory = self._memory
        if memory.state is GuardState.RESETTING:
            return False
        late_ns = min(memory.watchdog_s * S * LATE_NUM // LATE_DEN, memory.timing.kill_ns)
        if memory.state is not GuardState.OPEN and not facts.populated:
            return memory.undrained is None or late_ns <= self._undrained_ns(now)
        if memory.state is GuardState.IDLE:
            return False
        return late_ns <= self.remaining_ns(now) + memory.timing.kill_ns

    def _undrained_ns(self, now: Reading) -> int:  # until D + K of a term that is over
        timing, start = self._memory.timing, self._memory.undrained
        return timing.fence_ns + timing.kill_ns - now.since(start or now)

    def status(self, now: Reading, facts: Facts) -> Json:
        """The part of the status reply that the core knows."""
        memory = self._memory
        remaining_ns = self.remaining_ns(now)
        return {
            "ok": True,
            "version": __version__,
            "state": memory.state.value,
            "term": memory.term,
            "deadline_ns": now.boot_ns + remaining_ns if memory.timing.fence_ns else 0,
            "remaining_ns": max(0, remaining_ns) if memory.state is GuardState.OPEN else 0,
            "reason": memory.reason,
            "empty": not facts.populated,
            "closed_ns": memory.closed_ns,
            "extended": memory.start != memory.beat and self.state is GuardState.OPEN,
            "quiesced_possible": memory.quiesced_possible,
            "undrained": memory.undrained is not None,
            "stores": list(memory.stores),
            "unsafe_reset": memory.unsafe_reset,
            "reset": facts.reset,
            "admitted": sorted(vm for vm in self._admitted if self._admission(now, vm)),
        }

    # -- time passes -----------------------------------------------------------------------

    def tick(self, now: Reading, facts: Facts) -> tuple[Duty, ...]:
        """Let time act, then say what is to be done. Call it often, and before each request."""
        if facts.populated or self._populated:  # it may have ended only now
            self._ran_ns = now.boot_ns
        self._populated = facts.populated
        if self.state is GuardState.OPEN and self.remaining_ns(now) <= 0:
            self._close(Cause.EXPIRED, "the deadline passed without a confirmation")
            self._want_reset(facts, asked=False)
        if self.state is GuardState.CLOSING:
            self._finish(now, facts)
        elif self.state is GuardState.CLOSED and self._memory.undrained:
            self._mind_drain(now, facts)
        return self._duties(now, facts)

    def _finish(self, now: Reading, facts: Facts) -> None:
        """Rules 7, 9 and 10: where does CLOSING lead?"""
        memory, kill_ns = self._memory, self._memory.timing.kill_ns
        over_ns = -self.remaining_ns(now)
        can_reset = facts.reset != "none"
        tried = not facts.populated or over_ns >= kill_ns // 4
        if memory.reset_wanted and can_reset and tried:
            self._move(Cause.UNQUIET, reason=f"{memory.reason}; queued writes may be left: reset")
        elif not facts.populated:
            self._move(Cause.EMPTIED, closed_ns=now.boot_ns)
        elif over_ns >= kill_ns - kill_ns // 10:
            if can_reset:
                self._move(Cause.STUCK, reason=f"{memory.reason}; a VM would not die: reset")
            else:
                sentence = "a VM would not die and nothing can reset this host"
                self._memory = replace(memory, unsafe_reset=sentence, quiesced_possible=False)

    def _mind_drain(self, now: Reading, facts: Facts) -> None:
        """Rule 13."""
        memory, kill_ns = self._memory, self._memory.timing.kill_ns
        if self._undrained_ns(now) > kill_ns // 10:
            return
        if facts.reset != "none":
            self._move(Cause.UNQUIET, reason=f"{memory.reason}; queued writes may be left: reset")
        else:
            sentence = "what killed VMs wrote may still wait and nothing can reset this host"
            self._memory = replace(memory, unsafe_reset=sentence)

    def _duties(self, now: Reading, facts: Facts) -> tuple[Duty, ...]:
        duties: list[Duty] = []
        if self.state is GuardState.OPEN:
            duties.append(Duty.THAW)
        else:
            duties.append(Duty.FREEZE)
            if facts.populated:
                duties.append(Duty.KILL)
        if self._memory != self._saved:
            duties.append(Duty.SAVE)
        if self.state is GuardState.RESETTING:
            duties.append(Duty.RESET)
        if self.may_pet(now, facts):
            duties.append(Duty.PET)
        return tuple(duties)

    def saved(self) -> None:
        """The shell wrote memory() down; until it says so SAVE stays among the duties."""
        self._saved = self._memory

    # -- requests --------------------------------------------------------------------------

    def open(self, now: Reading, facts: Facts, request: Mapping[str, object]) -> Json:
        """Start a term (or confirm it, if it is the open one): {"term", timing, start}."""
        try:
            term, start, timing = parse_open(request)
        except InvalidInput as trouble:
            return no(trouble.sentence)
        if self.state is GuardState.OPEN and term == self._memory.term:
            return self.confirm(now, request)
        start = start.min(now)
        refusal = self.refusal(term, facts) or watchdog_refusal(timing, facts)
        if not refusal and now.since(start) >= timing.fence_ns:
            refusal = "the beat that should open the term is older than the fence window"
        if refusal:
            return no(refusal)
        self._move(
            Cause.OPENED,
            term=term, start=start, beat=start, timing=timing, watchdog_s=facts.watchdog_s,
            closed_ns=0, reason="the term is open", reset_wanted=False, quiesced_possible=True,
            unsafe_reset="", drains=request.get("drains") is True, undrained=None,
        )  # fmt: skip
        return self._timed(now)

    def refusal(self, term: str, facts: Facts) -> str:
        """Why this term may not open now, the watchdog left aside; "" if it may."""
        memory = self._memory
        if term in memory.closed_terms:
            return f"term {term[:8]} is closed for good: open a new one"
        if memory.state is GuardState.OPEN:
            return f"term {memory.term[:8]} is open: close it first"
        if Cause.OPENED not in NEXT[memory.state]:
            return f"the guard is {memory.state.value}: no term can open now"
        if facts.populated:
            return "processes of an earlier term are still being killed"
        if memory.undrained:
            return "what the VMs of an earlier term wrote may still be on its way"
        return ""

    def confirm(self, now: Reading, request: Mapping[str, object], *, extend: bool = False) -> Json:
        """Move the deadline: {"term", "start_boot_ns", "start_raw_ns"}. extend: rule 11."""
        try:
            term, start = read_term(request), read_start(request).min(now)
        except InvalidInput as trouble:
            return no(trouble.sentence)
        memory = self._memory
        if memory.state is not GuardState.OPEN or self.remaining_ns(now) <= 0:
            return no(f"no term is open: {memory.reason}")
        if term != memory.term:
            return no(f"the open term is {memory.term[:8]}, not {term[:8]}")
        fed = start if _after(start, memory.start) else memory.start
        beat = start if not extend and _after(start, memory.beat) else memory.beat
        self._memory = replace(memory, start=fed, beat=beat)
        return self._timed(now)

    def retime(self, now: Reading, facts: Facts, request: Mapping[str, object]) -> Json:
        """Rule 12: {"term", timing, start of a confirmed beat}."""
        try:
            term, _, timing = parse_open(request)
        except InvalidInput as trouble:
            return no(trouble.sentence)
        if refusal := self.retime_refusal(now, term, timing) or watchdog_refusal(timing, facts):
            return no(refusal)
        self._memory = replace(self._memory, timing=timing, watchdog_s=facts.watchdog_s)
        return self._timed(now)

    def retime_refusal(self, now: Reading, term: str, timing: GuardTiming) -> str:
        """Why these times may not be used now, the watchdog left aside; "" if they may."""
        memory = self._memory
        if (
            memory.state is not GuardState.OPEN
            or term != memory.term
            or self.remaining_ns(now) <= 0
        ):
            return f"term {term[:8]} is not open here"
        if now.since(memory.beat) >= timing.fence_ns - timing.margin_ns:
            return "the newest beat is too old for the new fence window"
        return ""

    def close(self, now: Reading, facts: Facts, request: Mapping[str, object]) -> Json:
        """End the term for good: {"term", "reason", "reset_if_running"?: bool}."""
        try:
            term = read_term(request)
        except InvalidInput as trouble:
            return no(trouble.sentence)
        memory = self._memory
        if term != memory.term:
            if term in memory.closed_terms:
                return {"ok": True, "state": "closed"}
            return no(f"term {term[:8]} is not the one here")
        sick = request.get("reset_if_running", False) is True
        if memory.state is GuardState.OPEN:
            reason = str(request.get("reason", ""))[:200]
            start = memory.start.min(now.earlier(memory.timing.fence_ns))
            self._close(Cause.ORDERED, reason or "closed on request")
            if memory.drains and self._may_write(facts):
                self._memory = replace(self._memory, undrained=memory.start)
            if sick:
                self._want_reset(facts, asked=True)
            self._memory = replace(self._memory, start=start)
        elif memory.state is GuardState.CLOSING and sick:
            self._want_reset(facts, asked=True)
        return {"ok": True, "state": self.state.value}

    def drained(self, request: Mapping[str, object]) -> Json:
        """Rule 13: {"term"}. The storage has answered for X since that term was CLOSED."""
        if self.state is not GuardState.CLOSED or request.get("term") != self._memory.term:
            return no("no such term has closed here")
        if self._memory.stores:
            return no(f"{', '.join(self._memory.stores)} has not answered since")
        self._memory = replace(self._memory, undrained=None)
        return {"ok": True}

    def settled(self, now: Reading, facts: Facts, store: object, since_ns: object) -> Json:
        """Rule 14: this storage has answered for X without a break, the newest question began then.

        since_ns: CLOCK_BOOTTIME.
        """
        if not isinstance(store, str) or type(since_ns) is not int:
            return no("store and since_ns are needed")
        coming = any(self._admission(now, vm) for vm in self._admitted)
        if facts.populated or coming or since_ns <= self._ran_ns:
            return no("a VM was here after that, or may come at any moment")
        stores = tuple(name for name in self._memory.stores if name != store)
        self._memory = replace(self._memory, stores=stores)
        return {"ok": True}

    def admit(
        self, now: Reading, vm: object, *, incoming: object = False, stores: object = ()
    ) -> Json:
        """Rules 5 and 14: let this VM, or its copy, in within 30 s; stores: names of storages."""
        if not isinstance(vm, str) or not VM_NAME.fullmatch(vm):
            return no("that is not the name of a VM")
        if (named := read_stores(stores)) is None:
            return no("stores must be a list of names")
        if refusal := self._late(now):
            return no(refusal)
        self._admitted[vm] = now, incoming is True
        known = dict.fromkeys((*self._memory.stores, *named))
        self._memory = replace(self._memory, stores=tuple(known))
        return self._timed(now)

    def release(self, vm: object) -> Json:
        """Take an admission back; fine if there is none."""
        if isinstance(vm, str):
            self._admitted.pop(vm, None)
        return {"ok": True}

    def enter(self, now: Reading, facts: Facts, vm: object, *, incoming: object = False) -> Json:
        """Use an admission up. If ok the shell moves the process in, then asks may_start again."""
        if not isinstance(vm, str) or not VM_NAME.fullmatch(vm):
            return no("that is not the name of a VM")
        if refusal := self._late(now):
            return no(refusal)
        if not self._admission(now, vm):
            return no(f"{vm} was not admitted to start here in the last 30 s")
        if self._admitted[vm][1] is not (incoming is True):
            what = "start from its disk" if self._admitted[vm][1] else "come from another host"
            return no(f"{vm} was not admitted to {what}")
        if vm in facts.vms:
            return no(f"a process of {vm} is still running here")
        del self._admitted[vm]
        self._ran_ns, self._populated = now.boot_ns, True
        return {"ok": True}

    # -- inner -----------------------------------------------------------------------------

    def _late(self, now: Reading) -> str:
        if self.may_start(now):
            return ""
        if self.state is GuardState.OPEN:
            return "the deadline is too near: the storage does not confirm this host's beats"
        return f"no term is open on this host: {self._memory.reason}"

    def _admission(self, now: Reading, vm: str) -> bool:
        admitted = self._admitted.get(vm)
        return admitted is not None and now.since(admitted[0]) < ADMISSION_NS

    def _close(self, cause: Cause, reason: str) -> None:
        self._admitted.clear()
        closed = (*self._memory.closed_terms, self._memory.term)
        self._move(cause, reason=reason, closed_terms=closed)

    def _may_write(self, facts: Facts) -> bool:
        """Something that ran here may still be on its way to a storage."""
        return bool(self._memory.stores) or self._ran_lately(facts)

    def _ran_lately(self, facts: Facts) -> bool:
        """False: X, no longer than K, lay between the last VM and a beat: nothing is queued."""
        late_ns = max(0, self._memory.beat.boot_ns - self._memory.timing.kill_ns)
        return facts.populated or self._ran_ns >= late_ns

    def _want_reset(self, facts: Facts, *, asked: bool) -> None:
        """Rule 10, after any move to CLOSING with sick storage."""
        if not self._may_write(facts):
            return
        if facts.reset != "none":
            self._memory = replace(self._memory, reset_wanted=True)
            return
        sentence = "VMs were killed while the storage was sick and nothing can reset this host"
        possible = self._memory.quiesced_possible and not asked
        self._memory = replace(self._memory, unsafe_reset=sentence, quiesced_possible=possible)

    def _move(self, cause: Cause, **changes: object) -> None:
        state = NEXT[self.state].get(cause)
        if state is None:
            raise BrokenInvariant(f"guard: {cause.value} in state {self.state.value}")
        self._memory = replace(self._memory, state=state, **changes)  # type: ignore[arg-type]

    def _timed(self, now: Reading) -> Json:
        remaining_ns = self.remaining_ns(now)
        return {
            "ok": True,
            "deadline_ns": now.boot_ns + remaining_ns,
            "remaining_ns": max(0, remaining_ns),
        }


def _after(later: Reading, earlier: Reading) -> bool:
    return later.boot_ns > earlier.boot_ns and later.raw_ns > earlier.raw_ns


def no(sentence: str) -> Json:
    """A refusal."""
    return {"ok": False, "error": sentence}
