"""Which running VMs get more processors: those whose record wishes more than they have (pure).

Rules:
1. Only a VM whose lease this host holds, that runs, and was made to grow (`vcpus_max`).
2. Processors are only added: to take one away a VM would have to agree. Fewer count from its next
   start on, and so does everything else of its size.
3. What does not work is tried again later, up to `RETRY_MAX_NS`.
"""

from __future__ import annotations

from outlast.model import LocalVm, VmState
from outlast.pool.facts import Facts
from outlast.settings import S

RETRY_NS, RETRY_MAX_NS = 2 * S, 300 * S


class Growing:
    """Remembers when each VM was last asked to grow; safe to lose."""

    def __init__(self) -> None:
        self._next: dict[str, tuple[int, int, int]] = {}  # vm -> wished, not before, pause after

    def step(self, now_ns: int, facts: Facts) -> list[tuple[str, int]]:
        """VMs to give so many processors now."""
        due = []
        wishes = {vm.name: _wished(facts, vm) for vm in facts.local.values()}
        for vm, wished in sorted(wishes.items()):
            if not wished:
                continue
            before, not_before, pause_ns = self._next.get(vm, (0, 0, RETRY_NS))
            if before != wished:
                not_before, pause_ns = now_ns, RETRY_NS
            if now_ns >= not_before:
                due.append((vm, wished))
                self._next[vm] = (wished, now_ns + pause_ns, min(2 * pause_ns, RETRY_MAX_NS))
        self._next = {vm: kept for vm, kept in self._next.items() if wishes.get(vm)}
        return due


def _wished(facts: Facts, vm: LocalVm) -> int:
    """So many processors it shall have and has not; 0 when it is as it shall be."""
    record, lease = facts.vms.get(vm.name), facts.leases.get(vm.name)
    if record is None or lease is None or vm.state is not VmState.RUNNING or vm.incoming:
        return 0
    if (lease.value.slot, lease.value.term) != (facts.me.slot, facts.term):
        return 0
    wished = min(record.value.spec.vcpus, record.value.spec.vcpus_max)
    return wished if 0 < vm.vcpus < wished else 0
