"""Live migration as its two hosts see it: the lease decides, never what libvirt says happened.

Rules (docs/PROTOCOL.md, live migration; tests/model/migration_model.py shows what each is for):
1. The holder writes the move into its lease before anything moves, and begins only after it SEES
   that. Until it gives the lease away the VM is its own, whatever happened to the copy.
2. It gives the lease away only when its own hands, in this very life of the agent, saw the VM's
   process end with its copy complete and no chance of having run since. An agent that was
   restarted never gives a lease away.
3. A copy stands still until its host SEES the lease given to it for this very move. Whoever gets
   the lease in any other way starts the VM from its disk, and the copy is ended: its memory may be
   older than the disk.
4. A move that failed is first told in the VM's record, then taken out of the lease; then the copy
   is ended by its host, because no lease names it any more.
5. A wish taken back, a target that is out, or a VM that is no longer wanted to run ends a move that
   has begun; it does no harm at any moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from outlast.model import Handover, Lease, LocalVm, Order, VmRecord, VmState
from outlast.pool.decision import Abort, Depart, Kill, Resume, Swap, leaving
from outlast.pool.facts import Facts, Held
from outlast.pool.journal import Note, note
from outlast.settings import PoolSettings

RESUMES_MAX = 5  # a copy that does not go on after so many tries is ended
STUCK = "migration"  # LocalVm.reason of a VM that libvirt left standing still after a move


@dataclass(slots=True)
class Motion:
    """The part of a decision that is about moves."""

    kills: list[Kill] = field(default_factory=list)
    swaps: list[Swap] = field(default_factory=list)
    departs: list[Depart] = field(default_factory=list)
    aborts: list[Abort] = field(default_factory=list)
    resumes: list[Resume] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


class Moving:
    """What this life of the agent knows of its moves; losing it fails them, harmlessly."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._ours: dict[str, str] = {}  # vm -> id of the move that this life wrote into its lease
        self._begun: dict[str, str] = {}  # ... and that its hands have begun
        self._left: dict[str, str] = {}  # ... and whose VM has ended here, its copy complete
        self._failed: dict[str, tuple[str, str]] = {}  # vm -> id, why
        self._aborted: set[str] = set()
        self._resumes: dict[str, int] = {}
        self._came: dict[str, str] = {}  # vm -> id of the move whose copy goes on here

    def hear(self, facts: Facts, motion: Motion) -> None:
        """What the hands report, and what became of leases. Before everything else of a tick."""
        self._handed(facts, motion)
        for result in facts.results:
            vm = result.subject
            if result.kind == "move" and vm in self._begun:
                self._aborted.discard(vm)
                if result.ok:
                    self._left[vm] = self._begun[vm]
                else:
                    self._failed[vm] = (self._begun[vm], result.detail)
            elif result.kind == "resume" and result.ok:
                self._resumes.pop(vm, None)

    # ---- the host it leaves

    def take(self, facts: Facts, order: Order, motion: Motion) -> str:
        """Carry out the master's order to move a VM; returns why not ("" = done, or not now)."""
        vm, me = order.vm, facts.me.slot
        held, record = facts.leases.get(vm), facts.vms.get(vm)
        if held is None or not facts.holds(held.value) or leaving(held.value, me):
            return ""  # it has left, or is about to
        if facts.writing(f"lease/{vm}", f"vm/{vm}"):
            return ""
        wish = record.value.move if record else None
        if record is None or not record.value.wanted or wish is None or wish.id != order.move:
            return "nobody wants it moved any more"
        if record.value.disk_move is not None:
            return "one of its disks is on its way to another storage"
        if (order.def_version, order.lease_version) != (record.version, held.version):
            return ""  # seen at another moment than the master did; the next look agrees
        local = facts.local.get(vm)
        if local is None or local.state is not VmState.RUNNING or local.incoming:
            return "it does not run here at the moment"
        target = facts.view.members.get(order.to_slot) if facts.view else None
        if target is None or order.to_slot == me:
            return "its target is no other member of the pool"
        if len(self._under_way(facts)) >= facts.agreed(self._settings).moves_at_once:
            return ""
        move = Handover(order.move, me, order.to_slot, target.term)
        motion.swaps.append(Swap(f"lease/{vm}", held.version, replace(held.value, move=move), ""))
        self._ours[vm] = order.move
        self._forget(vm, all_but=order.move)
        return ""

    def leave(self, facts: Facts, vm: str, held: Held[Lease], motion: Motion) -> bool:
        """A VM of ours that is on its way. True: nothing else is to be done about it now."""
        move, record = held.value.move, facts.vms.get(vm)
        if move is None or not leaving(held.value, facts.me.slot) or record is None:
            return False
        if facts.writing(f"lease/{vm}", f"vm/{vm}"):
            return True
        to = facts.host(move.to_slot)
        if self._left.get(vm) == move.id:
            if vm in facts.guard.populated:
                return True  # an old look at it
            why = f"it moved to {to}"
            given = Lease(
                vm, move.to_slot, move.to_term, "migration", record.version, why=why, move=move,
                start_seq=held.value.start_seq,
            )  # fmt: skip
            motion.swaps.append(Swap(f"lease/{vm}", held.version, given, why))
            return True
        failed = self._failed.get(vm, ("", ""))
        if failed[0] != move.id:
            void = self._void(facts, record.value, move)
            if ("move", vm) in facts.busy:
                if void and vm not in self._aborted:
                    self._aborted.add(vm)
                    motion.aborts.append(Abort(vm, void))
                return True
            if not void and self._ours.get(vm) == move.id and vm not in self._begun:
                self._begun[vm] = move.id
                motion.departs.append(Depart(vm, move.id, move.to_slot))
                why = record.value.move.why if record.value.move else ""
                fields = {"vm": vm, "host": facts.me.host, "to": to}
                motion.notes.append(note("move-begins", **fields, why=why))
                return True
            failed = (move.id, void or "its agent was restarted during the move")
        self._give_up(facts, held, record, failed[1], motion)
        return True

    def _handed(self, facts: Facts, motion: Motion) -> None:
        """Tell of leases that were seen given away, once, and forget moves of the past."""
        for vm, id_ in list(self._left.items()):
            held = facts.leases.get(vm)
            if held is None or held.value.move is None or held.value.move.id != id_:
                self._forget(vm)
            elif not facts.holds(held.value) and self._ours.pop(vm, ""):
                to = facts.host(held.value.slot)
                motion.notes.append(note("lease-given", vm=vm, host=facts.me.host, to=to))

    def _give_up(
        self, facts: Facts, held: Held[Lease], record: Held[VmRecord], why: str, motion: Motion
    ) -> None:
        """Rule 4."""
        vm, move, wish = held.value.vm, held.value.move, record.value.move
        if wish is not None and move is not None and wish.id == move.id and not wish.failed:
            value = replace(record.value, move=replace(wish, failed=why))
            motion.swaps.append(Swap(f"vm/{vm}", record.version, value, why))
            motion.notes.append(note("move-failed", vm=vm, host=facts.me.host, why=why))
            return
        if wish is None or move is None or wish.id != move.id:
            motion.notes.append(note("move-failed", vm=vm, host=facts.me.host, why=why))
        motion.swaps.append(Swap(f"lease/{vm}", held.version, replace(held.value, move=None), why))
        self._forget(vm)

    def _void(self, facts: Facts, record: VmRecord, move: Handover) -> str:
        """Rule 5: why a move must not go on; "" when nothing speaks against it."""
        if not record.wanted:
            return "it is no longer wanted to run"
        if record.move is None or record.move.id != move.id:
            return "the wish to move it was taken back"
        if record.move.failed:
            return record.move.failed
        if facts.view is None or not facts.view.lists(move.to_slot, move.to_term):
            return f"{facts.host(move.to_slot)} is no member any more"
        return ""

    def _under_way(self, facts: Facts) -> list[str]:
        """Rule 1's leases, those being written among them."""
        return [
            vm
            for vm, held in facts.leases.items()
            if facts.holds(held.value)
            and (
                leaving(held.value, facts.me.slot)
                or (vm in self._ours and facts.writing(f"lease/{vm}"))
            )
        ]

    def _forget(self, vm: str, all_but: str = "") -> None:
        for known in (self._ours, self._begun, self._left, self._failed):
            value = known.get(vm)
            if value is not None and (value if isinstance(value, str) else value[0]) != all_but:
                del known[vm]
        self._aborted.discard(vm)

    # ---- the host it comes to

    def may_stay(self, facts: Facts, vm: str, lease: Lease) -> bool:
        """True for what is here without our lease and is no stranger.

        A copy that stands still for another host's move, or the rest of a VM that has left: libvirt
        lists it for a moment longer.
        """
        move = lease.move
        if move is None or not lease.held:
            return False
        if self._left.get(vm) == move.id:
            return vm not in facts.guard.populated
        if (move.to_slot, move.to_term) != (facts.me.slot, facts.term):
            return False
        local = facts.local.get(vm)
        return local is None or (local.state is not VmState.RUNNING and local.incoming == move.id)

    def arrive(self, facts: Facts, local: LocalVm, lease: Lease, motion: Motion) -> bool:
        """A copy here whose lease is ours. True: nothing else is to be done about it now."""
        vm, move = local.name, lease.move
        if not local.incoming:
            return self._unstick(facts, local, lease, motion)
        why = ""
        if lease.via != "migration" or move is None or move.id != local.incoming:
            why = "this copy was not handed over: its memory may be older than its disk"
        elif self._resumes.get(vm, 0) >= RESUMES_MAX:
            why = f"its copy did not go on after {RESUMES_MAX} tries"
        if why:
            self._resumes.pop(vm, None)
            motion.kills.append(Kill(vm, why))
            motion.notes.append(note("vm-killed", vm=vm, host=facts.me.host, why=why))
        elif ("resume", vm) not in facts.busy and facts.guard.remaining_ns > 0:
            self._resumes[vm] = self._resumes.get(vm, 0) + 1
            self._came[vm] = local.incoming
            motion.resumes.append(Resume(vm, "it was handed over to this host"))
        return True

    def _unstick(self, facts: Facts, local: LocalVm, lease: Lease, motion: Motion) -> bool:
        """A VM that a failed move left standing still goes on: its copy can no longer."""
        if local.state is not VmState.PAUSED or local.reason != STUCK:
            return False
        if ("resume", local.name) not in facts.busy and facts.guard.remaining_ns > 0:
            motion.resumes.append(Resume(local.name, "its move has ended and it is still here"))
        return True

    def told_running(self, facts: Facts, vm: str, lease: Lease, *, adopted: bool) -> Note:
        """The first sight of a VM of ours that runs."""
        move = lease.move
        if self._came.pop(vm, "") and move is not None:
            other = facts.host(move.from_slot)
            return note("vm-moved", vm=vm, host=facts.me.host, other=other)
        return note("vm-adopted" if adopted else "vm-runs", vm=vm, host=facts.me.host)

    def arrived(self, facts: Facts, vm: str, held: Held[Lease], motion: Motion) -> None:
        """A VM of ours runs here: the wish that brought it is fulfilled."""
        move, record = held.value.move, facts.vms.get(vm)
        wish = record.value.move if record else None
        if move is None or record is None or wish is None or wish.id != move.id or wish.failed:
            return
        if move.to_slot == facts.me.slot and not facts.writing(f"vm/{vm}"):
            value = replace(record.value, move=None, away_from=wish.back_to)
            motion.swaps.append(Swap(f"vm/{vm}", record.version, value, "its move is done"))


def receiving(slot: int, term: str, lease: Lease, id_: str) -> str:
    """Why a host does not take in the copy of this move; "" when its lease, just read, names it."""
    move = lease.move
    if not lease.held or move is None or move.id != id_:
        return "its lease names no such move"
    if (move.to_slot, move.to_term) != (slot, term):
        return "its lease names another host, or an earlier term of this one"
    if lease.slot == slot:
        return "it was given to this host already"
    return ""
