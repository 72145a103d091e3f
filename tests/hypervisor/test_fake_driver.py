"""The fake driver keeps the port's promises, and its disks tell the truth."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

import pytest
from driver_kit import DriverKit, Ground, until
from guests_kit import GuestsKit

from outlast.hypervisor.driver import EventKind
from outlast.hypervisor.fake_driver import FakeDriver, FakeOptions, check_disk
from outlast.model import Disk, VmSpec, VmState

FAST = FakeOptions(interval_ms=5)


def empty_disk(path: Path) -> None:
    path.write_bytes(bytes(4096))


def fake(folder: Path) -> Ground:
    options = FakeOptions(interval_ms=20, lock=True)
    driver = FakeDriver(folder / "run", options)
    return Ground(
        driver,
        folder,
        empty_disk,
        again=lambda: FakeDriver(folder / "run", options),
        pid_of=lambda name: next(vm.pid for vm in driver.list() if vm.name == name),
    )


class TestFakeDriver(DriverKit):
    @pytest.fixture
    def ground(self, tmp_path: Path) -> Ground:
        return fake(tmp_path)


class TestSystemsInFakeVms(GuestsKit):
    @pytest.fixture
    def ground(self, tmp_path: Path) -> Ground:
        return fake(tmp_path)


@pytest.fixture
def spec(tmp_path: Path) -> VmSpec:
    path = tmp_path / "web.raw"
    empty_disk(path)
    return VmSpec("web", str(uuid.uuid4()), 8, 1, (Disk(str(path)),))


def records(spec: VmSpec) -> int:
    return Path(spec.disks[0].path).read_bytes().count(b"OUTLAST")


def test_the_chain_goes_on_over_lives(tmp_path: Path, spec: VmSpec) -> None:
    driver = FakeDriver(tmp_path / "run", FAST)
    for life in range(1, 4):
        driver.start(spec)
        until(lambda life=life: records(spec) >= 20 * life)
        driver.kill("web")
    driver.close()
    assert check_disk(Path(spec.disks[0].path)) == []


def test_two_at_once_are_seen(tmp_path: Path, spec: VmSpec) -> None:
    hosts = [FakeDriver(tmp_path / name, FAST) for name in ("a", "b")]
    for host in hosts:
        host.start(spec)
    until(lambda: any("two ran at once" in line for line in check_disk(Path(spec.disks[0].path))))
    for host in hosts:
        host.kill("web")
        host.close()


def test_a_damaged_record_is_seen(tmp_path: Path, spec: VmSpec) -> None:
    driver = FakeDriver(tmp_path / "run", FAST)
    driver.start(spec)
    until(lambda: records(spec) >= 5)
    driver.kill("web")
    driver.close()
    disk = Path(spec.disks[0].path)
    data = disk.read_bytes()
    disk.write_bytes(data.replace(b" 3 ", b" 4 ", 1))
    assert any("damaged" in problem for problem in check_disk(disk))


def test_every_acknowledged_write_is_on_the_disk(tmp_path: Path, spec: VmSpec) -> None:
    driver = FakeDriver(tmp_path / "run", FAST)
    driver.start(spec)
    console = driver.open_console("web")
    heard = b""
    while heard.count(b"\r\n") < 20:
        heard += console.recv(4096)
    driver.kill("web")
    console.close()
    driver.close()
    on_disk = Path(spec.disks[0].path).read_bytes()
    for line in heard.split(b"\r\n")[1:-1]:
        _, boot, seq = line.split()
        assert b"OUTLAST %s %s " % (boot, seq) in on_disk


def test_a_disk_error_pauses_and_resume_goes_on(tmp_path: Path) -> None:
    spec = VmSpec("web", str(uuid.uuid4()), 8, 1, (Disk("/dev/full"),))
    driver = FakeDriver(tmp_path / "run", FAST)
    events: list[EventKind] = []
    driver.subscribe(lambda event: events.append(event.kind))
    driver.start(spec)
    until(lambda: driver.list()[0].state is VmState.PAUSED)
    assert "No space" in driver.list()[0].reason
    driver.resume("web")
    until(lambda: events.count(EventKind.PAUSED) == 2)
    wave = [EventKind.IO_ERROR, EventKind.PAUSED]
    assert events[:6] == [EventKind.STARTED, *wave, EventKind.RESUMED, *wave]
    driver.kill("web")
    driver.close()


def test_a_vm_outlives_its_driver_and_a_reused_pid_is_no_vm(tmp_path: Path, spec: VmSpec) -> None:
    run = tmp_path / "run"
    driver = FakeDriver(run, FAST)
    driver.start(spec)
    (vm,) = driver.list()
    driver.close()
    note = (run / "web.json").read_text()
    other = FakeDriver(run, FAST)
    assert other.list()[0].pid == vm.pid
    other.kill("web")
    other.close()
    # the note of a VM that is over, with the pid of somebody else
    (run / "web.json").write_text(note.replace(f'"pid": {vm.pid}', f'"pid": {os.getpid()}'))
    third = FakeDriver(run, FAST)
    assert third.list() == []
    third.close()


def test_a_torn_note_is_no_vm(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "web.json").write_text('{"name": "web", "pid"')
    driver = FakeDriver(run)
    assert driver.list() == []
    driver.close()


def test_a_vm_whose_folder_is_gone_ends(tmp_path: Path) -> None:
    run = tmp_path / "run"
    driver = FakeDriver(run, FAST)
    events: list[EventKind] = []
    driver.subscribe(lambda event: events.append(event.kind))
    driver.start(VmSpec("web", str(uuid.uuid4()), 8, 1, (Disk("/dev/full"),)))
    shutil.rmtree(run)
    until(lambda: EventKind.CRASHED in events)
    assert driver.list() == []
    driver.close()
