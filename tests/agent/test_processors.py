"""The pool's processor baseline: made by the master of all hosts that run VMs, when they change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import MemoryService

from outlast.agent.processors import BaselineKeeper, mark, wanted
from outlast.errors import HypervisorTrouble
from outlast.model import SlotRecord


class Chips:
    """Processors whose features are letters: "abc" has a, b and c."""

    def __init__(self, own: str, accelerator: str = "kvm") -> None:
        self._own, self.accelerator, self.shown = own, accelerator, ""

    def own(self) -> str:
        return self._own

    def baseline(self, cpus: Sequence[str]) -> str:
        common = set.intersection(*(set(cpu) for cpu in cpus))
        if not common:
            raise HypervisorTrouble("these processors have nothing in common: a, z")
        return "".join(sorted(common))

    def use(self, cpu: str) -> None:
        self.shown = cpu


def slot(number: int, cpu: str, accelerator: str = "kvm", **more: object) -> SlotRecord:
    made = SlotRecord(number, f"h{number}", f"u{number}", 1, True, cpu=cpu, accelerator=accelerator)
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("slots", "mode", "cpus"),
    [
        ([slot(1, "abc"), slot(2, "ab"), slot(3, "abc")], "auto", ("ab", "abc")),
        ([slot(1, "abc"), slot(2, "ab", "tcg")], "auto", ()),
        ([slot(1, "abc", "tcg"), slot(2, "ab", "tcg")], "baseline", ("ab", "abc")),
        ([slot(1, "abc"), slot(2, "ab")], "host", ()),
        ([slot(1, "abc"), slot(2, "")], "auto", ()),  # it has not said yet
        ([slot(1, "abc"), slot(2, "z", no_vms=True), slot(3, "q", active=False)], "auto", ("abc",)),
        ([], "auto", ()),
    ],
)
def test_whose_processors_count(slots: list[SlotRecord], mode: str, cpus: tuple[str, ...]) -> None:
    assert wanted(slots, mode) == cpus


def keep(service: MemoryService, chips: Chips, until: str) -> BaselineKeeper:
    made = BaselineKeeper(chips, service.read_pool, service.write_pool, service.tell)
    end = time.monotonic() + 5
    while service.settings.cpu_of != until:
        assert time.monotonic() < end
        made.step(service.facts(0), service.settings)
        time.sleep(0.01)
    made.step(service.facts(0), service.settings)
    return made


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    """Host a is master; c is older than the others."""
    made = MemoryService(tmp_path)
    cpus = {1: "abc", 2: "abc", 3: "ac"}
    made.slots = {
        n: replace(record, cpu=cpus[n], accelerator="kvm") for n, record in made.slots.items()
    }
    return made


def test_the_master_writes_what_all_have(service: MemoryService) -> None:
    chips = Chips("abc")
    keep(service, chips, mark(("abc", "ac")))
    assert (service.settings.cpu, chips.shown) == ("ac", "ac")
    assert [(n.code, n.sentence[:42]) for n in service.told] == [
        ("cpu-baseline", "VMs see what all hosts have in common (2 k")
    ]
    version = service.pool_version
    keep(service, chips, mark(("abc", "ac")))
    assert service.pool_version == version, "nothing changed"
    service.slots[3] = replace(service.slots[3], active=False)
    keep(service, chips, mark(("abc",)))
    assert service.settings.cpu == "abc"


def test_nobody_else_writes_it(service: MemoryService) -> None:
    assert service.view is not None
    service.view = replace(service.view, master=2)
    chips = Chips("abc")
    made = BaselineKeeper(chips, service.read_pool, service.write_pool, service.tell)
    for _ in range(5):
        made.step(service.facts(0), service.settings)
    time.sleep(0.05)
    assert service.settings.cpu_of == ""


def test_processors_with_nothing_in_common(service: MemoryService) -> None:
    service.slots[3] = replace(service.slots[3], cpu="z")
    keep(service, Chips("abc"), mark(("abc", "z")))
    assert service.settings.cpu == ""
    assert "move only to its like" in service.told[0].sentence


def test_a_pool_may_do_without(service: MemoryService) -> None:
    chips = Chips("abc")
    keep(service, chips, mark(("abc", "ac")))
    service.settings = replace(service.settings, cpu_mode="host")
    keep(service, chips, "")
    assert (service.settings.cpu, chips.shown) == ("", "")
