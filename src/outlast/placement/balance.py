"""Few moves that even out memory and CPU, each worth its cost, none that costs safety.

Rules:
1. First mended is what breaks a hard rule; then moves go on while one is worth it: it has to
   lower the squared deviation by more than WORTH times the share of a host it copies. Of all
   moves from the most pressed host the one with the most gain for its MiB is made.
2. No step makes its target fuller than the fullest host was before the move (of an exchange: the
   first of both), breaks a hard rule, misses a wish
   that was met, or makes a safe host unsafe; of an exchange each move is judged. No VM has lost its
   refuge when a step or an exchange is over (refuge.py): N-1 never gets worse.
3. A pass goes down until no move pays. When the pool is not even then (EVEN), passes with other
   first moves are tried, as many as the size of the pool allows (EFFORT); opening.py has them.
4. The best pass is kept and the next begins where it ended, until one lowers the deviation by less
   than PASS_GAIN; that pass is dropped. So balancing a second time moves nothing. Only the limits
   of the policy (moves, share of memory) and ROUNDS end it earlier.
5. A thorough plan goes another way where the pool stays uneven: an end state is aimed at (aim.py),
   the moves that lead there are sought (route.py), and passes go on from it. That takes many
   seconds, so no master does it by itself.
6. Hosts that are not open neither give nor take. VMs that cannot migrate, or that a hard group
   keeps together, stay.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf

from outlast.placement import fit
from outlast.placement.aim import Aim
from outlast.placement.choose import best_host, wishes_missed
from outlast.placement.exchange import WORTH, Target, exchanges
from outlast.placement.layout import Layout
from outlast.placement.opening import Openings, Step
from outlast.placement.picture import GroupKind, Picture
from outlast.placement.plan import Move, Plan, follow, planned
from outlast.placement.refuge import Refuges
from outlast.placement.route import Dice, route

TARGETS = 24  # hosts looked at as targets, half by memory and half by CPU
PARTNERS = 9  # hosts looked at for an exchange
TRIES = 5  # candidates tried against the rules before a host is left alone
ROUNDS = 20
PASS_GAIN = 0.02  # a pass that lowers the deviation by a smaller part is not made
EVEN = 0.02  # no more than one pass is tried for less
EFFORT = 120_000  # passes times hosts times VMs
LEVELS = 12  # giants moved before a pass at most
DETOURS, DETOURS_OF_EFFORT = 100, 3  # single moves tried as the first one of a pass
AIMS, ATTEMPTS = 3, 2_000_000  # annealings of a thorough plan, and attempts of each
STRAIGHT = 0.9  # part of the memory that may be moved; the rest is for detours on the way
PATIENCE = 400  # moves refused for N-1's sake before a pass ends


def balance(picture: Picture, dice: Dice | None = None) -> Plan:
    """Moves in a feasible order; none when the pool is balanced or nothing pays.

    With dice it is a thorough plan, by rule 5.
    """
    found = _plan(picture)
    if dice is None or found.after <= EVEN:
        return found
    aimed = _aimed(picture, follow(picture, found.moves), dice)
    return min(found, _plan(picture, aimed), key=lambda plan: plan.after)


def spread(picture: Picture) -> Plan:
    """The same, and VMs of soft apart groups are moved apart first where there is room."""
    return _plan(picture, spread_soft=True)


def _plan(picture: Picture, first: Search | None = None, *, spread_soft: bool = False) -> Plan:
    """Passes from here, or from where a search has come to."""
    layout, moves = Layout(picture), list[Move]()
    budget = Budget.of(layout)
    if first:
        layout, budget, moves = first.layout, first.budget, list(first.moves)
    for _ in range(ROUNDS):
        found = _pass(layout.as_picture(), budget, spread_soft=spread_soft)
        if found is None:
            break
        layout, budget = found.layout, found.budget
        moves += found.moves
    return planned(picture, layout, moves)


def _pass(here: Picture, budget: Budget, *, spread_soft: bool) -> Search | None:
    """The best way on from here that is worth it, by rules 3 and 4."""

    def begun() -> Search:
        # indexed anew, so that a pass depends on nothing but where the VMs are
        search = Search(Layout(here), replace(budget))
        search.mend(spread_soft=spread_soft)
        return search

    best = begun()
    mended, enough = bool(best.moves), best.layout.deviation() * (1 - PASS_GAIN)
    best.run()
    effort = EFFORT // max(1, len(here.hosts) * len(here.vms))
    for count in range(1, min(LEVELS, effort) + 1):
        search = begun()
        if best.deviation <= EVEN or not search.level(count):
            break
        search.run()
        best = min(best, search, key=lambda s: s.deviation)
    if mended or best.deviation <= enough:
        return best
    if best.deviation > EVEN:
        search = begun()
        for steps in search.openings.detours(min(DETOURS, DETOURS_OF_EFFORT * effort)):
            search = begun()
            if search.begin(steps):
                search.run()
                if search.deviation <= enough:
                    return search
    return None


def _aimed(picture: Picture, after: Picture, dice: Dice) -> Search:
    """Rule 5: a search that has come to the evenest state of those aimed at from `after`."""

    def begun(at: Picture = picture) -> Search:
        search = Search(Layout(at), Budget.of(Layout(at)))
        search.mend(spread_soft=False)
        return search

    home, mib_max = begun().layout.where, int(begun().budget.mib * STRAIGHT)
    best = begun()
    for _ in range(AIMS):
        goal = begun(after).aim(home, mib_max, dice).run(ATTEMPTS, EVEN)
        best = min(best, route(begun, goal, dice), key=lambda search: search.deviation)
        if best.deviation <= EVEN:
            break
    return best


@dataclass(slots=True)
class Budget:
    moves: int
    mib: int

    @classmethod
    def of(cls, layout: Layout) -> Budget:
        """All that the policy allows."""
        used = sum(mib for mib, at in zip(layout.mib, layout.where, strict=True) if at >= 0)
        policy = layout.picture.policy
        return cls(policy.moves_max, int(used * policy.moved_share_max))

    def pays(self, mib: int, moves: int = 1) -> bool:
        return moves <= self.moves and mib <= self.mib


class Search:
    """One pass over a layout, which it changes."""

    def __init__(self, layout: Layout, budget: Budget) -> None:
        self.layout = layout
        self.budget = budget
        self.refuges = Refuges(layout)
        self.hosts = layout.open_hosts()
        self._open = frozenset(self.hosts)
        self.openings = Openings(layout, self.hosts, self._may_leave)
        self.memory, self.cpu = layout.pool_shares()
        self.moves: list[Move] = []
        # host -> moves made when it was left alone
        self._stuck: dict[int, int] = {}
        self._no_exchange: dict[int, int] = {}
        self._refused = 0
        self._refuge: dict[int, tuple[int, int]] = {}  # target: MiB it refused, MiB free then
        in_use = [m for m, at in zip(layout.mib, layout.where, strict=True) if at >= 0]
        self._fixed_mib = sum(in_use) / max(1, len(in_use))  # what starting a copy costs

    def mend(self, *, spread_soft: bool) -> None:
        """Apart groups that are not, one VM after the other, smallest first."""
        layout = self.layout
        for g, group in enumerate(layout.groups):
            if group.kind is not GroupKind.APART or not (group.hard or spread_soft):
                continue
            for vm in sorted(layout.members[g], key=lambda m: (layout.mib[m], m)):
                at = layout.where[vm]
                if at < 0 or layout.there[g][at] < 2 or not self._may_leave(vm):
                    continue
                layout.take(vm)
                target = best_host(layout, vm, frozenset((at,)))
                apart = target >= 0 and not layout.there[g].get(target)
                layout.put(vm, at)
                if apart and self.budget.pays(layout.mib[vm]):
                    self._make((vm, target), why=f"group {group.name} keeps it apart")

    @property
    def deviation(self) -> float:
        return self.layout.deviation()

    def level(self, count: int) -> bool:
        """So many giants go from hosts with many to hosts with few; False when they do not."""
        why = "its host has most of the large VMs, which need large places when it dies"
        return all(self.openings.level(partial(self._first, why)) for _ in range(count))

    def begin(self, steps: tuple[Step, ...]) -> bool:
        return self._first("other VMs can even out the pool after it", *steps)

    def _first(self, why: str, *steps: Step) -> bool:
        return self._fit(*steps) and self._make(*steps, why=why)

    def step(self, *steps: Step) -> bool:
        """One of the moves of a way to an end state."""
        if not all(self._may_leave(vm) for vm, _ in steps):
            return False
        top = max(self.layout.memory_share(h) for h in self.hosts)
        why = "it is one of the moves that even out the pool together"
        return self._fit(*steps, top=top) and self._make(*steps, why=why)

    def aim(self, home: Sequence[int], mib_max: int, dice: Dice) -> Aim:
        """At an end state, from here; this search is of no use afterwards."""
        vms = [vm for vm in range(len(self.layout.mib)) if self._may_leave(vm)]
        return Aim(self.layout, vms, self._wish_lost, home, mib_max, dice)

    def run(self) -> None:
        goal = self.layout.picture.policy.deviation_goal
        while self.layout.deviation() > goal and self._refused < PATIENCE:
            if any(self._relieve(host) for host in self._pressed(self._stuck, len(self.hosts))):
                continue
            if not any(self._exchange(host) for host in self._pressed(self._no_exchange, 0)):
                return

    def _pressed(self, stuck: dict[int, int], again: int) -> Iterator[int]:
        """Hosts that have too much of something, worst first, but for those left alone.

        `again`: after so many moves a host is tried once more; 0 = not in this pass.
        """
        heap = []
        for host in self.hosts:
            over = max(0.0, self.layout.memory_share(host) - self.memory) ** 2
            over += max(0.0, self.layout.cpu_share(host) - self.cpu) ** 2
            tried = stuck.get(host)
            if over > 0 and (tried is None or 0 < again <= len(self.moves) - tried):
                heap.append((-over, host))
        heapq.heapify(heap)
        while heap:
            yield heapq.heappop(heap)[1]

    def _relieve(self, source: int) -> bool:
        """Makes the best allowed move off this host."""
        found = self._worthwhile(source)
        layout = self.layout
        tries = TRIES
        for _, vm, target in heapq.nlargest(TRIES * 8, found):
            size, free = self._refuge.get(target, (layout.mib[vm] + 1, 0))
            if layout.mib[vm] >= size and layout.free_mib[target] <= free:
                continue  # its room is somebody's refuge, as was found out before
            if not fit.fits(self.layout, vm, target) or self._wish_lost(vm, target):
                continue
            if self._make((vm, target), why=self._said(source)):
                return True
            self._refuge[target] = (layout.mib[vm], layout.free_mib[target])
            tries -= 1
            if not tries:
                break
        self._stuck[source] = len(self.moves)
        return False

    def _exchange(self, source: int) -> bool:
        """Two moves, one against the other, where no single one helps."""
        top = max(self.layout.memory_share(h) for h in self.hosts) - self.memory
        found = exchanges(
            self.layout, source, self._targets(source, PARTNERS), self._may_leave, top
        )
        for _, steps in heapq.nlargest(TRIES, found):
            if self._fit(*steps) and self._make(*steps, why=self._said(source)):
                return True
        self._no_exchange[source] = len(self.moves)
        return False

    def _fit(self, *steps: Step, top: float = inf) -> bool:
        """Whether rules and wishes allow them, one after the other, and none fills a host more."""
        if not steps:
            return True
        (vm, target), *rest = steps
        layout, source = self.layout, self.layout.where[vm]
        if not fit.fits(layout, vm, target) or self._wish_lost(vm, target):
            return False
        layout.move(vm, target)
        good = layout.memory_share(target) <= top and self._fit(*rest, top=top)
        layout.move(vm, source)
        return good

    def _said(self, source: int) -> str:
        m, c = self.layout.memory_share(source), self.layout.cpu_share(source)
        name = self.layout.picture.hosts[source].name
        uses = f"{name} uses memory {m:.0%} and CPU {c:.0%}"
        return f"{uses}, the pool {self.memory:.0%} and {self.cpu:.0%}"

    def _worthwhile(self, source: int) -> list[tuple[float, int, int]]:
        """(value, vm, target) of the moves off this host that pay, rules not yet asked."""
        layout = self.layout
        m, c = layout.memory_share(source) - self.memory, layout.cpu_share(source) - self.cpu
        cap, cores = layout.cap_mib[source], layout.cap_cores[source]
        before = m * m + c * c
        targets = self._targets(source)
        top_m = max(layout.memory_share(h) for h in self.hosts) - self.memory
        top_c = max(layout.cpu_share(h) for h in self.hosts) - self.cpu
        found = []
        for vm in layout.on[source]:
            if not self._may_leave(vm):
                continue
            mib, load = layout.mib[vm], layout.load[vm]
            dm, dc = m - mib / cap, c - load / cores
            relief = before - dm * dm - dc * dc
            cost = mib + self._fixed_mib
            may = layout.may[vm]
            for target, tm, tc, tcap, tcores, free, square in targets:
                if mib > free or not may[target]:
                    continue
                nm, nc = tm + mib / tcap, tc + load / tcores
                gain = relief + square - nm * nm - nc * nc
                if gain > WORTH * mib / tcap + 1e-9 and nm <= top_m and nc <= top_c:
                    found.append((gain / cost, vm, target))
        return found

    def _targets(self, source: int, wanted: int = TARGETS) -> list[Target]:
        layout = self.layout
        known = []
        for h in self.hosts:
            if h != source:
                m, c = layout.memory_share(h) - self.memory, layout.cpu_share(h) - self.cpu
                cap, cores = layout.cap_mib[h], layout.cap_cores[h]
                known.append((h, m, c, cap, cores, layout.free_mib[h], m * m + c * c))
        if len(known) <= wanted:
            return known
        some = heapq.nsmallest(wanted // 3, known, key=lambda t: (t[1], t[0]))
        some += heapq.nsmallest(wanted // 3, known, key=lambda t: (t[2], t[0]))
        some += heapq.nsmallest(wanted // 3, known, key=lambda t: (t[1] + t[2], t[0]))
        return list({t[0]: t for t in some}.values())

    def _may_leave(self, vm: int) -> bool:
        layout = self.layout
        if not layout.picture.vms[vm].movable or layout.where[vm] not in self._open:
            return False
        return vm not in layout.together or not any(
            layout.where[m] >= 0 for m in layout.unit(vm) if m != vm
        )

    def _wish_lost(self, vm: int, target: int) -> bool:
        source = self.layout.where[vm]
        return wishes_missed(self.layout, vm, target) < wishes_missed(self.layout, vm, source)

    def _make(self, *steps: tuple[int, int], why: str) -> bool:
        layout = self.layout
        mib = sum(layout.mib[vm] for vm, _ in steps)
        was = [layout.where[vm] for vm, _ in steps]
        if not self.budget.pays(mib, len(steps)):
            return False
        if not self.refuges.move(*steps):
            self._refused += 1
            return False
        hosts, vms = layout.picture.hosts, layout.picture.vms
        for (vm, target), source in zip(steps, was, strict=True):
            move = Move(vms[vm].name, hosts[source].name, hosts[target].name, layout.mib[vm], why)
            self.moves.append(move)
            self._stuck.pop(source, None)
            self._stuck.pop(target, None)
        self.budget.moves -= len(steps)
        self.budget.mib -= mib
        return True
