"""The best host for one VM, with the reason in words (W17, W18).

Rules:
1. Memory is hard: a VM goes only where all of it fits (fit.py has all hard rules).
2. The best host is where most is left after the start, by memory, idle CPU and vCPUs; wishes (soft
   preferred list, soft groups) count more than any of these. Ties: the first in the picture.
3. The answer names every candidate: what it scored, or the rule that rejected it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from outlast.placement import fit
from outlast.placement.layout import Layout
from outlast.placement.picture import Picture, Vm, checked

NAMED = 4  # hosts named in a sentence
MEMORY, CPU, VCPUS = 0.5, 0.3, 0.2  # weights of the parts; a wish weighs 1


@dataclass(frozen=True, slots=True)
class Score:
    """One host for one VM. Shares are what would be left free after the start, 0 to 1."""

    host: str
    total: float
    memory: float
    cpu: float
    vcpus: float
    wishes: float  # 0 or below: wishes it would not meet

    def __str__(self) -> str:
        parts = f"memory {self.memory:.0%}, CPU {self.cpu:.0%}, vCPUs {self.vcpus:.0%} free"
        wishes = f", {-self.wishes:.0f} of its wishes missed" if self.wishes else ""
        return f"{self.host}: {parts}{wishes}, {self.total:.2f}"


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a VM goes: `host` "" = nowhere. Candidates best first, rejections by host."""

    vm: str
    host: str
    scores: tuple[Score, ...]
    rejected: tuple[tuple[str, str], ...]  # host, rule

    @property
    def why(self) -> str:
        said = [why for _, why in self.rejected]
        if len(said) > NAMED:
            said[NAMED:] = [f"and {len(said) - NAMED} more hosts refuse it"]
        if self.scores:
            first, others = self.scores[0], self.scores[1:]
            ranked = [f"{s.host} {s.total:.2f}" for s in others[:NAMED]]
            if len(others) > NAMED:
                ranked.append(f"{len(others) - NAMED} more")
            then = f"; then {', '.join(ranked)}" if ranked else ""
            said.insert(0, f"most is left on {first}{then}")
        return "; ".join(said) or "the pool has no host"


def best(picture: Picture, vm: Vm) -> Answer:
    """Where this VM, new or known by its name, should start. InvalidInput: it cannot be."""
    placed = checked(picture.with_vm(vm))
    layout = Layout(placed)
    return answer(layout, layout.vm_at[vm.name])


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
    memory = (layout.free_mib[host] - layout.mib[vm]) / layout.cap_mib[host]
    cpu = 1.0 - (layout.busy[host] + layout.load[vm]) / layout.cap_cores[host]
    room = h.cores * layout.picture.policy.vcpu_ratio
    vcpus = (layout.free_vcpus[host] - layout.vcpus[vm]) / room
    wishes = wishes_missed(layout, vm, host)
    total = MEMORY * memory + CPU * cpu + VCPUS * vcpus + wishes
    return Score(h.name, total, memory, cpu, vcpus, wishes)


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
    may, mib, vcpus, load = layout.may[vm], layout.mib[vm], layout.vcpus[vm], layout.load[vm]
    ratio, hosts = layout.picture.policy.vcpu_ratio, layout.picture.hosts
    wishes = bool(hosts) and _has_wishes(layout, vm)
    for host, free in enumerate(layout.free_mib):
        if free < mib or not may[host] or not fit.fits(layout, vm, host, leaving):
            continue
        total = (
            MEMORY * ((free - mib) / layout.cap_mib[host])
            + CPU * (1.0 - (layout.busy[host] + load) / layout.cap_cores[host])
            + VCPUS * ((layout.free_vcpus[host] - vcpus) / (hosts[host].cores * ratio))
        )
        if wishes:
            total += wishes_missed(layout, vm, host)
        if found < 0 or total > most:
            found, most = host, total
    return found


def _has_wishes(layout: Layout, vm: int) -> bool:
    v = layout.picture.vms[vm]
    soft = vm in layout.soft_apart or vm in layout.soft_together
    return soft or bool(v.likes) or (bool(v.preferred) and not v.strict)
