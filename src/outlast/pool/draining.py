"""What a VM that is gone from this host had written: could some of it still be on its way?

Rules:
1. A VM that is not here may have left writes in the kernel, whether it was ever seen to run or not:
   a QEMU lives and dies between two looks. Nothing of it is on its way once the pool's storage has
   answered for X since (`drained`). X begins when an answer was seen to a question asked after
   nothing of it was seen here: an earlier one, or one still open, may have hung. It begins anew
   when the storage seems to have stood still (`steady_ns`).
2. The heartbeat does not vouch for a storage repository, so its own answers do, in the same way
   (`unsettled`).
3. Two have left nothing: a VM that shut itself down, for the pool's storage; and one whose lease
   was just taken by this life of the agent, until it is begun here.
"""

from __future__ import annotations

from outlast.model import VmRecord
from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note
from outlast.settings import S, Timing

LONG = 4  # times X; then people are told


class Draining:
    """Memory of one host; after a restart of the agent every VM that is not here counts as gone."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._gone: dict[str, int] = {}  # since when nothing of it is seen here; 0: it left nothing
        self._flushed: set[str] = set()  # those that shut themselves down
        self._answered: dict[str, int] = {}  # vm -> when the first answer after that was seen
        self._told: set[str] = set()  # of whom it was told that its lease waits

    def look(self, now_ns: int, facts: Facts) -> None:
        """At each step: who is this host's business, and whether the storage has answered."""
        for vm, since_ns in list(self._gone.items()):
            held = facts.leases.get(vm)
            if held is None or not facts.holds(held.value):
                self.here(vm)
            elif facts.sample.good and facts.sample.started_ns >= since_ns:
                self._answered.setdefault(vm, now_ns)

    def taken(self, vm: str) -> None:
        """Rule 3."""
        self._gone[vm] = 0

    def here(self, vm: str) -> None:
        """It is here, or begun just now."""
        self._gone.pop(vm, None)
        self._answered.pop(vm, None)
        self._flushed.discard(vm)
        self._told.discard(vm)

    def shut_down(self, vm: str) -> None:
        """Rule 3."""
        self._flushed.add(vm)

    def drained(self, now_ns: int, facts: Facts, vm: str, notes: list[Note]) -> bool:
        """Rule 1; told once when it takes long."""
        gone_ns = self._gone.setdefault(vm, now_ns)
        if not gone_ns or vm in self._flushed:
            return True
        sample, settle_ns = facts.sample, self._timing.settle_ns
        answered_ns = min(
            sample.steady_ns, sample.started_ns - self._answered.get(vm, sample.started_ns)
        )
        if sample.good and answered_ns >= settle_ns:
            return True
        if sample.good and now_ns - gone_ns > LONG * settle_ns:
            why = f"the pool's storage has not answered for {settle_ns / S:g} s without a pause yet"
            self._waits(facts, vm, why, notes)
        return False

    def unsettled(
        self, now_ns: int, facts: Facts, vm: str, record: VmRecord, notes: list[Note]
    ) -> bool:
        """Rule 2; told once."""
        away = facts.away(record.spec, self._gone.setdefault(vm, now_ns))
        return self._waits(facts, vm, away, notes)

    def cut_off(self, facts: Facts, vm: str, notes: list[Note]) -> bool:
        """The pool's storage does not answer, so nothing can start; told once."""
        why = "" if facts.sample.good else "the pool's storage does not answer"
        return self._waits(facts, vm, why, notes)

    def _waits(self, facts: Facts, vm: str, why: str, notes: list[Note]) -> bool:
        if why and vm not in self._told:
            self._told.add(vm)
            notes.append(note("lease-waits", vm=vm, host=facts.me.host, why=why))
        return bool(why)
