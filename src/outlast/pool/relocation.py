"""The master's part in live migration: who shall move where, and orders for it.

Rules:
1. A wish to move stands in the VM's record, whoever wished for it: a person, or this file for the
   VMs of a host in maintenance. It ends there as well: fulfilled (None) or failed, with the reason.
2. The target is the host a start would get, but never the one where the VM is; a target that was
   named must be able to take it, or the wish fails and says why.
3. No more moves at once from or to a host than the pool allows; the others wait their turn.
4. What failed for a host in maintenance is tried again after a while: room may have come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from outlast.model import Lease, Move, Order, View, VmRecord
from outlast.pool.decision import Swap, leaving
from outlast.pool.facts import Facts, Held
from outlast.pool.journal import Note, note
from outlast.pool.stage import Stage, evidence
from outlast.settings import PoolSettings

AGAIN_BEATS = 30  # rule 4
LATE_BEATS = 15  # an order to move that its holder does not take is decided anew

OnStage = Callable[[], Stage]  # built when it is asked for


@dataclass(slots=True)
class Round:
    """What one round of the master wants of moves."""

    swaps: list[Swap] = field(default_factory=list)
    orders: dict[int, list[Order]] = field(default_factory=dict)  # by the holder's slot
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Given:
    order: Order
    holder: int
    since_ns: int


class Relocation:
    """The master's memory of moves; safe to lose."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._beat_ns = settings.timing.beat_ns
        self._given: dict[str, _Given] = {}
        self._again: dict[str, int] = {}  # vm -> when rule 4 lets it try again
        self._maintained: frozenset[int] = frozenset()

    @property
    def promised(self) -> dict[str, int]:
        """VMs that were ordered to a slot and are not there yet."""
        return {vm: given.order.to_slot for vm, given in self._given.items()}

    def forget(self) -> None:
        """This host is no master any more."""
        self._given.clear()
        self._again.clear()
        self._maintained = frozenset()

    def step(self, now_ns: int, facts: Facts, view: View, stage: OnStage) -> Round:
        round_ = Round()
        self._tell(facts, view, round_)
        self._settle(now_ns, facts)
        busy = self._busy(facts)
        for vm, record in sorted(facts.vms.items()):
            held = facts.leases.get(vm)
            if held is None or not view.lists(held.value.slot, held.value.term):
                continue
            if facts.writing(f"vm/{vm}") or f"lease/{vm}" in facts.unread:
                continue
            if not record.value.wanted or leaving(held.value, held.value.slot):
                continue
            wish = record.value.move
            if wish is not None and held.value.move is not None and held.value.move.id == wish.id:
                continue  # it is there; its host fulfils the wish
            if wish is not None and not wish.failed:
                self._order(now_ns, facts, view, vm, record, held, stage, busy, round_)
            elif held.value.slot in self._maintained and now_ns >= self._again.get(vm, 0):
                self._wish(now_ns, facts, vm, record, held, stage, busy, round_)
        for given in self._given.values():
            round_.orders.setdefault(given.holder, []).append(given.order)
        return round_

    def _tell(self, facts: Facts, view: View, round_: Round) -> None:
        now = frozenset(n for n in view.slots if (r := facts.slots.get(n)) and r.maintenance)
        for slot in sorted(now - self._maintained):
            record = facts.slots[slot]
            round_.notes.append(note("maintenance", host=record.host, why=record.maintenance))
        for slot in sorted((self._maintained - now) & view.slots):
            round_.notes.append(note("in-service", host=view.members[slot].host))
        self._maintained = now

    def _settle(self, now_ns: int, facts: Facts) -> None:
        """Forget orders that were carried out, are void, or were not taken in time."""
        for vm, given in list(self._given.items()):
            held, record = facts.leases.get(vm), facts.vms.get(vm)
            same = held is not None and held.version == given.order.lease_version
            same = same and record is not None and record.version == given.order.def_version
            if not same or now_ns - given.since_ns > LATE_BEATS * self._beat_ns:
                del self._given[vm]

    def _most(self, facts: Facts) -> int:
        return facts.agreed(self._settings).moves_at_once

    def _busy(self, facts: Facts) -> dict[int, int]:
        """Moves under way from or to each slot."""
        busy: dict[int, int] = {}
        for held in facts.leases.values():
            move = held.value.move
            if move is not None and held.value.held and leaving(held.value, held.value.slot):
                for slot in (held.value.slot, move.to_slot):
                    busy[slot] = busy.get(slot, 0) + 1
        for given in self._given.values():
            for slot in (given.holder, given.order.to_slot):
                busy[slot] = busy.get(slot, 0) + 1
        return busy

    def _order(
        self, now_ns: int, facts: Facts, view: View, vm: str, record: Held[VmRecord],
        held: Held[Lease], stage: OnStage, busy: dict[int, int], round_: Round,
    ) -> None:  # fmt: skip
        wish, holder = record.value.move, held.value.slot
        if wish is None or vm in self._given or busy.get(holder, 0) >= self._most(facts):
            return
        if wish.to == view.members[holder].host:  # it came there by a take-over, or was there
            self._record(facts, vm, record, replace(record.value, move=None), round_)
            return
        choice = stage().target(vm, wish.to)
        slots = {member.host: slot for slot, member in view.members.items()}
        slot = slots.get(choice.host, 0)
        if slot and busy.get(slot, 0) >= self._most(facts):
            return
        if not slot:
            failed = replace(wish, failed=choice.why)
            self._record(facts, vm, record, replace(record.value, move=failed), round_)
            host = view.members[holder].host
            round_.notes.append(note("move-failed", vm=vm, host=host, why=choice.why))
            return
        order = Order("move", vm, record.version, held.version, wish.why, slot, wish.id)
        self._given[vm] = _Given(order, holder, now_ns)
        stage().reserve(vm, choice.host)
        for end in (holder, slot):
            busy[end] = busy.get(end, 0) + 1
        why = f"{wish.why}; {choice.why}" if wish.why else choice.why
        round_.notes.append(
            note("order-given", vm=vm, host=choice.host, why=why, **evidence(choice))
        )

    def _wish(
        self, now_ns: int, facts: Facts, vm: str, record: Held[VmRecord], held: Held[Lease],
        stage: OnStage, busy: dict[int, int], round_: Round,
    ) -> None:  # fmt: skip
        """Rule 1: the wishes that a host's maintenance stands for, a few at a time."""
        holder = held.value.slot
        if busy.get(holder, 0) >= self._most(facts):
            return
        host = facts.slots[holder].host
        id_ = f"{held.version:08x}{record.version:08x}"
        wish = Move(id_, "", f"{host} is in maintenance", host)
        choice = stage().target(vm)
        if not choice.host:
            before = record.value.move
            if before is not None and before.failed == choice.why:
                self._again[vm] = now_ns + AGAIN_BEATS * self._beat_ns
                return
            wish = replace(wish, failed=choice.why)
            round_.notes.append(note("move-failed", vm=vm, host=host, why=choice.why))
        busy[holder] = busy.get(holder, 0) + (not wish.failed)
        self._again[vm] = now_ns + AGAIN_BEATS * self._beat_ns
        self._record(facts, vm, record, replace(record.value, move=wish), round_)

    def _record(
        self, facts: Facts, vm: str, held: Held[VmRecord], value: VmRecord, round_: Round
    ) -> None:
        why = value.move.failed or value.move.why if value.move else ""
        round_.swaps.append(Swap(f"vm/{vm}", held.version, value, why))
