"""The best host for one VM, with the reason in words (W17, W18).

Rules:
1. Memory is hard: a VM goes only where all of it fits (fit.py has all hard rules).
2. The best host is where most is left after the start, by promised memory, memory in use, idle CPU
   and vCPUs; wishes (soft preferred list, soft groups) count more than any of these. Ties: the
   first in the picture.
3. Measured load never lets a VM in or keeps it out. Where none was measured it is not counted: the
   promised memory takes its place, VMs are taken to use a quarter of their vCPUs. The answer says
   so when others were measured.
4. The answer names every candidate: what it scored, or the rule that rejected it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from outlast.placement import fit
from outlast.placement.layout import Layout
from outlast.placement.picture import Picture, Vm, checked
from outlast.words import listed, plural

NAMED = 4  # hosts named in a sentence
MEMORY, USED, CPU, VCPUS = 0.4, 0.1, 0.3, 0.2  # weights of the parts; a wish weighs 1


@dataclass(frozen=True, slots=True)
class Score:
    """One host for one VM. Shares are what would be left free after the start, 0 to 1."""

    host: str
    total: float
    memory: float  # not promised to VMs
    used: float  # not in use; as `memory` when that was not measured
    cpu: float
    vcpus: float
    wishes: float  # 0 or below: wishes it would not meet
    measured: bool = False  # its load was

    def __str__(self) -> str:
        """What is left there, in words."""
        parts = [f"{_share(self.memory)} of its memory", f"{_share(self.cpu)} of its CPU"]
        parts.append(f"{_share(self.vcpus)} of its vCPUs")
        said = f"{', '.join(parts[:-1])} and {parts[-1]} (score {self.total:.2f})"
        if self.used != self.memory:
            said += f", {_share(self.used)} of its memory idle"
        if self.wishes:
            count = round(-self.wishes)
            said += f", although {plural(count, 'wish', 'wishes')} of the VM "
            said += f"{'is' if count == 1 else 'are'} not met there"
        return said


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a VM goes: `host` "" = nowhere. Candidates best first, rejections by host."""

    vm: str
    host: str
    scores: tuple[Score, ...]
    rejected: tuple[tuple[str, str], ...]  # host, rule

    @property
    def why(self) -> str:
        said = self._refusals()
        if self.scores:
            first, others = self.scores[0], self.scores[1:]
            ranked = [f"{s.host} ({s.total:.2f})" for s in others[:NAMED]]
            if len(others) > NAMED:
                ranked.append(f"{len(others) - NAMED} more")
            then = f"; then {', '.join(ranked)}" if ranked else ""
            best = f"{first.host} has the most left" if others else f"only {first.host} can take it"
            said.insert(0, f"{best}: {first}{then}{self._unmeasured}")
        return "; ".join(said) or "the pool has no host"

    def _refusals(self) -> list[str]:
        """What is the same for several hosts is said once; what is said of each, of a few."""
        alike: dict[str, list[str]] = {}
        for host, why in self.rejected:
            same = why.removeprefix(f"{host} is ")
            alike.setdefault(why if ": " in same else same, []).append(host)
        words = dict(self.rejected)
        said = [
            words[hosts[0]] if len(hosts) == 1 or words[hosts[0]] == rule
            else f"{listed(hosts, NAMED)} are {rule}"
            for rule, hosts in alike.items()
        ]  # fmt: skip
        left = sum(len(hosts) for hosts in list(alike.values())[NAMED:])
        more = plural(left, "more host refuses it", "more hosts refuse it")
        return [*said[:NAMED], *([f"and {more}"] if left else [])]

    @property
    def _unmeasured(self) -> str:
        """Rule 3, for hosts whose load nobody knows among others."""
        unknown = [s.host for s in self.scores if not s.measured]
        if not unknown or len(unknown) == len(self.scores):
            return ""
        return f"; the load of {listed(unknown, NAMED)} is not measured"


def best(picture: Picture, vm: Vm) -> Answer:
    """Where this VM, new or known by its name, should start. InvalidInput: it cannot be."""
    placed = checked(picture.with_vm(vm))
    layout = Layout(placed)
    return answer(layout, layout.vm_at[vm.name])


def in_turn(picture: Picture, vms: Sequence[Vm]) -> list[str]:
    """Where each of these new VMs would start, one after the other; "" = nowhere.

    Raises InvalidInput for what cannot be.
    """
    whole = picture
    for vm in vms:
        whole = whole.with_vm(vm)
    layout, found = Layout(checked(whole)), []
    for vm in vms:
        index = layout.vm_at[vm.name]
        host = best_host(layout, index)
        found.append(picture.hosts[host].name if host >= 0 else "")
        if host >= 0:
            layout.put(index, host)
    return found


def answer(layout: Layout, vm: int, leaving: Collection[int] = fit.NONE) -> Answer:
    """The same on a layout that is kept; a VM that runs somewhere is judged as if it did not."""
    scores, rejected = [], []
    at = layout.where[vm]
    if at >= 0:
        layout.take(vm)
    for host in range(len(layout.cap_mib)):
        if fit.fits(layout, vm, host, leaving):
            scores.append(score(layout, vm, host))
        else:
            why = fit.refusal(layout, vm, host, leaving)
            rejected.append((layout.picture.hosts[host].name, why))
    if at >= 0:
        layout.put(vm, at)
    scores.sort(key=lambda s: -s.total)
    name = layout.picture.vms[vm].name
    return Answer(name, scores[0].host if scores else "", tuple(scores), tuple(rejected))


def score(layout: Layout, vm: int, host: int) -> Score:
    h = layout.picture.hosts[host]
    memory, used, cpu, vcpus = left = _left(layout, vm, host)
    wishes = wishes_missed(layout, vm, host)
    measured = h.other_cores is not None
    return Score(h.name, _total(left) + wishes, memory, used, cpu, vcpus, wishes, measured)


def _share(left: float) -> str:
    """Of what is free; load may promise more than there is."""
    return f"{left:.0%}" if left >= 0.005 else "none"


def _left(layout: Layout, vm: int, host: int) -> tuple[float, float, float, float]:
    """Shares of the host that are free after a start: memory, memory in use, CPU, vCPUs."""
    h, free_mib = layout.picture.hosts[host], layout.free_mib[host] - layout.mib[vm]
    cap_mib = layout.cap_mib[host]
    memory = used = free_mib / cap_mib
    if h.over_mib is not None:
        used = min(1.0, max(0.0, 1.0 - (h.over_mib + cap_mib - free_mib) / h.memory_mib))
    cpu = 1.0 - (layout.busy[host] + layout.load[vm]) / layout.cap_cores[host]
    room = h.cores * layout.picture.policy.vcpu_ratio
    return memory, used, cpu, (layout.free_vcpus[host] - layout.vcpus[vm]) / room


def _total(left: tuple[float, float, float, float]) -> float:
    memory, used, cpu, vcpus = left
    return MEMORY * memory + USED * used + CPU * cpu + VCPUS * vcpus


def wishes_missed(layout: Layout, vm: int, host: int) -> float:
    v, missed = layout.picture.vms[vm], 0
    liked = v.likes or (() if v.strict else v.preferred)
    if liked and layout.picture.hosts[host].name not in liked:
        missed += 1
    here = layout.where[vm] == host
    for g in layout.soft_apart.get(vm, ()):
        missed += layout.there[g].get(host, 0) > here
    for g in layout.soft_together.get(vm, ()):
        others = sum(layout.there[g].values()) - (layout.where[vm] >= 0)
        missed += others > 0 and layout.there[g].get(host, 0) <= here
    return -float(missed)


def best_host(layout: Layout, vm: int, leaving: Collection[int] = fit.NONE) -> int:
    """The host `answer` names, without the words; -1 = nowhere. The VM must run nowhere."""
    found, most = -1, 0.0
    may, mib = layout.may[vm], layout.mib[vm]
    wishes = bool(may) and _has_wishes(layout, vm)
    for host, free in enumerate(layout.free_mib):
        if free < mib or not may[host] or not fit.fits(layout, vm, host, leaving):
            continue
        total = _total(_left(layout, vm, host))
        if wishes:
            total += wishes_missed(layout, vm, host)
        if found < 0 or total > most:
            found, most = host, total
    return found


def _has_wishes(layout: Layout, vm: int) -> bool:
    v = layout.picture.vms[vm]
    soft = vm in layout.soft_apart or vm in layout.soft_together
    return soft or bool(v.likes) or (bool(v.preferred) and not v.strict)
