"""When a host publishes what it measured of itself.

Rules:
1. Only a member does, for its own slot; whoever reads a report compares its term.
2. What decides something for others at once (a VM that answers, a network that is gone) is
   published at once, and so is a load that was not known. Loads alone only when they changed by
   STEP of what there is, and at most every LOADS_EVERY_S: a quiet pool writes nothing.
3. A VM is in the report while its lease is held here and it runs. It is ready when its record
   wishes nothing, or when the very process that runs now has answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from outlast.model import VmState
from outlast.pool.decision import Swap
from outlast.pool.facts import Facts, Sign
from outlast.report import Lack, Report, VmReport
from outlast.settings import S

LOADS_EVERY_S = 60
STEP = 0.05  # of a host's processors or memory
VM_STEP = 0.2  # of a VM's load before, and VM_STEP_MCORES at least
VM_STEP_MCORES = 250


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured on this host, newest values; see Report for the units."""

    busy_mcores: int = 0
    used_mib: int = 0
    loads: Mapping[str, int] = field(default_factory=dict)  # vm -> mcores
    answered: Mapping[str, int] = field(default_factory=dict)  # vm -> started_ns of who answered
    lacks: tuple[Lack, ...] = ()
    signs: Mapping[str, Sign] | None = None  # see Facts


def report_of(facts: Facts, found: Found) -> Report:
    """The report of this moment."""
    vms = tuple(
        VmReport(vm, held.version, found.loads.get(vm, 0), _ready(facts, vm, found))
        for vm, held in sorted(facts.leases.items())
        if facts.holds(held.value) and _runs(facts, vm)
    )
    return Report(facts.me.slot, facts.term, found.busy_mcores, found.used_mib, vms, found.lacks)


def _runs(facts: Facts, vm: str) -> bool:
    local = facts.local.get(vm)
    return local is not None and local.state is VmState.RUNNING and not local.incoming


def _ready(facts: Facts, vm: str, found: Found) -> bool:
    record = facts.vms.get(vm)
    if record is None or not record.value.ready:
        return True
    return found.answered.get(vm) == facts.local[vm].started_ns


class Reporting:
    """Remembers when this host wrote last; safe to lose."""

    def __init__(self) -> None:
        self._wrote_ns = 0

    def step(self, now_ns: int, facts: Facts, *, member: bool) -> list[Swap]:
        found, slot = facts.report, facts.me.slot
        if found is None or not member or not facts.registers_ready:
            return []
        held = facts.reports.get(slot)
        if held is not None and self._says_enough(now_ns, facts, held.value, found):
            return []
        self._wrote_ns = now_ns
        why = "what this host measured"
        return [Swap(f"report/{slot}", held.version if held else 0, found, why)]

    def _says_enough(self, now_ns: int, facts: Facts, said: Report, found: Report) -> bool:
        if _facts_of(said) != _facts_of(found):
            return False
        recent = self._wrote_ns and now_ns - self._wrote_ns < LOADS_EVERY_S * S
        return bool(recent) or not _changed(facts, said, found)


def _facts_of(report: Report) -> tuple[object, ...]:
    """What is published at once."""
    vms = tuple((v.vm, v.epoch, v.ready, v.busy_mcores > 0) for v in report.vms)
    return report.term, report.lacks, report.busy_mcores > 0, vms


def _changed(facts: Facts, said: Report, found: Report) -> bool:
    has = facts.resources
    if abs(found.busy_mcores - said.busy_mcores) > STEP * max(1, has.cores) * 1000:
        return True
    if abs(found.used_mib - said.used_mib) > STEP * max(1, has.memory_mib):
        return True
    return any(
        abs(new.busy_mcores - old.busy_mcores) > max(VM_STEP_MCORES, VM_STEP * old.busy_mcores)
        for old, new in zip(said.vms, found.vms, strict=True)
    )
