"""What hosts reported of themselves, as placement needs it: loads, what a host lacks, processors.

Rules:
1. A report counts for the life of its host that wrote it; what it says of a VM counts until a
   newer one speaks of it, so that a dead host's VMs are placed with the load they had.
2. Unknown is never "no": a host without a report lacks nothing, a VM without one has no load.
3. A VM that runs with KVM needs at its next host the processor it may see: what the hosts have in
   common, or all of its host's. Two processors of different models are left to the hypervisor,
   which is asked before each move anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from xml.etree import ElementTree as ET

from outlast.model import SlotRecord
from outlast.pool.facts import Facts
from outlast.report import Report, VmReport

KVM = "kvm"


@dataclass(frozen=True, slots=True)
class Measured:
    """The reports that count, by slot, and each VM's newest load in cores."""

    reports: Mapping[int, Report] = field(default_factory=dict)
    loads: Mapping[str, float] = field(default_factory=dict)

    def lacks(self, slot: int, kind: str) -> frozenset[str]:
        report = self.reports.get(slot)
        lacks = report.lacks if report else ()
        return frozenset(one.missing for one in lacks if one.kind == kind)

    def lacked(self, kind: str) -> frozenset[str]:
        """What at least one host lacks."""
        return frozenset[str]().union(*(self.lacks(slot, kind) for slot in self.reports))

    def other_cores(self, slot: int, vms: Iterable[str]) -> float | None:
        """Kept busy there by anything but these VMs; None = not measured."""
        report = self.reports.get(slot)
        if report is None or not report.busy_mcores:
            return None
        return max(0.0, report.busy_mcores / 1000 - sum(self.loads.get(vm, 0.0) for vm in vms))

    def over_mib(self, slot: int, promised_mib: int) -> int | None:
        report = self.reports.get(slot)
        return report.used_mib - promised_mib if report and report.used_mib else None


def report_by(facts: Facts, slot: int) -> Report | None:
    """What a member reported in its present life."""
    held, view = facts.reports.get(slot), facts.view
    counts = held is not None and view is not None and view.lists(slot, held.value.term)
    return held.value if held is not None and counts else None


def report_on(facts: Facts, vm: str) -> VmReport | None:
    """What the host that runs a VM reported of it, in this epoch of its lease."""
    lease = facts.leases.get(vm)
    report = report_by(facts, lease.value.slot) if lease else None
    if lease is None or report is None or report.term != lease.value.term:
        return None
    same = (one for one in report.vms if (one.vm, one.epoch) == (vm, lease.version))
    return next(same, None)


def measured(facts: Facts) -> Measured:
    reports: dict[int, Report] = {}
    newest: dict[str, tuple[int, float]] = {}
    for slot, held in sorted(facts.reports.items()):
        report = report_by(facts, slot)
        if report is not None:
            reports[slot] = report
        for one in held.value.vms:
            if one.busy_mcores and newest.get(one.vm, (0, 0.0))[0] <= one.epoch:
                newest[one.vm] = (one.epoch, one.busy_mcores / 1000)
    return Measured(reports, {vm: cores for vm, (_, cores) in newest.items()})


def processor_of(record: SlotRecord | None, shown: str) -> str:
    """What a VM that runs there may use; "" = not known, or nothing that could be missing."""
    return (shown or record.cpu) if record is not None and record.accelerator == KVM else ""


def offers(record: SlotRecord | None, cpu: str) -> bool:
    """Whether a VM that uses this processor could go on there, as far as that can be told."""
    if record is None or not record.accelerator or not cpu:
        return True
    if record.accelerator != KVM:
        return False
    return not record.cpu or _covers(record.cpu, cpu)


def alike(one: SlotRecord | None, other: SlotRecord | None) -> bool:
    """Whether these two are known to have the very same processor."""
    if one is None or other is None or not one.cpu:
        return False
    return (one.accelerator, one.cpu) == (other.accelerator, other.cpu)


def model_of(cpu: str) -> str:
    parsed = _parsed(cpu)
    return parsed.model if parsed and parsed.model else "the processor"


@cache
def _covers(has: str, wanted: str) -> bool:
    here, there = _parsed(has), _parsed(wanted)
    if here is None or there is None or here.model != there.model:
        return True
    return there.on <= here.on and here.off <= there.off


@dataclass(frozen=True, slots=True)
class _Cpu:
    model: str
    on: frozenset[str]
    off: frozenset[str]


def _parsed(text: str) -> _Cpu | None:
    try:
        root = ET.fromstring(text)  # noqa: S314 - libvirt's own words
    except ET.ParseError:
        return None
    features = {f.get("name", ""): f.get("policy", "require") for f in root.iter("feature")}
    off = frozenset(name for name, policy in features.items() if policy in {"disable", "forbid"})
    return _Cpu(root.findtext("model") or "", frozenset(features) - off, off)
