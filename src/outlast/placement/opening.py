"""First moves by which a descent that is stuck gets further, although they even out nothing.

A nearly full pool is uneven because of its giants: VMs that need more memory than each host would
have free if all were used alike. Their refuges keep whole hosts emptier than the rest.

Rules:
1. `level` takes a giant from a host with many to one with few: then fewer places must be kept free.
2. `detours` are moves of one giant, then exchanges with one, those first that cost least evenness.
3. No target gets fuller than the fullest host. Whether rules, wishes and refuges allow it all is
   asked of whoever makes the opening.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from outlast.placement import fit
from outlast.placement.layout import Layout

Step = tuple[int, int]  # VM, target
TRIES = 60  # giants tried for one step of `level`


class Openings:
    """For one layout, with the hosts that take part."""

    def __init__(
        self, layout: Layout, hosts: Sequence[int], may_leave: Callable[[int], bool]
    ) -> None:
        self._layout, self._hosts, self._may_leave = layout, hosts, may_leave
        even_mib = sum(max(0, layout.free_mib[h]) for h in hosts) / max(1, len(hosts))
        self._giant = [mib > even_mib for mib in layout.mib]
        self._memory, self._cpu = layout.pool_shares()

    def level(self, make: Callable[[Step], bool]) -> bool:
        """Rule 1, once, by `make`; False when no such move is allowed."""
        layout, giants = self._layout, {h: self._giants(h) for h in self._hosts}
        mib = {h: sum(layout.mib[vm] for vm in vms) for h, vms in giants.items()}
        found = []
        for source, vms in giants.items():
            for vm in vms:
                for target in self._targets(vm):
                    closer = mib[source] - layout.mib[vm] - mib[target]
                    if closer > 0:
                        found.append((closer * layout.mib[vm], vm, target))
        return any(make((vm, target)) for _, vm, target in heapq.nlargest(TRIES, found))

    def detours(self, most: int) -> list[tuple[Step, ...]]:
        """Rule 2: `most` single moves and three times as many exchanges."""
        moves = [
            (self._loss(source, target, vm), ((vm, target),))
            for source in self._hosts
            for vm in self._giants(source)
            for target in self._targets(vm)
        ]
        pairs = [pair for source in self._hosts for pair in self._pairs(source)]
        chosen = heapq.nsmallest(most, moves) + heapq.nsmallest(3 * most, pairs)
        return [steps for _, steps in chosen]

    def _giants(self, host: int) -> list[int]:
        return [vm for vm in self._layout.on[host] if self._giant[vm] and self._may_leave(vm)]

    def _targets(self, vm: int) -> list[int]:
        at, top = self._layout.where[vm], self._top()
        return [h for h in self._hosts if h != at and self._first(vm, h, top)]

    def _top(self) -> float:
        return max(self._layout.memory_share(h) for h in self._hosts)

    def _loss(self, source: int, target: int, vm: int, back: int = -1) -> float:
        """By how much the squares of the shares grow when it goes there, and `back` comes back."""
        layout, loss = self._layout, 0.0
        mib = layout.mib[vm] - (layout.mib[back] if back >= 0 else 0)
        load = layout.load[vm] - (layout.load[back] if back >= 0 else 0)
        for host, sign in ((source, -1), (target, 1)):
            m, c = layout.memory_share(host) - self._memory, layout.cpu_share(host) - self._cpu
            dm, dc = sign * mib / layout.cap_mib[host], sign * load / layout.cap_cores[host]
            loss += dm * (2 * m + dm) + dc * (2 * c + dc)
        return loss

    def _pairs(self, source: int) -> list[tuple[float, tuple[Step, ...]]]:
        """Exchanges of the giants of a host; the giant goes first where it can."""
        layout, top = self._layout, self._top()
        found: list[tuple[float, tuple[Step, ...]]] = []
        for giant in self._giants(source):
            for target in self._hosts:
                for vm in layout.on[target] if target != source else ():
                    more = layout.mib[giant] - layout.mib[vm]
                    if more == 0 or not self._may_leave(vm) or (self._giant[vm] and vm > giant):
                        continue
                    share = layout.memory_share(target) + more / layout.cap_mib[target]
                    back = layout.memory_share(source) - more / layout.cap_mib[source]
                    if max(share, back) > top:
                        continue
                    steps = ((giant, target), (vm, source))
                    if not self._first(*steps[0], top):
                        steps = ((vm, source), (giant, target))
                        if not self._first(*steps[0], top):
                            continue
                    found.append((self._loss(source, target, giant, vm), steps))
        return found

    def _first(self, vm: int, target: int, top: float) -> bool:
        """Whether it can go there before anything leaves, by rule 3."""
        layout = self._layout
        share = layout.memory_share(target) + layout.mib[vm] / layout.cap_mib[target]
        return share <= top and fit.fits(layout, vm, target)
