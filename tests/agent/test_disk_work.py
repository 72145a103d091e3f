"""Work on the disks of a stopped VM, with a real guard: who may, and what ends it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import TERMS, MemoryService

sys.path.insert(0, str(Path(__file__).parents[1] / "guard"))
sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from guard_kit import confirm, open_term
from guard_process import ProcessGuard, until, why_not

from outlast.agent import disk_work
from outlast.agent.disk_work import DiskWork
from outlast.agent.hands import Hands
from outlast.agent.machine import Machine
from outlast.agent.registers import Registers
from outlast.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    OutlastError,
    PoolTrouble,
    StorageTrouble,
)
from outlast.guard.client import GuardClient
from outlast.guard.errand import REFUSED
from outlast.hypervisor.fake_driver import FakeDriver
from outlast.images import qemu_img
from outlast.model import Desired, Disk, GuardState, Lease, SnapshotAct, VmRecord, VmSpec
from outlast.pool.decision import DISKS, Decision, Start
from outlast.pool.facts import Held
from outlast.storage.records import lease_to
from outlast.storage.register import Outcome, Swap

TERM = TERMS[1]


class Bench:
    """Host a with its stopped VM `web`, and a real guard in the term of its lease."""

    def __init__(self, tmp_path: Path) -> None:
        (tmp_path / "pool/images").mkdir(parents=True)
        self.service = MemoryService(tmp_path / "pool", obedient=False)
        self.disk = tmp_path / "pool/images/web.qcow2"
        qemu_img.create(self.disk, 1 << 20)
        record = VmRecord(VmSpec("web", "u", 64, 1))
        assert self.service.write_vm(0, record).ok
        self.guard = ProcessGuard(tmp_path)
        self.hands = Hands(*[None] * 4, lambda: None)  # type: ignore[arg-type]
        self.work = DiskWork(
            self.service, self.hands, self.service.write_lease,
            lambda: GuardClient(self.guard.socket),
        )  # fmt: skip
        self._stop = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)

    def open(self, term: str = TERM) -> Bench:
        assert open_term(self.guard, term)["ok"]
        self._beats.start()
        return self

    def _beat(self) -> None:
        while not self._stop.wait(0.05):
            confirm(self.guard, TERM)

    def quiet(self) -> None:
        """No beat is confirmed any more: the term ends at its deadline."""
        self._stop.set()
        if self._beats.is_alive():
            self._beats.join()

    def lease(self) -> Lease:
        return self.service.leases["web"].value

    def entered(self) -> bool:
        return GuardClient(self.guard.socket).status()["vms"] == {"web": {"populated": True}}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    if reason := why_not():
        pytest.skip(reason)
    made = Bench(tmp_path)
    yield made
    made.quiet()
    made.guard.clean()


def test_the_lease_is_held_meanwhile_and_the_ticks_see_it(bench: Bench) -> None:
    bench.open()
    with bench.work.borrow("web", "a snapshot") as borrowed:
        lease = bench.lease()
        assert (lease.slot, lease.term, lease.via, lease.why) == (1, TERM, DISKS, "a snapshot")
        assert bench.hands.busy == {(DISKS, "web")}
        for name in ("one", "two"):
            qemu_img.snapshot("-c", name, str(bench.disk), borrowed.leave())
        with pytest.raises(Conflict, match="worked on already"), bench.work.borrow("web", "x"):
            pass
    assert not bench.lease().held
    assert bench.hands.busy == frozenset()
    assert [told.code for told in bench.service.told] == ["disk-work"]
    said = qemu_img.info(bench.disk, "qcow2")
    assert [one["name"] for one in said["snapshots"]] == ["one", "two"]


def test_a_copy_is_one_program_and_needs_one_leave(bench: Bench, tmp_path: Path) -> None:
    bench.open()
    with bench.work.borrow("web", "a backup") as borrowed:
        copy = tmp_path / "copy.qcow2"
        qemu_img.convert(
            bench.disk, "qcow2", copy, "qcow2", 0, lambda _: None, borrowed.leave()
        )  # fmt: skip
    assert qemu_img.info(copy, "qcow2")["virtual-size"]


def test_what_fails_leaves_the_lease_to_the_core(bench: Bench) -> None:
    """I2: what was ended may have left writes in the kernel. It is told when the lease is free."""
    bench.open()
    seen: list[str] = []

    def core() -> None:
        until(lambda: not bench.hands.busy, "the ticks see no work")
        seen.append(bench.lease().via)
        bench.service.write_lease("lease/web", bench.service.leases["web"].version, Lease("web"))

    freeing = threading.Thread(target=core)
    with pytest.raises(InvalidInput), bench.work.borrow("web", "a snapshot") as borrowed:
        freeing.start()
        qemu_img.run(["snapshot", "-d", "none", str(bench.disk)], borrowed.leave(), about="web")
    assert not bench.lease().held
    freeing.join()
    assert seen == [DISKS]


def test_a_core_that_frees_nothing_is_not_waited_for_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_work, "FREED_X", 0.05)
    bench.open()
    with pytest.raises(InvalidInput), bench.work.borrow("web", "a snapshot") as borrowed:
        qemu_img.run(["snapshot", "-d", "none", str(bench.disk)], borrowed.leave(), about="web")
    assert bench.lease().via == DISKS


def test_when_the_term_ends_the_work_is_ended(bench: Bench) -> None:
    """I2: whoever gets the lease after that finds nobody writing."""
    bench.open()
    with bench.work.borrow("web", "something long") as borrowed:
        program = subprocess.Popen([*borrowed.leave(), "sleep", "600"])
        until(bench.entered, "it is in the control group of the VM")
        bench.quiet()
        assert program.wait(15) == -9
        with pytest.raises(OutlastError, match="does not let"):
            borrowed.leave()
    assert bench.lease().held, "its writes may still be on their way: only a proof frees it"


def test_a_lease_of_another_term_is_good_for_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_work, "FREED_X", 0.05)
    """The guard opened a new term between the lease and the work: it is not the lease's."""
    other = "e" * 32
    assert open_term(bench.guard, other, fence_ns=60 * 10**9)["ok"]
    words = "the term of its lease has ended"
    with pytest.raises(PoolTrouble, match=words), bench.work.borrow("web", "x") as borrowed:
        qemu_img.run(["snapshot", "-c", "one", str(bench.disk)], borrowed.leave(), about="web")
    assert "snapshots" not in qemu_img.info(bench.disk, "qcow2")


def test_an_errand_of_an_agent_that_is_gone_is_not_run(bench: Bench, tmp_path: Path) -> None:
    bench.open()
    with bench.work.borrow("web", "a snapshot") as borrowed:
        words = [*borrowed.leave()[:-1], "1", "touch", str(tmp_path / "ran")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode, "who asked for it is gone" in done.stderr) == (REFUSED, True)
    assert not (tmp_path / "ran").exists()


def test_without_being_asked_first_the_guard_lets_nothing_in(bench: Bench) -> None:
    bench.open()
    socket = str(bench.guard.socket)
    words = [sys.executable, "-m", "outlast.guard.errand", socket, "web", TERM, str(os.getpid())]
    done = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    assert (done.returncode, "not admitted" in done.stderr) == (REFUSED, True)


def changed(bench: Bench, **changes: object) -> None:
    held = bench.service.read_vm("web")
    assert held is not None
    bench.service.write_vm(held.version, replace(held.value, **changes))  # type: ignore[arg-type]


def test_a_vm_that_runs_or_shall_run_is_not_touched(bench: Bench) -> None:
    def refused(kind: type[OutlastError], words: str) -> None:
        before = dict(bench.service.leases)
        with pytest.raises(kind, match=words), bench.work.borrow("web", "x"):
            pytest.fail("it was lent")
        assert bench.service.leases == before
        assert bench.hands.busy == frozenset()

    changed(bench, desired=Desired.RUNNING)
    refused(Conflict, "shall run")
    changed(bench, desired=Desired.STOPPED)
    bench.service.hold("web", 2)
    refused(Conflict, "b holds the lease")
    bench.service.leases.clear()
    bench.service.run("web")
    refused(Conflict, "still being ended")
    bench.service.local.clear()
    changed(bench, deleted=True)
    refused(NotFound, "no VM")
    changed(bench, deleted=False)
    bench.service.guard = replace(bench.service.guard, remaining_ns=1)
    refused(PoolTrouble, "no member of the pool now")
    bench.service.guard = replace(
        bench.service.guard, remaining_ns=10**12, state=GuardState.CLOSING
    )
    refused(PoolTrouble, "no member")
    bench.service.trouble = "the pulse is silent"
    refused(PoolTrouble, "the pulse is silent")


@pytest.mark.parametrize("written", [True, False, None])
def test_an_unknown_answer_is_settled_by_reading(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, written: bool | None
) -> None:
    """written: by us, by somebody else, or nobody can tell."""
    monkeypatch.setattr("outlast.agent.disk_work.UNKNOWN_WAIT_S", 0.3)
    bench.open()

    def lost(name: str, expected: int, lease: Lease) -> Swap:
        if not lease.held:
            return bench.service.write_lease(name, expected, lease)
        if written is not None:
            value = lease if written else Lease("web", 2, TERMS[2], "start")
            bench.service.leases["web"] = Held(expected + 1, value, 0)
        return Swap(Outcome.UNKNOWN, expected)

    work = DiskWork(bench.service, bench.hands, lost, lambda: GuardClient(bench.guard.socket))
    began = time.monotonic()
    if written:
        with work.borrow("web", "x"):
            assert bench.lease().held
        assert not bench.lease().held
    elif written is None:
        with pytest.raises(StorageTrouble, match="did not say"), work.borrow("web", "x"):
            pytest.fail("it was lent")
        assert time.monotonic() - began >= 0.3
    else:
        with pytest.raises(Conflict, match="somebody else"), work.borrow("web", "x"):
            pytest.fail("it was lent")
        assert bench.lease().slot == 2


def test_a_vm_is_started_as_its_record_is_now(bench: Bench, tmp_path: Path) -> None:
    """Its disk moved, and whoever moved it died before anybody heard of it."""
    bench.open()
    old, new = tmp_path / "old.raw", tmp_path / "new.raw"
    for disk in (old, new):
        disk.write_bytes(bytes(1 << 20))
    spec = VmSpec("web", "u", 64, 1, (Disk(str(old)),))
    moved = replace(spec, disks=(Disk(str(new)),))
    assert bench.service.write_vm(1, VmRecord(moved, Desired.RUNNING)).ok
    with starting(bench, spec, tmp_path):
        until(lambda: any(new.read_bytes()), "it runs", 60)
        assert not any(old.read_bytes())


def test_a_vm_goes_back_to_its_snapshot_before_it_starts(bench: Bench, tmp_path: Path) -> None:
    """Who took it back died over the second of its disks, and somebody wants it to run."""
    bench.open()
    disks = [tmp_path / "one.qcow2", tmp_path / "two.qcow2"]
    for disk in disks:
        qemu_img.create(disk, 1 << 20)
        qemu_img.snapshot("-c", "old", str(disk))
        newer = ["qemu-io", "-f", "qcow2", "-c", "write -P 2 512k 64k", str(disk)]
        subprocess.run(newer, check=True, capture_output=True)
    qemu_img.snapshot("-a", "old", str(disks[0]))
    raw = tmp_path / "signed.raw"
    raw.write_bytes(bytes(1 << 20))
    spec = VmSpec("web", "u", 64, 1, (Disk(str(raw)), *(Disk(str(d), "qcow2") for d in disks)))
    act = SnapshotAct("revert", "old")
    assert bench.service.write_vm(1, VmRecord(spec, Desired.RUNNING, snapshot_act=act)).ok
    lease = lease_to(Lease("web", 1, TERM, "start"))
    assert bench.service.register.swap("lease/web", 0, lease).ok
    with starting(bench, spec, tmp_path):
        until(lambda: any(raw.read_bytes()), "it runs", 60)
        held = bench.service.read_vm("web")
        assert held is not None and held.value.snapshot_act is None
        for disk in disks:
            reading = [*newer[:4], "read -P 0 512k 64k", str(disk)]
            subprocess.run(reading, check=True, capture_output=True)


@contextlib.contextmanager
def starting(bench: Bench, spec: VmSpec, tmp_path: Path) -> Iterator[None]:
    """A host that has just been told to start `web`, as it was when that was decided."""
    driver = FakeDriver(tmp_path / "vms")
    registers = Registers(bench.service.register, lambda: None)
    machine = Machine(driver, lambda: GuardClient(bench.guard.socket), lambda: None, 1.0)
    hands = Hands(
        registers, driver, lambda: GuardClient(bench.guard.socket), machine, lambda: None
    )  # fmt: skip
    hands.perform(Decision(starts=(Start("web", spec, 3, "it is wanted"),)))
    try:
        yield
    finally:
        driver.kill("web")
        driver.close()
        hands.close()
