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
from outlast.model import Lease, OrderBook, StopMode, View, VmRecord, VmSpec
from outlast.pool.facts import Facts
from outlast.pool.journal import Note


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
    value: View | Lease | OrderBook | VmRecord
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
class Decision:
    kills: tuple[Kill, ...] = ()
    stops: tuple[Stop, ...] = ()
    swaps: tuple[Swap, ...] = ()
    starts: tuple[Start, ...] = ()
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
        held = facts.leases.get(start.vm)
        if held is None or (held.value.slot, held.value.term) != (facts.me.slot, facts.term):
            raise BrokenInvariant(f"start of {start.vm} without seeing its lease held here")
        if f"lease/{start.vm}" in swapped:
            raise BrokenInvariant(f"lease of {start.vm} written and used in one step")
        if not facts.view or not facts.view.lists(facts.me.slot, facts.term):
            raise BrokenInvariant(f"start of {start.vm} by a host that no view lists")
    for swap in decision.swaps:
        if not isinstance(swap.value, Lease):
            continue
        vm = swap.value.vm
        before = facts.leases.get(vm)
        mine_before = before is not None and before.value.slot == facts.me.slot
        if not swap.value.held and before is not None and before.value.held and not mine_before:
            raise BrokenInvariant(f"lease of {vm} freed by a host that does not hold it")
        if mine_before and not swap.value.held and _present(facts, vm):
            raise BrokenInvariant(f"lease of {vm} freed while the VM is still here")
        if swap.value.held and (swap.value.slot, swap.value.term) != (facts.me.slot, facts.term):
            raise BrokenInvariant(f"lease of {vm} given to somebody else")
        taken = before is not None and before.value.held
        if swap.value.held and taken and swap.value.proof is None:
            raise BrokenInvariant(f"lease of {vm} taken over without a proof")


def _present(facts: Facts, vm: str) -> bool:
    return vm in facts.local or vm in facts.guard.populated
