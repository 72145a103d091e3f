"""The master's round: what is wanted against what is held, and orders for the difference.

Rules:
1. Only the master of the newest view plans, and only while its own term is open.
2. Level-triggered: every round starts from wishes, leases and blocks alone. A new master needs
   nothing of the old one.
3. A VM held by a listed, living term is its holder's business. A VM held by a term that is proven
   dead, or by nobody, is given to the best host that is there, those of high priority first.
4. Orders go into one register per host, the whole list at once; a list that would not change is
   not written. Lists of an older view are replaced.
5. A host that does not take a VM in time, or failed to start it, is tried last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial

from outlast.model import Lease, Order, OrderBook, View, VmRecord
from outlast.placement.choose import Answer
from outlast.pool import availability
from outlast.pool.decision import Swap
from outlast.pool.facts import Facts, Held
from outlast.pool.journal import Note, note
from outlast.pool.landscape import arrivals, landscape
from outlast.pool.membership import Membership
from outlast.pool.proof import Excluded, of_death
from outlast.pool.relocation import Relocation
from outlast.pool.sequence import Sequence
from outlast.pool.stage import Stage, evidence
from outlast.settings import PoolSettings

LATE_BEATS = 15  # an order not taken for so many beats is given to somebody else


@dataclass(slots=True)
class Given:
    """An order this master gave and has not yet seen carried out."""

    slot: int
    order: Order
    since_ns: int


class Plan:
    """The master's memory: what it ordered lately; safe to lose."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._timing = settings.timing
        self._given: dict[str, Given] = {}
        self._late: dict[str, int] = {}  # vm -> slot that was late
        self._no_room: dict[str, str] = {}
        self._recent: dict[str, tuple[int, int]] = {}  # vm -> (slot, taken at)
        self._sequence = Sequence()
        self._relocation = Relocation(settings)

    def step(
        self, now_ns: int, facts: Facts, membership: Membership, excluded: Excluded
    ) -> tuple[list[Swap], list[Note]]:
        view = facts.view
        if view is None or view.master != facts.me.slot or not membership.member:
            self._given.clear()
            self._relocation.forget()
            return [], []
        if not facts.registers_ready or facts.guard.remaining_ns <= self._timing.margin_ns:
            return [], []
        notes: list[Note] = []
        swaps: list[Swap] = []
        self._settle(now_ns, facts, notes)
        needy: dict[str, str] = {}  # vm -> why it needs a host
        for vm, record in sorted(facts.vms.items()):
            if not record.value.wanted or vm in self._given:
                continue
            held = facts.leases.get(vm)
            reason = self._needs_host(facts, view, membership, excluded, vm, held)
            not_ha = reason and self._lost_for_good(facts, record, held)
            if not_ha:
                self._hold_down(facts, vm, record, f"{reason}; {not_ha}", swaps, notes)
            elif reason:
                needy[vm] = reason
        waiting = self._sequence.waiting(now_ns, facts, needy, frozenset(self._no_room), notes)
        due = {vm: reason for vm, reason in needy.items() if vm not in waiting}
        stage = cache(partial(self._on_stage, facts, membership))  # built when it is asked for
        if due:
            self._give(now_ns, facts, view, due, stage(), notes)
        moves = self._relocation.step(now_ns, facts, view, stage)
        books = self._books(facts, view, moves.orders)
        return [*swaps, *moves.swaps, *books], [*notes, *moves.notes]

    def _lost_for_good(self, facts: Facts, record: Held[VmRecord], held: Held[Lease] | None) -> str:
        """Why a VM whose holder is dead is not started elsewhere; "" when it is."""
        if held is None or not held.value.held:
            return ""
        if availability.started_since(record.value, held.value):
            return ""
        return availability.off(facts, record.value)

    def _hold_down(
        self, facts: Facts, vm: str, record: Held[VmRecord], why: str,
        swaps: list[Swap], notes: list[Note],
    ) -> None:  # fmt: skip
        if facts.writing(f"vm/{vm}"):
            return
        swaps.append(Swap(f"vm/{vm}", record.version, replace(record.value, held_down=why), why))
        notes.append(note("held-down", vm=vm, why=why))

    def _needs_host(
        self, facts: Facts, view: View, membership: Membership, excluded: Excluded,
        vm: str, held: Held[Lease] | None,
    ) -> str:  # fmt: skip
        """Why the VM needs a host now; "" when it is somebody's business already."""
        if f"lease/{vm}" in facts.unread:
            return ""  # nobody knows whose it is
        if facts.writing(f"lease/{vm}"):
            return ""
        if held is None or not held.value.held:
            if held and held.value.via == "failed":
                return f"it did not start where it was: {held.value.why}"
            return "it is wanted and runs nowhere"
        lease = held.value
        if view.lists(lease.slot, lease.term) and lease.slot not in membership.dead:
            return ""
        proof = of_death(
            facts, self._timing, lease.slot, lease.term,
            known_ns=held.read_ns, excluded=excluded, extra_ns=membership.extra_ns,
        )  # fmt: skip
        if proof is None:
            return ""
        return f"{facts.host(lease.slot)} lost it, proof: {proof.kind.value} ({proof.evidence})"

    def _settle(self, now_ns: int, facts: Facts, notes: list[Note]) -> None:
        """Forget orders that were carried out, are void, or came too late."""
        for vm, given in list(self._given.items()):
            held, record = facts.leases.get(vm), facts.vms.get(vm)
            version = held.version if held else 0
            gone = facts.view is None or given.slot not in facts.view.members
            if gone or record is None or not record.value.wanted:
                del self._given[vm]
            elif version != given.order.lease_version:
                del self._given[vm]
                self._late.pop(vm, None)
                self._recent[vm] = (given.slot, now_ns)
            elif record.version != given.order.def_version:
                del self._given[vm]
            elif now_ns - given.since_ns > LATE_BEATS * self._timing.beat_ns:
                del self._given[vm]
                self._late[vm] = given.slot
                late_s = (now_ns - given.since_ns) / 1e9
                host = facts.view.members[given.slot].host if facts.view else ""
                notes.append(note("order-late", vm=vm, host=host, late_s=late_s))
        for vm, (_, at) in list(self._recent.items()):
            if now_ns - at > 3 * self._timing.beat_ns:
                del self._recent[vm]

    def _give(
        self, now_ns: int, facts: Facts, view: View, due: Mapping[str, str], stage: Stage,
        notes: list[Note],
    ) -> None:  # fmt: skip
        slots = {member.host: slot for slot, member in view.members.items()}
        tried = {}
        for vm in due:
            held = facts.leases.get(vm)
            failed = {self._late.get(vm, 0), held.value.failed_slot if held else 0} - {0}
            tried[vm] = {facts.host(slot) for slot in failed}
        for said in stage.place(list(due), tried):
            vm, reason = said.vm, due[said.vm]
            if not said.host:
                self._say_no_room(said, notes)
                continue
            self._no_room.pop(vm, None)
            held, record = facts.leases.get(vm), facts.vms[vm]
            order = Order("start", vm, record.version, held.version if held else 0, reason)
            self._given[vm] = Given(slots[said.host], order, now_ns)
            why = f"{reason}; {said.why}"
            notes.append(note("order-given", vm=vm, host=said.host, why=why, **evidence(said)))

    def _say_no_room(self, said: Answer, notes: list[Note]) -> None:
        if self._no_room.get(said.vm) != said.why:
            self._no_room[said.vm] = said.why
            notes.append(note("no-room", vm=said.vm, why=said.why, **evidence(said)))

    def _on_stage(self, facts: Facts, membership: Membership) -> Stage:
        """The pool with all that was ordered before this round."""
        placed = {vm: given.slot for vm, given in self._given.items()}
        placed |= {vm: slot for vm, (slot, _) in self._recent.items()}
        arriving = arrivals(self._relocation.promised, facts)
        return Stage(
            landscape(facts, self._settings, dead=membership.dead, placed=placed, arriving=arriving)
        )

    def _books(self, facts: Facts, view: View, moves: Mapping[int, list[Order]]) -> list[Swap]:
        wanted = {slot: list(moves.get(slot, ())) for slot in view.members}
        for given in self._given.values():
            if given.slot in wanted:
                wanted[given.slot].append(given.order)
        swaps = []
        for slot, orders in wanted.items():
            book = OrderBook(slot, view.version, facts.me.slot, facts.term, tuple(orders))
            known = facts.books.get(slot)
            if _same(known, book) or facts.writing(f"order/{slot}"):
                continue
            why = f"orders for {view.members[slot].host}"
            swaps.append(Swap(f"order/{slot}", known.version if known else 0, book, why))
        return swaps


def _same(known: Held[OrderBook] | None, book: OrderBook) -> bool:
    if known is None or not known.value.orders:
        # an empty list says nothing, whoever wrote it
        return not book.orders
    return known.value == book


def plans(books: Mapping[int, Held[OrderBook]]) -> int:
    """How many orders stand in all books; for status displays."""
    return sum(len(b.value.orders) for b in books.values())
