"""What this host does about VMs: its own leases against what really runs here.

Rules:
1. A VM that is here without a lease for this slot and term is ended. Nothing here may run by luck.
   A lease that cannot be read is no missing lease: its VM runs on, under the guard's deadline.
2. A lease of ours without the VM: start it if it is wanted, else free the lease. A VM that ended is
   restarted here at once when it is highly available and did not end itself, or was stopped by a
   wish that a newer one has taken back.
3. A lease is freed only when the hypervisor's list AND the guard's control groups show nothing.
   Unless the VM shut itself down, the storage must have answered for X since it was seen gone: what
   a killed QEMU had written may wait in this host's kernel while the storage does not answer. That
   holds for one that failed to start as well: it, or an earlier one, may have run unseen.
4. A lease is taken only on an order of the newest view's master, for the versions the order names,
   and from another holder only with a proof of death that this host found itself.
5. Nothing starts within the margin before the guard's deadline.
6. A VM that dies too often, or cannot start for a reason that trying again won't mend, stays down
   and says why (VmRecord.held_down), until somebody wishes to start it again.
7. A locked disk is waited for, never forced: its former host's locks lapse with time.
8. A lease that was taken for work on a VM's disks (DISKS) starts nothing. While the hands say that
   the work is under way it is left alone; after that, what is left of the work is ended and the
   lease is freed, whatever is wished: the next start is the master's order again.
9. A VM with disks in a storage repository is taken only where that answers. Its lease is freed, and
   it is started again here, only once the repository has answered for X, and a question that began
   after the VM was gone: writes of a QEMU that was killed may wait in this host's kernel.
10. A VM that is on its way elsewhere, or has come from there, is first of all moving.py's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from outlast.model import Desired, Lease, Order, Proof, VmRecord, VmState
from outlast.pool import availability
from outlast.pool.decision import DISKS, Kill, Start, Stop, Swap
from outlast.pool.draining import Draining
from outlast.pool.facts import Exit, Facts, Held
from outlast.pool.journal import Note, note
from outlast.pool.life import Life
from outlast.pool.membership import Membership
from outlast.pool.moving import Motion, Moving
from outlast.pool.proof import Excluded, of_death
from outlast.settings import PoolSettings, S

LOCKED_RETRY_NS = S // 5  # a QEMU that just ended may hold its lock for some milliseconds
OBEYS_NS = 120 * S  # an end that late after it was asked for is an end of its own
OWNER_STOPS = "its owner wants it stopped"
REFUSAL_BEATS = 3  # an order not carried out for so many beats is told


@dataclass(slots=True)
class Work:
    """The growing part of a decision."""

    kills: list[Kill] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    swaps: list[Swap] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    motion: Motion = field(default_factory=Motion)


class Hosting:
    """The memory behind rules 2, 6 and 7; safe to lose when the agent restarts."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._timing = settings.timing
        self._deaths: dict[str, list[int]] = {}
        self._seen_running: set[str] = set()
        self._started: set[str] = set()  # those that ran since, by their hands' word, if not seen
        self._failed: dict[str, str] = {}  # vm -> why it did not start: it is another host's turn
        self._exits: dict[str, Exit] = {}
        self._retry_at: dict[str, int] = {}
        self._taking: dict[str, int] = {}  # vm -> the epoch its lease has once it is ours
        self._stop_since: dict[str, int] = {}
        self._refused: dict[tuple[str, int, str], int] = {}  # order and refusal -> since when
        self._locked: set[str] = set()
        self._why: dict[str, str] = {}  # why it is started again here
        self._down: dict[str, tuple[int, str]] = {}  # vm -> (start_seq, why it must not start)
        self._draining = Draining(self._timing)
        self._moving = Moving(settings)
        self._life = Life()
        self._first = True

    def step(self, now_ns: int, facts: Facts, membership: Membership, excluded: Excluded) -> Work:
        work = Work()
        if not facts.registers_ready:
            return work
        for exit_ in facts.exits:
            self._exits[exit_.vm] = exit_
        self._forget_former(facts)
        self._draining.look(now_ns, facts)
        self._moving.hear(facts, work.motion)
        self._results(now_ns, facts, work)
        self._end_strangers(facts, work)
        if facts.local_ready:
            for vm, held in sorted(facts.leases.items()):
                if facts.holds(held.value) and membership.member:
                    self._own(now_ns, facts, vm, held, work)
            if membership.member and facts.guard.remaining_ns > self._timing.margin_ns:
                self._orders(now_ns, facts, membership, excluded, work)
            work.notes += self._life.step(now_ns, facts)
            self._first = False
        return work

    def _forget_former(self, facts: Facts) -> None:
        """What ran here under another lease is not ours to miss when it comes here again."""
        for vm in self._seen_running | self._started | self._locked | self._failed.keys():
            held = facts.leases.get(vm)
            if held is None or not facts.holds(held.value):
                self._seen_running.discard(vm)
                self._started.discard(vm)
                self._locked.discard(vm)
                self._failed.pop(vm, None)
                self._exits.pop(vm, None)

    # ---- rule 1

    def _end_strangers(self, facts: Facts, work: Work) -> None:
        for vm in sorted(set(facts.local) | facts.guard.populated):
            held = facts.leases.get(vm)
            if held is not None and facts.holds(held.value):
                continue
            if ("kill", vm) in facts.busy or ("start", vm) in facts.busy:
                continue
            if f"lease/{vm}" in facts.unread:
                continue
            if held is not None and self._moving.may_stay(facts, vm, held.value):
                continue
            local = facts.local.get(vm)
            copy = local is not None and local.incoming
            why = "its move came to nothing" if copy else "this host does not hold its lease"
            work.kills.append(Kill(vm, why))
            work.notes.append(note("vm-killed", vm=vm, host=facts.me.host, why=why))
            self._seen_running.discard(vm)

    # ---- rules 2, 3, 6

    def _own(self, now_ns: int, facts: Facts, vm: str, held: Held[Lease], work: Work) -> None:
        record = facts.vms.get(vm)
        if record is None or facts.writing(f"lease/{vm}", f"vm/{vm}"):
            return
        local = facts.local.get(vm)
        present = local is not None or vm in facts.guard.populated
        if held.value.via == DISKS:
            self._after_disk_work(now_ns, facts, vm, held, work)
            return
        if self._taking.pop(vm, 0) == held.version:
            self._draining.taken(vm)
            proof = held.value.proof
            over = f" from its former holder, proof: {proof.kind.value}" if proof else ""
            work.notes.append(note("lease-taken", vm=vm, over=over, epoch=held.version))
        if local is not None and local.state is VmState.RUNNING:
            self._note_running(now_ns, facts, vm, held.value, work)
            self._moving.arrived(facts, vm, held, work.motion)
        if self._moving.leave(facts, vm, held, work.motion):
            return
        if any((kind, vm) in facts.busy for kind in ("start", "stop", "kill")):
            return
        if local is not None and self._moving.arrive(facts, local, held.value, work.motion):
            return
        if present:
            self._draining.here(vm)
            if record.value.desired is Desired.STOPPED or record.value.deleted:
                self._stop(now_ns, facts, vm, record.value, work)
            return
        if self._draining.unsettled(now_ns, facts, vm, record.value, work.notes):
            return
        if vm in self._seen_running or vm in self._started:
            self._ended(now_ns, facts, vm, record, work)
            return
        if self._stays_down(vm, record, work):
            return
        failed = self._failed.get(vm, "")
        if failed or not record.value.wanted:
            if self._draining.drained(now_ns, facts, vm, work.notes):
                why = failed or record.value.held_down or "nobody wants it to run"
                self._free(facts, vm, held, work, why, failed=bool(failed))
        elif (
            now_ns >= self._retry_at.get(vm, 0)
            and facts.guard.remaining_ns > self._timing.margin_ns
            and not self._draining.cut_off(facts, vm, work.notes)
        ):
            why = self._why.get(vm) or held.value.why or "this host holds its lease"
            work.starts.append(Start(vm, record.value.spec, held.version, why))
            if vm not in self._locked:  # that it is tried again has been said
                work.notes.append(note("vm-starts", vm=vm, host=facts.me.host, why=why))
            self._retry_at[vm] = now_ns + self._timing.beat_ns
            self._draining.here(vm)

    def _after_disk_work(
        self, now_ns: int, facts: Facts, vm: str, held: Held[Lease], work: Work
    ) -> None:
        if (DISKS, vm) in facts.busy or ("kill", vm) in facts.busy:
            self._draining.here(vm)  # whatever was known of the VM: a program may write now
        elif vm in facts.local or vm in facts.guard.populated:
            why = "the work on its disks lost its agent"
            work.kills.append(Kill(vm, why))
            work.notes.append(note("vm-killed", vm=vm, host=facts.me.host, why=why))
            self._draining.here(vm)
        elif self._draining.drained(now_ns, facts, vm, work.notes):
            self._free(facts, vm, held, work, f"the work on its disks has ended: {held.value.why}")

    def _stays_down(self, vm: str, record: Held[VmRecord], work: Work) -> bool:
        """True while what was decided about its end is not yet on the storage: write it again."""
        start_seq, why = self._down.get(vm, (-1, ""))
        if start_seq != record.value.start_seq or not record.value.wanted:
            self._down.pop(vm, None)
            return False
        value = replace(record.value, held_down=why)
        if not why:
            value = replace(record.value, desired=Desired.STOPPED)
        work.swaps.append(Swap(f"vm/{vm}", record.version, value, why or "it shut itself down"))
        return True

    def _note_running(self, now_ns: int, facts: Facts, vm: str, lease: Lease, work: Work) -> None:
        self._started.discard(vm)
        self._failed.pop(vm, None)
        if vm not in self._seen_running:
            self._seen_running.add(vm)
            said = self._moving.told_running(facts, vm, lease, adopted=self._first)
            work.notes.append(said)
            if said.code == "vm-runs":
                self._life.began(now_ns, vm)
            self._exits.pop(vm, None)
            self._locked.discard(vm)

    def _stop(self, now_ns: int, facts: Facts, vm: str, record: VmRecord, work: Work) -> None:
        if ("stop", vm) in facts.busy or now_ns < self._stop_since.get(vm, 0):
            return
        self._stop_since[vm] = now_ns + 5 * S
        why = "it was deleted" if record.deleted else OWNER_STOPS
        work.stops.append(Stop(vm, record.stop_mode, why))
        work.notes.append(note("vm-stops", vm=vm, host=facts.me.host, why=why))

    def _ended(
        self, now_ns: int, facts: Facts, vm: str, record: Held[VmRecord], work: Work
    ) -> None:
        """The VM ran here and is gone: decide once whether it comes back."""
        self._seen_running.discard(vm)
        self._started.discard(vm)
        asked = now_ns < self._stop_since.pop(vm, -OBEYS_NS) + OBEYS_NS
        ended = self._exits.pop(vm, Exit(vm, "crashed", "it vanished"))
        if ended.kind == "shutdown":
            self._draining.shut_down(vm)
        wish = record.value
        if wish.desired is Desired.STOPPED or wish.deleted:
            work.notes.append(note("vm-stopped", vm=vm))
            return
        if asked:
            work.notes.append(note("vm-stopped", vm=vm))
            self._why[vm] = "it was stopped, and is wanted again since"
            return
        if ended.kind == "shutdown" and wish.on_shutdown != "restart":
            work.notes.append(note("vm-shutdown", vm=vm))
            self._down[vm] = (wish.start_seq, "")
            self._stays_down(vm, record, work)
            return
        if ended.kind == "shutdown":
            work.notes.append(note("vm-shutdown-restart", vm=vm))
        else:
            why = ended.detail or "its QEMU ended"
            work.notes.append(note("vm-crashed", vm=vm, host=facts.me.host, why=why))
        self._again(now_ns, facts, vm, record, work)

    def _again(
        self, now_ns: int, facts: Facts, vm: str, record: Held[VmRecord], work: Work
    ) -> None:
        """It ended and is wanted: started here again, unless that happens too often."""
        wish = record.value
        settings = facts.agreed(self._settings)
        window_ns = settings.restart_window_s * S
        deaths = [t for t in self._deaths.get(vm, []) if now_ns - t < window_ns] + [now_ns]
        self._deaths[vm] = deaths
        if not_ha := availability.off(facts, wish):
            self._hold_down(vm, record, f"it died, and {not_ha}", work)
        elif len(deaths) > settings.restart_limit:
            minutes = settings.restart_window_s // 60
            why = f"it died {len(deaths)} times within {minutes} minutes"
            self._hold_down(vm, record, why, work)
        else:
            limit = settings.restart_limit
            self._why[vm] = f"it died here; restart {len(deaths)} of at most {limit}"

    def _hold_down(self, vm: str, record: Held[VmRecord], why: str, work: Work) -> None:
        work.notes.append(note("held-down", vm=vm, why=why))
        self._deaths.pop(vm, None)
        self._down[vm] = (record.value.start_seq, why)
        self._stays_down(vm, record, work)

    def _free(
        self, facts: Facts, vm: str, held: Held[Lease], work: Work, why: str, failed: bool = False
    ) -> None:
        free = Lease(
            vm,
            via="failed" if failed else "free",
            fails=held.value.fails + 1 if failed else 0,
            failed_slot=facts.me.slot if failed else 0,
            why=why,
        )
        self._why.pop(vm, None)
        self._failed.pop(vm, None)
        work.swaps.append(Swap(f"lease/{vm}", held.version, free, why))
        work.notes.append(note("lease-freed", vm=vm, why=why))

    # ---- what hands report

    def _results(self, now_ns: int, facts: Facts, work: Work) -> None:
        for result in facts.results:
            vm = result.subject
            if result.ok and result.kind in ("start", "resume"):
                self._started.add(vm)
            if result.kind != "start" or result.ok:
                continue
            held, record = facts.leases.get(vm), facts.vms.get(vm)
            if result.trouble == "locked":
                if vm not in self._locked:
                    self._locked.add(vm)
                    work.notes.append(note("start-locked", vm=vm))
                self._retry_at[vm] = now_ns + LOCKED_RETRY_NS
                continue
            self._locked.discard(vm)
            why = result.detail
            work.notes.append(note("start-failed", vm=vm, host=facts.me.host, why=why))
            if held is None or record is None or not facts.holds(held.value):
                continue
            fails, limit = held.value.fails + 1, facts.agreed(self._settings).restart_limit
            if fails > limit:
                why = f"{fails} starts in a row failed, the last one on {facts.me.host}: {why}"
            hopeless = result.trouble == "missing" or fails > limit
            if hopeless and record.value.wanted:
                self._hold_down(vm, record, why, work)
            else:
                self._failed[vm] = why

    # ---- rule 4

    def _orders(
        self, now_ns: int, facts: Facts, membership: Membership, excluded: Excluded, work: Work
    ) -> None:
        book = facts.books.get(facts.me.slot)
        view = facts.view
        if book is None or view is None:
            return
        writer = view.members.get(book.value.master_slot)
        if book.value.view_version != view.version or book.value.master_slot != view.master:
            return  # an older view's orders; the master writes new ones
        if writer is None or writer.term != book.value.master_term:
            return
        for order in book.value.orders:
            if order.op == "move":
                refusal = self._moving.take(facts, order, work.motion)
            else:
                refusal = self._take(facts, membership, excluded, order, work)
            if refusal:
                self._tell_refusal(now_ns, order, refusal, work)

    def _tell_refusal(self, now_ns: int, order: Order, refusal: str, work: Work) -> None:
        """Told once, when it lasts: a moment later this host may see what the master saw."""
        key = (order.vm, order.lease_version, refusal)
        since = self._refused.setdefault(key, now_ns)
        if since >= 0 and now_ns - since >= REFUSAL_BEATS * self._timing.beat_ns:
            self._refused[key] = -1
            work.notes.append(note("order-refused", vm=order.vm, why=refusal))

    def _take(
        self, facts: Facts, membership: Membership, excluded: Excluded, order: Order, work: Work
    ) -> str:
        """Carry out one order; returns why not ("" = done, or nothing to say)."""
        vm = order.vm
        record, held = facts.vms.get(vm), facts.leases.get(vm)
        lease = held.value if held else Lease(vm)
        version = held.version if held else 0
        if facts.holds(lease) or facts.writing(f"lease/{vm}"):
            return ""
        if f"lease/{vm}" in facts.unread:
            return "its lease cannot be read"
        if record is None or not record.value.wanted:
            return "nobody wants it to run any more"
        if order.def_version != record.version or order.lease_version != version:
            return ""  # seen at another moment than the master did; the next look agrees
        if away := facts.away(record.value.spec):
            return away
        proof: Proof | None = None
        if lease.held:
            proof = of_death(
                facts, self._timing, lease.slot, lease.term,
                known_ns=held.read_ns if held else 0,
                excluded=excluded, extra_ns=membership.extra_ns,
            )  # fmt: skip
            if proof is None:
                return "the death of its holder is not proven here"
        taken = Lease(
            vm, facts.me.slot, facts.term, "takeover" if proof else "start", record.version,
            proof, lease.fails, lease.failed_slot, order.reason, start_seq=record.value.start_seq,
        )  # fmt: skip
        work.swaps.append(Swap(f"lease/{vm}", version, taken, order.reason))
        self._taking[vm] = version + 1
        return ""
