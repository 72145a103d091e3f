"""Which running VMs grow: those whose record wishes more than they have (pure).

Rules:
1. Only a VM whose lease this host holds, that runs, and was made to grow (`vcpus_max`,
   `memory_max_mib`).
2. Processors and memory are only added: to give some back a VM would have to agree. Less counts
   from its next start on, and so does memory that is no whole step.
3. What does not work is tried again later, up to `RETRY_MAX_NS`.
"""

from __future__ import annotations

from typing import NamedTuple

from outlast.hypervisor.driver import MEMORY_STEP_MIB
from outlast.model import LocalVm, VmState
from outlast.pool.facts import Facts
from outlast.settings import S

RETRY_NS, RETRY_MAX_NS = 2 * S, 300 * S


class Size(NamedTuple):
    """0 = as it is."""

    vcpus: int = 0
    memory_mib: int = 0


AS_IT_IS = Size()


class Growing:
    """Remembers when each VM was last asked to grow; safe to lose."""

    def __init__(self) -> None:
        self._next: dict[str, tuple[Size, int, int]] = {}  # vm -> wished, not before, pause after

    def step(self, now_ns: int, facts: Facts) -> list[tuple[str, Size]]:
        """VMs to give so much now."""
        due = []
        wishes = {vm.name: _wished(facts, vm) for vm in facts.local.values()}
        for vm, wished in sorted(wishes.items()):
            if wished == AS_IT_IS:
                continue
            before, not_before, pause_ns = self._next.get(vm, (AS_IT_IS, 0, RETRY_NS))
            if before != wished:
                not_before, pause_ns = now_ns, RETRY_NS
            if now_ns >= not_before:
                due.append((vm, wished))
                self._next[vm] = (wished, now_ns + pause_ns, min(2 * pause_ns, RETRY_MAX_NS))
        unmet = {vm for vm, wished in wishes.items() if wished != AS_IT_IS}
        self._next = {vm: kept for vm, kept in self._next.items() if vm in unmet}
        return due


def _wished(facts: Facts, vm: LocalVm) -> Size:
    """What it shall have and has not."""
    record, lease = facts.vms.get(vm.name), facts.leases.get(vm.name)
    if record is None or lease is None or vm.state is not VmState.RUNNING or vm.incoming:
        return AS_IT_IS
    if (lease.value.slot, lease.value.term) != (facts.me.slot, facts.term):
        return AS_IT_IS
    spec = record.value.spec
    vcpus = min(spec.vcpus, spec.vcpus_max)
    more_mib = min(spec.memory_mib, spec.memory_max_mib) - vm.memory_mib
    steps = more_mib // MEMORY_STEP_MIB if vm.memory_mib else 0
    return Size(
        vcpus if 0 < vm.vcpus < vcpus else 0,
        vm.memory_mib + steps * MEMORY_STEP_MIB if steps > 0 else 0,
    )
