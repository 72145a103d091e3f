"""What a host measured and found of itself, for placement: the register `report/<n>`.

Rules of this file: values only, as in model.py. What is 0 or not there was not measured, which is
never taken for "none". A report says what is, it gives no right to anything.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VmReport:
    """A VM that runs on the reporting host."""

    vm: str
    epoch: int  # version of its lease then, so that an old report is not taken for a new one
    busy_mcores: int = 0  # thousandths of a core it keeps busy, smoothed; 0 = not measured
    ready: bool = False  # it answers as its record (VmRecord.ready) wants


@dataclass(frozen=True, slots=True)
class Lack:
    """Something VMs need that the reporting host does not have now."""

    kind: str  # network | storage
    missing: str  # a bridge; the path of a disk
    detail: str  # why


@dataclass(frozen=True, slots=True)
class Report:
    slot: int
    term: str
    busy_mcores: int = 0  # thousandths of a core kept busy by all that runs there, smoothed
    used_mib: int = 0  # memory in use, whoever uses it, smoothed
    vms: tuple[VmReport, ...] = ()  # by name
    lacks: tuple[Lack, ...] = ()  # by kind and name
