"""Builds the facts of a tick from what the pulse, the registers and the machine last said.

Rules:
1. Nothing here waits: each source keeps its newest word, this file only puts them together.
2. A pulse that has not spoken for a gap makes the sample "not good": old evidence stays evidence,
   but nothing new is concluded from a host that no longer looks.
3. What cannot be understood is said in a sentence instead of being guessed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from outlast.agent.hands import Hands
from outlast.agent.machine import Machine
from outlast.agent.registers import Registers
from outlast.model import NO_TERM, Block, BlockState, View
from outlast.pool.facts import Facts, GuardFacts, Me, Sample, Seen
from outlast.settings import Timing
from outlast.storage.format import block_from_json, view_from

Json = Mapping[str, Any]


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
    ) -> None:
        self._me = me
        self._timing = timing
        self._registers = registers
        self._machine = machine
        self._hands = hands
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._snapshot: Json | None = None
        self._view: View | None = None

    def hear(self, snapshot: Json) -> None:
        """Take in what the pulse said (called by the pulse client's thread)."""
        with self._lock:
            self._snapshot = snapshot
        for nudge in snapshot.get("nudges") or ():
            self._registers.hint((str(n), int(v)) for n, v in nudge.get("hints") or ())
        for slot, seen in (snapshot.get("blocks") or {}).items():
            block = seen.get("block") or {}
            self._registers.hint((str(n), int(v)) for n, v in block.get("hints") or ())
            self._registers.hint([(f"slot/{slot}", 1)])  # a host that joins tells nobody else

    @property
    def snapshot(self) -> Json | None:
        return self._snapshot

    def facts(self) -> Facts | str:
        """The facts of this moment, or why there are none."""
        with self._lock:
            snapshot = self._snapshot
        if snapshot is None:
            return "the pulse of this host has not been heard yet"
        known, seen = self._registers.known, self._machine.seen
        now_ns = self._now_ns()
        guard = GuardFacts(
            seen.guard.state,
            seen.guard.term,
            seen.guard_deadline_ns - now_ns if seen.guard_ready else -1,
            seen.guard.populated,
        )
        return Facts(
            me=self._me,
            term=str(snapshot.get("term") or NO_TERM),
            block_state=_state(snapshot),
            sample=self._sample(snapshot, now_ns),
            seen=_blocks(snapshot, self._me.slot),
            guard=guard,
            view=self._view_of(snapshot),
            announced_ns=_announced(snapshot),
            links=_links(snapshot, self._timing),
            slots=known.slots,
            vms=known.vms,
            leases=known.leases,
            books=known.books,
            registers_ready=known.ready,
            local=seen.local,
            local_ready=seen.ready and seen.guard_ready,
            resources=seen.resources,
            busy=self._hands.busy,
            results=self._hands.take_results(),
            exits=self._machine.take_exits(),
            unread=frozenset(known.troubles),
        )

    def _sample(self, snapshot: Json, now_ns: int) -> Sample:
        sample = snapshot.get("sample") or {}
        finished_ns = int(sample.get("finished_ns") or 0)
        fresh = now_ns - finished_ns <= self._timing.gap_ns + self._timing.beat_ns
        return Sample(
            int(sample.get("seq") or 0),
            int(sample.get("started_ns") or 0),
            bool(sample.get("good")) and fresh,
            int(sample.get("run_ns") or 0),
        )

    def _view_of(self, snapshot: Json) -> View | None:
        value = snapshot.get("view")
        if not value:
            return None
        if self._view is None or self._view.version != value.get("version"):
            self._view = view_from(value)
        return self._view


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _state(snapshot: Json) -> BlockState:
    word = snapshot.get("state")
    return BlockState(word) if word in {s.value for s in BlockState} else BlockState.CLOSED


def _blocks(snapshot: Json, own: int) -> dict[int, Seen]:
    found = {}
    for key, seen in (snapshot.get("blocks") or {}).items():
        if int(key) == own:
            continue
        block: Block | None = None
        if seen.get("valid") and seen.get("block"):
            block = block_from_json(seen["block"])
        found[int(key)] = Seen(block, int(seen.get("still_ns") or 0))
    return found


def _announced(snapshot: Json) -> int:
    announced, view = snapshot.get("announced"), snapshot.get("view")
    if not announced or not view or announced.get("view_version") != view.get("version"):
        return -1
    return int(announced.get("for_ns", -1))


def _links(snapshot: Json, timing: Timing) -> dict[int, int]:
    links = {}
    for key, link in (snapshot.get("links") or {}).items():
        ago = link.get("heard_ns_ago")
        links[int(key)] = timing.dead_ns if ago is None else int(ago)
    return links
