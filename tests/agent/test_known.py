"""The agent's cache of registers: what is read when, and what becomes known together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from outlast.agent.registers import HINTS_KEPT, Known, Registers
from outlast.model import Lease, VmRecord, VmSpec
from outlast.settings import S
from outlast.storage.format import lease_to, vm_to
from outlast.storage.memory import MemoryRegister, MemoryShelf

WAIT_S = 10.0


class Counted(MemoryRegister):
    """Tells what was read, and holds a read back while its gate is shut."""

    def __init__(self, shelf: MemoryShelf) -> None:
        super().__init__(shelf)
        self.log: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def read(self, name: str) -> tuple[int, dict[str, object] | None]:
        self.log.append(name)
        assert self.gate.wait(WAIT_S)
        return super().read(name)


def until(happened: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < end, what
        time.sleep(0.002)


def write(shelf: MemoryShelf, vm: str, slot: int = 0) -> None:
    name, other = f"lease/{vm}", MemoryRegister(shelf)
    assert other.swap(name, other.read(name)[0], lease_to(Lease(vm, slot))).ok


class Bench:
    """Registers that run, on a shelf with six leases."""

    def __init__(self) -> None:
        self.shelf = MemoryShelf()
        for number in range(6):
            write(self.shelf, f"vm{number}")
        self.disk = Counted(self.shelf)
        self.news: list[Known] = []
        self.registers = Registers(self.disk, self.changed, sweep_s=1000)

    def changed(self) -> None:
        self.news.append(self.registers.known)

    def start(self) -> None:
        self.registers.start()
        until(lambda: self.registers.known.ready, "all is read")

    def epoch(self, vm: str) -> int:
        held = self.registers.known.leases.get(vm)
        return held.version if held else 0


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.disk.gate.set()
    made.registers.close()


def test_ready_means_that_everything_was_read_once(bench: Bench) -> None:
    bench.start()
    assert len(bench.registers.known.leases) == 6
    assert [k.ready for k in bench.news] == sorted(k.ready for k in bench.news)
    assert all(len(k.leases) == 6 for k in bench.news if k.ready)


def test_an_empty_pool_is_ready_too() -> None:
    registers = Registers(MemoryRegister(), lambda: None)
    registers.start()
    until(lambda: registers.known.ready, "nothing is all there is")
    registers.close()


def test_what_a_hint_names_is_read_and_nothing_else(bench: Bench) -> None:
    bench.start()
    write(bench.shelf, "vm3", slot=2)
    del bench.disk.log[:]
    bench.registers.hint([("lease/vm3", 2), ("lease/vm4", 1), ("view", 9)])
    until(lambda: bench.epoch("vm3") == 2, "it is read")
    assert bench.disk.log == ["lease/vm3"]


def test_a_hint_does_not_wait_for_the_rest_of_a_full_look(bench: Bench) -> None:
    bench.start()
    del bench.disk.log[:]
    bench.disk.gate.clear()
    bench.registers.look()
    until(lambda: bench.disk.log == ["lease/vm0"], "a full look begins")
    write(bench.shelf, "vm5", slot=2)
    bench.registers.hint([("lease/vm5", 2)])
    bench.registers.hint([("lease/vm5", 2)])
    bench.disk.gate.set()
    until(lambda: len(bench.disk.log) == 7, "all are read")
    assert bench.disk.log[1] == "lease/vm5"


def test_who_wrote_more_than_it_names_makes_a_full_look_due(bench: Bench) -> None:
    bench.start()
    registers = bench.registers
    registers.wrote("2", 40, HINTS_KEPT)  # heard of for the first time
    registers.wrote("2", 40 + HINTS_KEPT, HINTS_KEPT)  # it named them all
    registers.wrote("3", 5, 1)
    registers.wrote("3", 4, 1)  # began anew
    del bench.disk.log[:]
    for number in range(6):
        write(bench.shelf, f"vm{number}", slot=2)
    assert bench.epoch("vm0") == 1
    registers.wrote("2", 41 + 2 * HINTS_KEPT, HINTS_KEPT)
    until(lambda: all(bench.epoch(f"vm{n}") == 2 for n in range(6)), "nothing stays unseen")
    assert len(bench.disk.log) == 6


def test_a_burst_becomes_known_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outlast.agent.registers.TOGETHER_NS", 3600 * S)
    bench.start()
    for number in range(6):
        write(bench.shelf, f"vm{number}", slot=2)
    del bench.news[:]
    bench.disk.gate.clear()
    bench.registers.hint([(f"lease/vm{n}", 2) for n in range(6)])
    bench.disk.gate.set()
    until(lambda: all(bench.epoch(f"vm{n}") == 2 for n in range(6)), "all are read")
    assert len(bench.news) <= 2, "once when it had the first of them, perhaps"


def test_what_this_host_writes_is_known_and_named_at_once(bench: Bench) -> None:
    bench.start()
    del bench.news[:]
    assert bench.registers.swap("lease/vm1", 1, Lease("vm1", 3)).version == 2
    assert bench.epoch("vm1") == 2
    assert (bench.registers.work_seq, bench.registers.hints) == (1, (("lease/vm1", 2),))
    assert len(bench.news) == 1
    write(bench.shelf, "vm2", slot=2)
    assert not bench.registers.swap("lease/vm2", 1, Lease("vm2", 3)).ok
    until(lambda: bench.epoch("vm2") == 2, "a conflict is looked into")


def test_what_a_newer_version_wrote_is_kept_when_it_is_written_again(bench: Bench) -> None:
    """A neighbour of the next version has fields for VMs that this one does not know."""
    newer, plain = MemoryRegister(bench.shelf), vm_to(VmRecord(VmSpec("web", "u", 64, 1)))
    spec = {**plain["spec"], "tpm": True, "vcpus": 1}  # type: ignore[dict-item]
    newer.swap("vm/web", 0, {**plain, "spec": spec, "colour": "red"})
    bench.start()
    held = bench.registers.known.vms["web"]
    for version in (1, 2):  # its own write is followed by another one
        value = replace(held.value, desired="running", start_seq=version)
        assert bench.registers.swap("vm/web", version, value).version == version + 1
    _, raw = newer.read("vm/web")
    assert raw is not None
    assert (raw["colour"], raw["start_seq"], raw["desired"]) == ("red", 2, "running")
    assert raw["spec"] == spec
    newer.swap("vm/web", 3, {**raw, "colour": "blue"})
    assert not bench.registers.swap("vm/web", 3, held.value).ok, "what it knows is old"
    assert bench.registers.read_now("vm/web") is not None
    assert bench.registers.swap("vm/web", 4, held.value).ok
    assert (newer.read("vm/web")[1] or {})["colour"] == "blue"


def test_a_lease_is_written_as_it_is_meant(bench: Bench) -> None:
    """Leases are whole values: nothing of another holder's stays in them."""
    newer = MemoryRegister(bench.shelf)
    newer.swap("lease/vm0", 1, {**lease_to(Lease("vm0", 2)), "strange": 1})
    bench.start()
    assert bench.registers.swap("lease/vm0", 2, Lease("vm0", 1)).ok
    assert "strange" not in (newer.read("lease/vm0")[1] or {})
