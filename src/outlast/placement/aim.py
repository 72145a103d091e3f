"""An even end state, found by annealing: where VMs should be, whatever the way there.

Rules:
1. An attempt sends one VM elsewhere, or lets two change places, the first into room that is there.
   Only what a plan might do is done: hard rules, wishes and refuges (refuge.py) are kept. So there
   is a way to the end state, through very many moves; route.py finds a short one.
2. It is accepted by the change of the squared deviations and the heat, which sinks from HOT to
   COLD. Nothing is accepted by which more than `mib_max` would have to be copied.
3. Most attempts fail, so what costs least is asked first: room, evenness, copies, then places
   (`_Places`), and refuges last.
4. The first state that is even enough ends it; else it is the best one seen.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence

from outlast.placement import fit
from outlast.placement.layout import NOWHERE, Layout
from outlast.placement.opening import Step
from outlast.placement.refuge import Refuges
from outlast.placement.route import Dice

HOT, COLD = 6e-4, 3e-5  # of the sum of squared deviations
SINGLES = 0.3  # part of the attempts; the others are exchanges
COOL_EVERY = 1000  # attempts
LEAST_MIB = 8192  # smaller VMs find a place where larger ones do


class Aim:
    """Changes the layout, and its refuges; both are of no use afterwards."""

    def __init__(
        self, layout: Layout, vms: Sequence[int], wish_lost: Callable[[int, int], bool],
        home: Sequence[int], mib_max: int, dice: Dice,
    ) -> None:  # fmt: skip
        self._layout, self._vms, self._wish_lost = layout, vms, wish_lost
        self._home, self._mib_max, self._dice = home, mib_max, dice
        self._refuges = Refuges(layout, thorough=sys.maxsize)
        self._places = _Places(layout, self._refuges)
        memory, cpu = layout.pool_shares()
        self._hosts = layout.open_hosts()
        hosts = range(len(layout.cap_mib))
        self._memory = [layout.memory_share(h) - memory for h in hosts]
        self._cpu = [layout.cpu_share(h) - cpu for h in hosts]
        self._squares = sum(self._memory[h] ** 2 + self._cpu[h] ** 2 for h in self._hosts)
        self._copied = sum(
            mib for mib, at, was in zip(layout.mib, layout.where, home, strict=True) if at != was
        )
        self._least, self._found = self._squares, list(layout.where)

    def run(self, attempts: int, even: float) -> list[int]:
        """Where each VM should be. `even`: the deviation that is enough."""
        goal = even**2 * 2 * len(self._hosts)
        for n in range(0, attempts if self._vms else 0, COOL_EVERY):
            heat = HOT * (COLD / HOT) ** (n / attempts)
            for _ in range(COOL_EVERY):
                self._attempt(heat)
                if self._squares < self._least:
                    self._least, self._found = self._squares, list(self._layout.where)
                    if self._least <= goal:
                        return self._found
        return self._found

    def _attempt(self, heat: float) -> None:
        layout, dice, vms = self._layout, self._dice.random, self._vms
        where, free, sizes = layout.where, layout.free_mib, layout.mib
        vm = vms[int(dice() * len(vms))]
        source, back = where[vm], NOWHERE
        mib, load = sizes[vm], layout.load[vm]
        if dice() < SINGLES:
            target = self._hosts[int(dice() * len(self._hosts))]
        else:
            back = vms[int(dice() * len(vms))]
            target, mib, load = where[back], mib - sizes[back], load - layout.load[back]
        if target == source or free[target] < mib or free[source] < -mib:
            return
        steps = self._steps(vm, target, back, source)
        if not steps:
            return
        m, c, caps, cores = self._memory, self._cpu, layout.cap_mib, layout.cap_cores
        ms, mt = m[source] - mib / caps[source], m[target] + mib / caps[target]
        cs, ct = c[source] - load / cores[source], c[target] + load / cores[target]
        change = ms * ms + mt * mt + cs * cs + ct * ct
        change -= m[source] ** 2 + m[target] ** 2 + c[source] ** 2 + c[target] ** 2
        if change > 0 and dice() >= math.exp(-change / heat):
            return
        copied = self._copied + sum(self._more(v, to) for v, to in steps)
        if copied > max(self._mib_max, self._copied) or not self._change(steps, source, target):
            return
        m[source], m[target], c[source], c[target] = ms, mt, cs, ct
        self._squares += change
        self._copied = copied

    def _steps(self, vm: int, target: int, back: int, source: int) -> tuple[Step, ...]:
        """In an order in which the first has room; () when there is none."""
        free, mib = self._layout.free_mib, self._layout.mib
        if back == NOWHERE:
            return ((vm, target),)
        if free[target] >= mib[vm]:
            return ((vm, target), (back, source))
        return ((back, source), (vm, target)) if free[source] >= mib[back] else ()

    def _more(self, vm: int, target: int) -> int:
        """By how much more is copied when it goes there."""
        home, mib = self._home[vm], self._layout.mib[vm]
        return mib * ((target != home) - (self._layout.where[vm] != home))

    def _change(self, steps: tuple[Step, ...], source: int, target: int) -> bool:
        layout = self._layout
        if any(self._wish_lost(vm, to) for vm, to in steps):
            return False
        was = [(vm, layout.where[vm]) for vm, _ in steps]
        for vm, to in steps:
            layout.move(vm, to)
        good = all(fit.fits(layout, vm, to) for vm, to in steps)
        good = good and min(layout.free_vcpus[source], layout.free_vcpus[target]) >= 0
        good = good and self._places.enough(steps, source, target)
        for vm, at in was:
            layout.move(vm, at)
        if not good or not self._refuges.move(*steps):
            return False
        self._places.count(source)
        self._places.count(target)
        return True


class _Places:
    """What must hold if refuges do, quickly asked: for each size of VM, no host has more VMs of it
    and larger ones with refuges than fit into what is free on the others."""

    def __init__(self, layout: Layout, refuges: Refuges) -> None:
        self._layout, self._refuges = layout, refuges
        kept = {mib for mib, at in zip(layout.mib, refuges.of, strict=True) if at != NOWHERE}
        self._sizes = sorted((mib for mib in kept if mib >= LEAST_MIB), reverse=True)
        self._count = [[0] * len(self._sizes) for _ in layout.cap_mib]
        for host in range(len(layout.cap_mib)):
            self.count(host)

    def count(self, host: int) -> None:
        layout, of = self._layout, self._refuges.of
        mine = [layout.mib[vm] for vm in layout.on[host] if of[vm] != NOWHERE]
        self._count[host] = [sum(mib >= size for mib in mine) for size in self._sizes]

    def enough(self, steps: tuple[Step, ...], source: int, target: int) -> bool:
        """With the steps made in the layout, and not yet counted."""
        free = self._layout.free_mib
        for n, size in enumerate(self._sizes):
            shift = 0
            for vm, to in steps:
                if self._refuges.of[vm] != NOWHERE and self._layout.mib[vm] >= size:
                    shift += 1 if to == target else -1
            total = sum(room // size for room in free)
            for host, counted in enumerate(self._count):
                more = shift * ((host == target) - (host == source))
                if counted[n] + more > total - free[host] // size:
                    return False
        return True
