"""The best host for one VM, with the reason in words (W17, W18).

Rules:
1. Memory is hard: a VM goes only where all of it fits.
2. A list of preferred hosts is strict.
3. Among the hosts that fit, the one with the most free memory; ties: fewer VMs, then lower slot.
4. The answer names every candidate: what it scored, or the rule that rejected it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from outlast.model import VmRecord


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host as placement sees it. `closed`: why it takes no VM now ("" = it does)."""

    slot: int
    host: str
    free_mib: int
    vms: int
    closed: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    slot: int  # 0: nowhere
    host: str
    why: str


def choose(record: VmRecord, candidates: Iterable[Candidate]) -> Choice:
    """Where this VM should run now."""
    need = record.spec.memory_mib
    rejected: list[str] = []
    fit: list[Candidate] = []
    for c in sorted(candidates, key=lambda c: c.slot):
        if record.preferred and c.host not in record.preferred:
            rejected.append(f"{c.host} is not on its list of preferred hosts")
        elif c.closed:
            rejected.append(f"{c.host} {c.closed}")
        elif c.free_mib < need:
            rejected.append(f"{c.host} has {c.free_mib} MiB free of the {need} needed")
        else:
            fit.append(c)
    if not fit:
        return Choice(0, "", "; ".join(rejected) or "the pool has no host")
    fit.sort(key=lambda c: (-c.free_mib, c.vms, c.slot))
    best = fit[0]
    others = ", ".join(f"{c.host} {c.free_mib} MiB" for c in fit[1:])
    why = f"{best.host} has the most free memory, {best.free_mib} MiB"
    if others:
        why += f" (then {others})"
    if rejected:
        why += "; " + "; ".join(rejected)
    return Choice(best.slot, best.host, why)
