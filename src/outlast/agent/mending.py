"""Which paused VMs go on: those that a disk error or a move stopped that is over (pure).

QEMU pauses a VM whose disk fails, so that no error reaches the system inside. Nobody else lets it
go on. A move that fails late leaves its VM stopped when the hypervisor lost its way to the target.

Rules:
1. Only a VM whose lease this host holds, while its guard is open and its beats are confirmed.
2. What a move stopped goes on only when no move of it is under way: neither in its lease, nor in
   the hands of this host. Its copy elsewhere, if there is one, has no lease and never runs.
3. What was paused for any other reason was paused by somebody: it is left alone.
4. A disk that fails again pauses the VM again; the next try comes later, up to `RETRY_MAX_NS`.
"""

from __future__ import annotations

from outlast.hypervisor.driver import DISK_ERROR, MIGRATION
from outlast.model import GuardState, LocalVm, VmState
from outlast.pool.decision import leaving
from outlast.pool.facts import Facts
from outlast.settings import S

RETRY_NS, RETRY_MAX_NS = S // 2, 8 * S


class Mending:
    """Remembers when each VM was last let go on; safe to lose."""

    def __init__(self) -> None:
        self._next: dict[str, tuple[int, int]] = {}  # vm -> not before, and the pause after that

    def step(self, now_ns: int, facts: Facts) -> list[str]:
        """Names of VMs to resume now."""
        guard = facts.guard
        if not facts.sample.good or guard.state is not GuardState.OPEN or guard.remaining_ns <= 0:
            return []
        stopped = {
            vm.name
            for vm in facts.local.values()
            if vm.state is VmState.PAUSED and _over(facts, vm) and _held(facts, vm.name)
        }
        due = []
        for vm in sorted(stopped):
            not_before, pause_ns = self._next.get(vm, (0, RETRY_NS))
            if now_ns >= not_before:
                due.append(vm)
                self._next[vm] = (now_ns + pause_ns, min(2 * pause_ns, RETRY_MAX_NS))
        for vm in list(self._next):
            if vm not in stopped and now_ns >= self._next[vm][0] + RETRY_MAX_NS:
                del self._next[vm]
        return due


def _over(facts: Facts, vm: LocalVm) -> bool:
    """True when what paused it may be over."""
    if ("held", vm.name) in facts.busy:
        return False  # its disk is being changed over (disk_moves.py)
    if vm.reason != MIGRATION:
        return vm.reason == DISK_ERROR
    held = facts.leases.get(vm.name)
    moving = held is not None and leaving(held.value, facts.me.slot)
    return not (moving or vm.incoming or ("move", vm.name) in facts.busy)


def _held(facts: Facts, vm: str) -> bool:
    held = facts.leases.get(vm)
    return held is not None and (held.value.slot, held.value.term) == (facts.me.slot, facts.term)
