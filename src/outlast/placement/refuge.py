"""A place for every VM should its host die, kept true while VMs move: N-1 that is never lost.

Rules:
1. Each VM that is promised a restart (`ha`, not best effort) has a *refuge*: a host where it
   would restart if its own host died alone. All refuges of one host's VMs hold at once.
2. A move is allowed only if every VM that has a refuge before it has one after it, and no host
   that was safe gets a VM without one. Refuges that the move breaks are found anew; when one
   cannot be, the move is undone as if it had not been tried.
   Of several moves that belong together this is judged at each as far as hosts go (none that was
   safe is unsafe for a moment), and of each VM after the last.
3. Refuges prove that a failure would be survived. The order of restart is spare.py's business.
"""

from __future__ import annotations

from outlast.placement.layout import NOWHERE, Layout
from outlast.placement.picture import HostState, Priority
from outlast.placement.spare import failure

EXACT_HOSTS = 128  # in larger pools the exact check is not asked when refuges are missing
THOROUGH = 1000  # times that all refuges of a host are looked for anew
EJECTIONS = 4  # hosts tried for making room
LOOK = 24  # hosts looked at for a refuge before all are


class Refuges:
    def __init__(self, layout: Layout, thorough: int = THOROUGH) -> None:
        self.layout = layout
        self.of = [NOWHERE] * len(layout.where)
        hosts = range(len(layout.cap_mib))
        self._mib: list[dict[int, int]] = [{} for _ in hosts]  # target: dying host -> MiB
        self._vcpus: list[dict[int, int]] = [{} for _ in hosts]
        self._homeless = [0] * len(layout.cap_mib)
        self._log: list[tuple[int, int]] = []
        self._turn = 0
        self._promised = [v.ha and v.priority is not Priority.BEST_EFFORT for v in
                          layout.picture.vms]  # fmt: skip
        self._roomy: list[int] = []
        self._excused: set[int] = set()  # hosts whose VMs may wait for a refuge
        self._waiting: list[int] = []
        self._age = 0
        self._thorough = thorough
        self._sort()
        for host in hosts:
            if layout.picture.hosts[host].state is not HostState.DOWN:
                self._find_all(host)

    def unsafe(self) -> set[int]:
        """Hosts with a VM that has no refuge."""
        return {h for h, n in enumerate(self._homeless) if n}

    def move(self, *steps: tuple[int, int]) -> bool:
        """Makes (vm, target) moves in the layout, and refuges with them, judged after each.

        False: one is not allowed, and nothing was done. VMs of a host that was not safe before may
        be without a refuge between the moves, and have it again after the last.
        """
        self._log.clear()
        unsafe = self.unsafe() if len(steps) > 1 else set()
        self._waiting = []
        back: list[tuple[int, int, int, int]] = []
        for vm, target in steps:
            begin, source = len(self._log), self.layout.where[vm]
            must = self._promised[vm] and (self.of[vm] != NOWHERE or not self._homeless[target])
            if self._promised[vm]:
                self._set(vm, NOWHERE)
            back.append((len(self._log), vm, source, begin))
            self._carry(vm, target)
            last = len(back) == len(steps)
            self._excused = set() if last else unsafe
            if not self._mend(vm, target, must=must) or (last and not self._house(self._waiting)):
                for mark, vm, source, begin in reversed(back):
                    self._back(mark)
                    self._carry(vm, source)
                    self._back(begin)
                return False
        self._age += len(steps)
        if self._age % 40 < len(steps):
            self._sort()
        return True

    def _carry(self, vm: int, target: int) -> None:
        """Moves it in the layout; it has no refuge at that moment."""
        if self._promised[vm]:
            self._homeless[self.layout.where[vm]] -= 1
            self._homeless[target] += 1
        self.layout.move(vm, target)

    def _mend(self, vm: int, target: int, *, must: bool) -> bool:
        """Finds anew what this move broke. must: it has to have a refuge itself."""
        layout = self.layout
        broken = [vm] if must else []
        for g in layout.apart.get(vm, ()):
            broken += [p for p in layout.members[g] if p != vm and self.of[p] == target]
        for p in broken:
            self._set(p, NOWHERE)
        if not self._house(broken):
            return False
        free_mib, free_vcpus = layout.free_mib[target], layout.free_vcpus[target]
        # the most crowded first: where a refuge is missing, that is found out soonest
        for dying, mib in sorted(self._mib[target].items(), key=lambda i: (-i[1], i[0])):
            vcpus = self._vcpus[target][dying]
            if mib > free_mib or vcpus > free_vcpus:
                gone = self._evict(dying, target, mib - free_mib, vcpus - free_vcpus)
                if not self._house(gone):
                    return False
        return True

    def _house(self, vms: list[int]) -> bool:
        """A refuge for each of them, largest first."""
        for vm in sorted(vms, key=lambda p: (-self.layout.mib[p], p)):
            if self.of[vm] != NOWHERE or self._find(vm) or self._eject(vm):
                continue
            mark = len(self._log)
            if self._again(vm):
                continue
            if self.layout.where[vm] not in self._excused:
                return False
            self._back(mark)
            self._waiting.append(vm)
        return True

    def _again(self, vm: int) -> bool:
        """All refuges of its host anew, largest VMs first; nobody else may lose one."""
        if not self._thorough:
            return False
        self._thorough -= 1
        layout, dying = self.layout, self.layout.where[vm]
        if not any(layout.free_mib[h] >= layout.mib[vm] and h != dying for h in self._roomy):
            return False
        mine = [p for p in layout.on[dying] if self.of[p] != NOWHERE]
        for p in mine:
            self._set(p, NOWHERE)
        mine.append(vm)
        mine.sort(key=lambda p: (p not in layout.together, -layout.mib[p], p))
        return all(self._find(p, all_hosts=True) for p in mine)

    def _eject(self, vm: int) -> bool:
        """Takes the place of smaller VMs of its host, which then look for others themselves."""
        layout, dying = self.layout, self.layout.where[vm]
        mib, tries = layout.mib[vm], EJECTIONS
        for host in self._roomy:
            free = layout.free_mib[host]
            if not tries or free < mib:
                return False  # those that come have less, but for what moved lately
            claimed = self._mib[host].get(dying, 0)
            short = mib - (free - claimed)
            if host == dying or short <= 0 or not layout.may[vm][host]:
                continue
            tries -= 1
            mark = len(self._log)
            smaller = [p for p in layout.on[dying] if self.of[p] == host and layout.mib[p] < mib]
            gone = self._evict_of(smaller, short, 0)
            left = free - self._mib[host].get(dying, 0)
            if self._holds(vm, dying, host, left):
                self._set(vm, host)
                if all(self._find(p) for p in gone):
                    return True
            self._back(mark)
        return False

    def _evict(self, dying: int, target: int, mib: int, vcpus: int) -> list[int]:
        """Takes the refuge from VMs until so much is free again; smallest that suffices first."""
        mine = [p for p in self.layout.on[dying] if self.of[p] == target]
        return self._evict_of(mine, mib, vcpus)

    def _evict_of(self, mine: list[int], mib: int, vcpus: int) -> list[int]:
        mine.sort(key=lambda p: (self.layout.mib[p], p))
        gone = []
        while mine and (mib > 0 or vcpus > 0):
            enough = [p for p in mine if self.layout.mib[p] >= mib]
            chosen = enough[0] if enough else mine[-1]
            mine.remove(chosen)
            self._set(chosen, NOWHERE)
            mib -= self.layout.mib[chosen]
            vcpus -= self.layout.vcpus[chosen]
            gone.append(chosen)
        return gone

    def _find(self, vm: int, *, all_hosts: bool = False) -> bool:
        """Gives it the roomiest of a few hosts, or the first of all that can."""
        layout, claims = self.layout, self._mib
        free_mib, dying, need_mib = layout.free_mib, layout.where[vm], layout.mib[vm]
        hosts = len(self._roomy)
        start = self._turn = (self._turn + 7) % max(1, hosts // 2)
        few = self._roomy if all_hosts else self._roomy[start : start + LOOK]
        found, most = NOWHERE, need_mib - 1  # most hosts are out for their memory, told at once
        for host in few:
            left = free_mib[host] - claims[host].get(dying, 0)
            if left > most and self._holds(vm, dying, host, left):
                found, most = host, left
        if found == NOWHERE and not all_hosts:
            for host in self._roomy:
                left = free_mib[host] - claims[host].get(dying, 0)
                if left >= need_mib and self._holds(vm, dying, host, left):
                    found = host
                    break
        if found == NOWHERE:
            return False
        self._set(vm, found)
        return True

    def _holds(self, vm: int, dying: int, host: int, left: int) -> bool:
        layout = self.layout
        if host == dying or left < layout.mib[vm] or not layout.may[vm][host]:
            return False
        if layout.free_vcpus[host] - self._vcpus[host].get(dying, 0) < layout.vcpus[vm]:
            return False
        for g in layout.apart.get(vm, ()):
            if layout.there[g].get(host):
                return False
            for peer in layout.members[g]:
                if peer != vm and self.of[peer] == host and layout.where[peer] == dying:
                    return False
        for mate in layout.unit(vm) if vm in layout.together else ():
            at = layout.where[mate]
            if mate != vm and at >= 0:
                if at not in (dying, host):
                    return False
                if at == dying and self.of[mate] not in (NOWHERE, host):
                    return False
        return True

    def _find_all(self, dying: int) -> None:
        layout = self.layout
        mine = [vm for vm in layout.on[dying] if self._promised[vm]]
        mine.sort(key=lambda vm: (vm not in layout.together, -layout.mib[vm], vm))
        self._homeless[dying] = len(mine)
        for vm in mine:
            if self.of[vm] == NOWHERE and vm in layout.together:
                self._find_unit(vm, dying)
            if self.of[vm] == NOWHERE:
                self._find(vm, all_hosts=True)
        if self._homeless[dying] and len(self._roomy) <= EXACT_HOSTS:
            self._ask(dying)
        self._log.clear()

    def _ask(self, dying: int) -> None:
        """The refuges that the exact check finds, when they are more."""
        found = failure(self.layout, [dying])
        if len(found.homeless) >= self._homeless[dying]:
            return
        spots = [(self.layout.vm_at[r.vm], r.target) for r in found.restarts if r.target]
        for vm in self.layout.on[dying]:
            if self._promised[vm]:
                self._set(vm, NOWHERE)
        for vm, target in spots:
            if self._promised[vm]:
                self._set(vm, self.layout.host_at[target])

    def _find_unit(self, vm: int, dying: int) -> None:
        """VMs kept together: the first host that holds all of them, or none for any."""
        layout = self.layout
        unit = [m for m in layout.unit(vm) if layout.where[m] == dying and self._promised[m]]
        for host in self._roomy:
            for mate in unit:
                left = layout.free_mib[host] - self._mib[host].get(dying, 0)
                if not self._holds(mate, dying, host, left):
                    break
                self._set(mate, host)
            if all(self.of[m] == host for m in unit):
                return
            for mate in unit:
                self._set(mate, NOWHERE)

    def _set(self, vm: int, host: int, *, logged: bool = True) -> None:
        was, dying = self.of[vm], self.layout.where[vm]
        if was == host:
            if logged:
                self._log.append((vm, was))
            return
        if logged:
            self._log.append((vm, was))
        self.of[vm] = host
        if was != NOWHERE:
            mib = self._mib[was][dying] - self.layout.mib[vm]
            if mib:
                self._mib[was][dying] = mib
                self._vcpus[was][dying] -= self.layout.vcpus[vm]
            else:
                del self._mib[was][dying], self._vcpus[was][dying]
            self._homeless[dying] += 1
        if host != NOWHERE:
            mib = self.layout.mib[vm]
            self._mib[host][dying] = self._mib[host].get(dying, 0) + mib
            vcpus = self._vcpus[host].get(dying, 0) + self.layout.vcpus[vm]
            self._vcpus[host][dying] = vcpus
            self._homeless[dying] -= 1

    def _back(self, to: int) -> None:
        """Undoes the log down to its first `to` entries."""
        while len(self._log) > to:
            vm, was = self._log.pop()
            self._set(vm, was, logged=False)

    def _sort(self) -> None:
        free = self.layout.free_mib
        self._roomy = sorted(self.layout.open_hosts(), key=lambda h: (-free[h], h))
