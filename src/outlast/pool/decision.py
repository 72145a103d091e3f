"""What one step of the pool core wants done, in the order of duty.

Rules:
1. Fields are carried out from top to bottom: what ends a VM comes before what starts one.
2. A permission and its use are never in one decision: a lease asked for here leads to a start only
   when a later step SEES it held; it is freed only after a step has SEEN the VM gone.
   `check` enforces this; the simulator and the agent call it for every step.
"""

from __future__ import annotations

from dataclasses import dataclass

from outlast.errors import BrokenInvariant
from outlast.model import GuardState, Lease, OrderBook, StopMode, View, VmRecord, VmSpec
from outlast.pool.facts import Facts, Held
from outlast.pool.journal import Note
from outlast.report import Report

DISKS = "disks"  # Lease.via, and the kind of work in Facts.busy


@dataclass(frozen=True, slots=True)
class Kill:
    """End every process of this VM at once: this host may not run it."""

    vm: str
    why: str


@dataclass(frozen=True, slots=True)
class Swap:
    """Write a register value if its version is still `expected`."""

    name: str
    expected: int
    value: View | Lease | OrderBook | VmRecord | Report
    why: str


@dataclass(frozen=True, slots=True)
class Start:
    """Ask the guard to admit the VM, then start it from its disk."""

    vm: str
    spec: VmSpec
    lease_version: int
    why: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End a VM that its owner wants stopped."""

    vm: str
    mode: StopMode
    why: str


@dataclass(frozen=True, slots=True)
class Depart:
    """Move a running VM of this host to another one; its lease says so already."""

    vm: str
    id: str
    to_slot: int


@dataclass(frozen=True, slots=True)
class Abort:
    """Give up a move that has begun; the VM stays here."""

    vm: str
    why: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Let a VM go on that stands still here: one that came from elsewhere, or did not get away."""

    vm: str
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    kills: tuple[Kill, ...] = ()
    stops: tuple[Stop, ...] = ()
    aborts: tuple[Abort, ...] = ()
    swaps: tuple[Swap, ...] = ()
    starts: tuple[Start, ...] = ()
    departs: tuple[Depart, ...] = ()
    resumes: tuple[Resume, ...] = ()
    notes: tuple[Note, ...] = ()
    sentence: str = ""
    free_mib: int = 0
    free_vcpus: int = 0
    vm_count: int = 0
    wake_in_ns: int = 0  # look again after this time even if nothing happens; 0: next tick


def check(facts: Facts, decision: Decision) -> None:
    """Raise BrokenInvariant when a decision uses a permission it does not see held."""
    swapped = {s.name for s in decision.swaps}
    for start in decision.starts:
        held = _own_lease(facts, start.vm, "start", swapped)
        if leaving(held.value, facts.me.slot):
            raise BrokenInvariant(f"start of {start.vm} while it is on its way elsewhere")
        if held.value.via == DISKS:
            raise BrokenInvariant(f"start of {start.vm} by a lease for work on its disks")
    for depart in decision.departs:
        move = _own_lease(facts, depart.vm, "move", swapped).value.move
        if move is None or (move.id, move.to_slot) != (depart.id, depart.to_slot):
            raise BrokenInvariant(f"move of {depart.vm} that its lease does not name")
    for resume in decision.resumes:
        _check_resume(facts, resume.vm, _own_lease(facts, resume.vm, "resume", swapped).value)
    for swap in decision.swaps:
        if isinstance(swap.value, Lease):
            _check_lease(facts, swap.value)


def gives_back(lease: Lease, state: GuardState, term: str, *, ended_well: bool) -> bool:
    """May the agent free a lease for DISKS as soon as its work is over? state, term: its guard's.

    Work that was broken off may have left writes in the kernel: then the core frees it, after X.
    """
    return ended_well and (state, term) == (GuardState.OPEN, lease.term)


def leaving(lease: Lease, slot: int) -> bool:
    """True when this lease of `slot` names a move away from there."""
    return lease.move is not None and lease.move.to_slot != slot


def _own_lease(facts: Facts, vm: str, what: str, swapped: set[str]) -> Held[Lease]:
    """The lease that a start, a move or a resume needs."""
    held = facts.leases.get(vm)
    if held is None or (held.value.slot, held.value.term) != (facts.me.slot, facts.term):
        raise BrokenInvariant(f"{what} of {vm} without seeing its lease held here")
    if f"lease/{vm}" in swapped:
        raise BrokenInvariant(f"lease of {vm} written and used in one step")
    if not facts.view or not facts.view.lists(facts.me.slot, facts.term):
        raise BrokenInvariant(f"{what} of {vm} by a host that no view lists")
    return held


def _check_resume(facts: Facts, vm: str, lease: Lease) -> None:
    local = facts.local.get(vm)
    if leaving(lease, facts.me.slot):
        raise BrokenInvariant(f"{vm} would go on while it is on its way elsewhere")
    if local is None or not local.incoming:
        return
    if lease.via != "migration" or lease.move is None or lease.move.id != local.incoming:
        raise BrokenInvariant(f"copy of {vm} would go on without having been handed over")


def _check_lease(facts: Facts, lease: Lease) -> None:
    vm = lease.vm
    before = facts.leases.get(vm)
    was = before.value if before is not None else Lease(vm)
    mine_before = was.held and was.slot == facts.me.slot
    here = (facts.me.slot, facts.term)
    if not lease.held:
        if was.held and not mine_before:
            raise BrokenInvariant(f"lease of {vm} freed by a host that does not hold it")
        if mine_before and _present(facts, vm):
            raise BrokenInvariant(f"lease of {vm} freed while the VM is still here")
        return
    if (lease.slot, lease.term) != here:
        move = was.move
        given = move is not None and (lease.slot, lease.term) == (move.to_slot, move.to_term)
        if not mine_before or not given or lease.move != move or lease.via != "migration":
            raise BrokenInvariant(f"lease of {vm} given to somebody else")
        if vm in facts.guard.populated:
            raise BrokenInvariant(f"lease of {vm} handed over while its process is still here")
    elif was.held and (was.slot, was.term) != here and lease.proof is None:
        raise BrokenInvariant(f"lease of {vm} taken over without a proof")


def _present(facts: Facts, vm: str) -> bool:
    return vm in facts.local or vm in facts.guard.populated
