"""Builds the facts of a tick from what the pulse, the registers and the machine last said.

Rules:
1. Nothing here waits: each source keeps its newest word, this file only puts them together.
2. A pulse that has not spoken for a gap makes the sample "not good": old evidence stays evidence,
   but nothing new is concluded from a host that no longer looks.
3. What cannot be understood is said in a sentence instead of being guessed.
4. A pulse that has just begun does not know its term yet. Until it does, its words before count:
   "no term" would mean that everything that runs here runs without a right to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from outlast.agent.hands import Hands
from outlast.agent.machine import Machine
from outlast.agent.machine import Seen as MachineSeen
from outlast.agent.registers import Registers
from outlast.model import NO_TERM, Block, BlockState, GuardState, View
from outlast.pool.facts import Answering, Extension, Facts, GuardFacts, Me, Sample, Seen
from outlast.pool.reporting import Found, report_of
from outlast.settings import Timing
from outlast.storage.format import block_from_json, view_from

Json = Mapping[str, Any]
_STATES: Mapping[Any, BlockState] = {state.value: state for state in BlockState}


class Senses:
    """Everything this agent knows, ready to be thought about."""

    def __init__(
        self,
        me: Me,
        timing: Timing,
        registers: Registers,
        machine: Machine,
        hands: Hands,
        now_ns: Callable[[], int],
        found: Callable[[], Found],
        repositories: Callable[[], Mapping[str, Answering]],
        witness: Callable[[], bool | None],
    ) -> None:
        self._me = me
        self._timing = timing
        self._registers = registers
        self._machine = machine
        self._hands = hands
        self._now_ns, self._found = now_ns, found
        self._repositories, self._witness = repositories, witness
        self._lock = threading.Lock()
        self._newest: Json | None = None
        self._snapshot: Json | None = None  # the newest that knows its term
        self._view: View | None = None
        self._blocks: dict[int, tuple[Json, Block]] = {}  # as said, and what it means

    def hear(self, snapshot: Json) -> None:
        """Take in what the pulse said (called by the pulse client's thread)."""
        if _told(snapshot.get("guard")) != _known(self._machine.seen):
            self._machine.look_soon()
        with self._lock:
            self._newest = snapshot
            if _term(snapshot) != NO_TERM:
                self._snapshot = snapshot
        for nudge in snapshot.get("nudges") or ():
            self._registers.hint((str(n), int(v)) for n, v in nudge.get("hints") or ())
        for slot, seen in (snapshot.get("blocks") or {}).items():
            block = seen.get("block") or {}
            hints = [(str(n), int(v)) for n, v in block.get("hints") or ()]
            self._registers.hint([*hints, (f"slot/{slot}", 1)])  # who joins tells nobody else
            if slot != str(self._me.slot):
                self._registers.wrote(slot, int(block.get("work_seq") or 0), len(hints))

    @property
    def snapshot(self) -> Json | None:
        """The pulse's newest word, whatever it is."""
        return self._newest

    def facts(self) -> Facts | str:
        """The facts of this moment, or why there are none."""
        with self._lock:
            snapshot, newest = self._snapshot, self._newest
        if newest is None:
            return "the pulse of this host has not been heard yet"
        if snapshot is None:
            return "the pulse of this host has just begun and has no term yet"
        if (newest.get("drill") or {}).get("kind") in ("power", "storage"):
            return "a drill: this host acts as if it did not reach the pool's storage"
        # hands look at what they did before they tell of it: so first what they tell, then the look
        busy, results = self._hands.busy, self._hands.take_results()
        known, seen = self._registers.known, self._machine.seen
        now_ns = self._now_ns()
        guard = GuardFacts(
            seen.guard.state,
            seen.guard.term,
            _deadline_ns(seen, snapshot) - now_ns if seen.guard_ready else -1,
            seen.guard.populated,
        )
        facts = Facts(
            me=self._me,
            term=_term(snapshot),
            block_state=_state(snapshot),
            sample=self._sample(snapshot, now_ns),
            seen=self._seen(snapshot),
            guard=guard,
            view=self._view_of(snapshot),
            announced_ns=_announced(snapshot),
            links=links_of(snapshot, self._timing),
            slots=known.slots,
            vms=known.vms,
            leases=known.leases,
            books=known.books,
            registers_ready=known.ready,
            local=seen.local,
            local_ready=seen.ready and seen.guard_ready,
            resources=seen.resources,
            busy=busy,
            results=results,
            exits=self._machine.take_exits(),
            wall_s=int(time.time()),
            pool=known.pool,
            extension=_extension(snapshot),
            fences=known.fences,
            unread=frozenset(known.troubles),
            reports=known.reports,
            repositories=self._repositories(),
            witness=self._witness(),
        )
        found = self._found()
        return replace(facts, report=report_of(facts, found), signs=found.signs)

    def _sample(self, snapshot: Json, now_ns: int) -> Sample:
        sample = snapshot.get("sample") or {}
        finished_ns = int(sample.get("finished_ns") or 0)
        fresh = now_ns - finished_ns <= self._timing.gap_ns + self._timing.beat_ns
        return Sample(
            int(sample.get("seq") or 0),
            int(sample.get("started_ns") or 0),
            bool(sample.get("good")) and fresh,
            int(sample.get("run_ns") or 0),
            int(sample.get("steady_ns") or 0),
        )

    def _view_of(self, snapshot: Json) -> View | None:
        value = snapshot.get("view")
        if not value:
            return None
        if self._view is None or self._view.version != value.get("version"):
            self._view = view_from(value)
        return self._view

    def _seen(self, snapshot: Json) -> dict[int, Seen]:
        found = {}
        for key, seen in (snapshot.get("blocks") or {}).items():
            slot = int(key)
            if slot == self._me.slot:
                continue
            block: Block | None = None
            if seen.get("valid") and seen.get("block"):
                block = self._block(slot, seen["block"])
            found[slot] = Seen(block, int(seen.get("still_ns") or 0))
        return found

    def _block(self, slot: int, said: Json) -> Block:
        known = self._blocks.get(slot)
        if known is None or known[0] != said:
            known = self._blocks[slot] = (said, block_from_json(said))
        return known[1]


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _term(snapshot: Json) -> str:
    return str(snapshot.get("term") or NO_TERM)


def _state(snapshot: Json) -> BlockState:
    return _STATES.get(snapshot.get("state"), BlockState.CLOSED)


def _told(status: object) -> tuple[object, ...]:
    """What the pulse heard from the guard, as far as it is worth a look when it changes."""
    if not isinstance(status, dict) or not isinstance(vms := status.get("vms"), dict):
        return ()
    populated = {name for name, vm in vms.items() if vm.get("populated")}
    return status.get("state"), status.get("term"), populated


def _known(seen: MachineSeen) -> tuple[object, ...]:
    """The same as this agent heard it."""
    guard = seen.guard
    return (guard.state.value, guard.term, guard.populated) if seen.guard_ready else ()


def _deadline_ns(seen: MachineSeen, snapshot: Json) -> int:
    """The guard's deadline by its newest word, whoever heard it: within a term it only grows."""
    said = snapshot.get("guard")
    if seen.guard.state is not GuardState.OPEN or _told(said)[:2] != _known(seen)[:2]:
        return seen.guard_deadline_ns
    return max(seen.guard_deadline_ns, int((said or {}).get("deadline_ns") or 0))


def _extension(snapshot: Json) -> Extension:
    said = snapshot.get("extension") or {}
    refused = {int(slot): str(why) for slot, why in (said.get("refused") or {}).items()}
    return Extension(int(said.get("given") or 0), refused)


def _announced(snapshot: Json) -> int:
    announced, view = snapshot.get("announced"), snapshot.get("view")
    if not announced or not view or announced.get("view_version") != view.get("version"):
        return -1
    return int(announced.get("for_ns", -1))


def links_of(snapshot: Json, timing: Timing) -> dict[int, int]:
    """How long ago each other host was heard over the network."""
    links = {}
    for key, link in (snapshot.get("links") or {}).items():
        ago = link.get("heard_ns_ago")
        links[int(key)] = timing.dead_ns if ago is None else int(ago)
    return links
