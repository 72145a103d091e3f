"""The conformance kit of the port outlast.hypervisor.driver.Driver.

Subclass DriverKit in a test module and give it a fixture `ground` (a Ground). Every promise of the
port's docstring is checked here, once, for all drivers. What a driver's world cannot show
(libvirt's test driver has no processes) is listed in `Ground.lacks` with its reason and is skipped.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from outlast.errors import Conflict, HypervisorTrouble, NotFound
from outlast.hypervisor.driver import (
    MEMORY_STEP_MIB,
    Driver,
    DriverEvent,
    EventKind,
    ImageMissing,
    StartLocked,
)
from outlast.model import Disk, VmSpec, VmState

LIMIT_S = 30.0
ENDS = (EventKind.STOPPED, EventKind.CRASHED)


@dataclass
class Ground:
    driver: Driver
    folder: Path  # where disks may be made
    new_disk: Callable[[Path], None]  # makes something that boots, says hello and then ticks
    again: Callable[[], Driver] | None = None  # another driver for the same hypervisor
    pid_of: Callable[[str], int] | None = None  # pid of a VM as seen from the test
    lacks: dict[str, str] = field(default_factory=dict)
    events: list[DriverEvent] = field(default_factory=list)
    serial: int = 0

    def need(self, feature: str) -> None:
        if feature in self.lacks:
            pytest.skip(f"{feature}: {self.lacks[feature]}")

    def spec(self, name: str, **changes: object) -> VmSpec:
        self.serial += 1
        path = self.folder / f"{name}-{self.serial}.raw"
        self.new_disk(path)
        fields: dict[str, object] = {
            "name": name,
            "uuid": str(uuid.uuid4()),
            "memory_mib": 8,
            "vcpus": 1,
            "disks": (Disk(str(path)),),
        }
        return VmSpec(**{**fields, **changes})  # type: ignore[arg-type]

    def kinds(self, name: str) -> list[EventKind]:
        return [event.kind for event in self.events if event.name == name]

    def await_kind(self, name: str, *kinds: EventKind, count: int = 1) -> DriverEvent:
        until(lambda: sum(kind in kinds for kind in self.kinds(name)) >= count,
              lambda: f"{kinds} of {name}; so far {self.events}")  # fmt: skip
        return [e for e in self.events if e.name == name and e.kind in kinds][-1]

    def names(self) -> list[str]:
        return [vm.name for vm in self.driver.list()]


def until(holds: Callable[[], object], what: Callable[[], str] | str = "") -> None:
    """Poll until it holds; fail after LIMIT_S."""
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {LIMIT_S} s in vain: {what() if callable(what) else what}")
        time.sleep(0.005)


class DriverKit:
    """One test per promise. `ground` is made anew for each test; no VM runs at its beginning."""

    @pytest.fixture(autouse=True)
    def watch(self, ground: Ground):
        ground.driver.subscribe(ground.events.append)
        yield
        for vm in ground.driver.list():
            ground.driver.kill(vm.name)
        ground.driver.close()

    # ---- start and list ------------------------------------------------------------------

    def test_start_brings_a_vm_up(self, ground: Ground) -> None:
        assert ground.driver.list() == []
        ground.driver.start(ground.spec("web"))
        (vm,) = ground.driver.list()
        assert (vm.name, vm.state) == ("web", VmState.RUNNING)
        assert ground.await_kind("web", EventKind.STARTED).at_ns > 0

    def test_started_twice_is_started_once(self, ground: Ground) -> None:
        spec = ground.spec("web")
        ground.driver.start(spec)
        before = ground.driver.list()[0].pid
        ground.driver.start(spec)
        (vm,) = ground.driver.list()
        assert vm.pid == before
        ground.driver.kill("web")
        ground.await_kind("web", *ENDS)
        assert ground.kinds("web") == [EventKind.STARTED, EventKind.STOPPED]

    def test_many_callers_start_one_vm_once(self, ground: Ground) -> None:
        spec = ground.spec("web")
        threads = [
            threading.Thread(target=self.start_quietly, args=(ground, spec)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
        until(lambda: ground.names() == ["web"])
        ground.await_kind("web", EventKind.STARTED)
        ground.driver.kill("web")
        ground.await_kind("web", *ENDS)
        assert ground.kinds("web") == [EventKind.STARTED, EventKind.STOPPED]

    @staticmethod
    def start_quietly(ground: Ground, spec: VmSpec) -> None:
        try:
            ground.driver.start(spec)
        except HypervisorTrouble as trouble:
            assert "under way" in str(trouble)

    def test_a_name_in_use_is_a_conflict(self, ground: Ground) -> None:
        ground.driver.start(ground.spec("web"))
        with pytest.raises(Conflict, match="web"):
            ground.driver.start(ground.spec("web"))
        (vm,) = ground.driver.list()
        assert vm.state is VmState.RUNNING

    def test_a_uuid_in_use_is_a_conflict(self, ground: Ground) -> None:
        first = ground.spec("web")
        ground.driver.start(first)
        with pytest.raises(Conflict):
            ground.driver.start(ground.spec("db", uuid=first.uuid))
        assert ground.names() == ["web"]

    def test_a_missing_image_is_named(self, ground: Ground) -> None:
        ground.need("images")
        path = str(ground.folder / "nowhere.raw")
        with pytest.raises(ImageMissing) as caught:
            ground.driver.start(ground.spec("web", disks=(Disk(path),)))
        assert path in caught.value.sentence
        assert caught.value.hint
        assert ground.driver.list() == []
        assert ground.kinds("web") == []

    def test_a_locked_image_asks_for_patience(self, ground: Ground) -> None:
        ground.need("locks")
        first = ground.spec("web")
        ground.driver.start(first)
        second = ground.spec("db", disks=first.disks)
        with pytest.raises(StartLocked) as caught:
            ground.driver.start(second)
        assert first.disks[0].path in caught.value.sentence
        ground.driver.kill("web")
        ground.driver.start(second)
        assert ground.names() == ["db"]

    def test_list_is_sorted_and_shows_pids(self, ground: Ground) -> None:
        for name in ("web", "db", "app"):
            ground.driver.start(ground.spec(name))
        vms = ground.driver.list()
        assert [vm.name for vm in vms] == ["app", "db", "web"]
        ground.need("processes")
        assert len({vm.pid for vm in vms}) == 3
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        assert all(0 < vm.started_ns <= now_ns for vm in vms)

    def test_processors_are_added_while_it_runs(self, ground: Ground) -> None:
        free = ground.driver.resources().free_vcpus
        ground.driver.start(ground.spec("web", vcpus_max=4))
        assert ground.driver.list()[0].vcpus == 1
        ground.driver.resize("web", 3)
        assert ground.driver.list()[0].vcpus == 3
        assert ground.driver.resources().free_vcpus == free - 3, "they are promised to nobody else"
        with pytest.raises(HypervisorTrouble):
            ground.driver.resize("web", 5)
        assert ground.driver.list()[0].vcpus == 3
        with pytest.raises(NotFound):
            ground.driver.resize("nobody", 2)
        if ground.again is not None:
            other = ground.again()
            assert other.list()[0].vcpus == 3
            other.close()

    def test_memory_is_added_while_it_runs(self, ground: Ground) -> None:
        ground.need("memory")
        free = ground.driver.resources().free_mib
        ground.driver.start(ground.spec("web", memory_mib=128, memory_max_mib=512))
        assert ground.driver.list()[0].memory_mib == 128
        ground.driver.resize("web", memory_mib=128 + 2 * MEMORY_STEP_MIB)
        assert ground.driver.list()[0].memory_mib == 384
        assert ground.driver.resources().free_mib == free - 384, "it is promised to nobody else"
        for wrong in (384 + MEMORY_STEP_MIB // 2, 1024):
            with pytest.raises(HypervisorTrouble):
                ground.driver.resize("web", memory_mib=wrong)
        assert ground.driver.list()[0].memory_mib == 384
        if ground.again is not None:
            other = ground.again()
            assert other.list()[0].memory_mib == 384
            other.close()

    # ---- the end -------------------------------------------------------------------------

    def test_kill_ends_it_at_once(self, ground: Ground) -> None:
        ground.driver.start(ground.spec("web"))
        ground.driver.kill("web")
        assert ground.driver.list() == []
        assert ground.await_kind("web", *ENDS).kind is EventKind.STOPPED

    def test_kill_of_an_unknown_name_is_silent(self, ground: Ground) -> None:
        ground.driver.kill("nobody")
        assert ground.events == []

    @pytest.mark.parametrize("what", ["shutdown", "resume", "open_console", "open_screen"])
    def test_an_unknown_name_is_not_found(self, ground: Ground, what: str) -> None:
        with pytest.raises(NotFound, match="nobody"):
            getattr(ground.driver, what)("nobody")

    def test_shutdown_asks_the_system_inside(self, ground: Ground) -> None:
        ground.driver.start(ground.spec("web"))
        self.wait_for_hello(ground, "web")
        ground.driver.shutdown("web")
        assert ground.await_kind("web", *ENDS).kind is EventKind.STOPPED
        until(lambda: ground.driver.list() == [])

    @staticmethod
    def wait_for_hello(ground: Ground, name: str) -> None:
        """A system that still boots may miss the power button."""
        if "console" not in ground.lacks:
            console = ground.driver.open_console(name)
            read_until(console, b"\n")
            console.close()

    def test_kill_9_is_a_crash(self, ground: Ground) -> None:
        ground.need("processes")
        assert ground.pid_of is not None
        ground.driver.start(ground.spec("web"))
        ground.await_kind("web", EventKind.STARTED)
        os.kill(ground.pid_of("web"), signal.SIGKILL)
        assert ground.await_kind("web", *ENDS).kind is EventKind.CRASHED
        until(lambda: ground.driver.list() == [])

    def test_a_vm_lives_again_and_each_life_has_its_events(self, ground: Ground) -> None:
        spec = ground.spec("web")
        for life in range(1, 4):
            ground.driver.start(spec)
            ground.await_kind("web", EventKind.STARTED, count=life)
            ground.driver.kill("web")
            ground.await_kind("web", *ENDS, count=life)
        assert ground.kinds("web") == [EventKind.STARTED, EventKind.STOPPED] * 3
        times = [event.at_ns for event in ground.events]
        assert times == sorted(times)

    # ---- around them ---------------------------------------------------------------------

    def test_resources_shrink_by_what_runs(self, ground: Ground) -> None:
        before = ground.driver.resources()
        ground.driver.start(ground.spec("web", memory_mib=16, vcpus=2))
        after = ground.driver.resources()
        assert before.free_mib - after.free_mib == 16
        assert before.free_vcpus - after.free_vcpus == 2
        assert (after.memory_mib, after.vcpus) == (before.memory_mib, before.vcpus)
        assert 0 < before.free_mib <= before.memory_mib

    def test_resume_leaves_a_running_vm_alone(self, ground: Ground) -> None:
        ground.driver.start(ground.spec("web"))
        ground.driver.resume("web")
        assert ground.driver.list()[0].state is VmState.RUNNING

    def test_another_driver_finds_what_runs(self, ground: Ground) -> None:
        ground.need("another driver")
        assert ground.again is not None
        spec = ground.spec("web")
        ground.driver.start(spec)
        other = ground.again()
        try:
            events: list[DriverEvent] = []
            other.subscribe(events.append)
            assert [vm.name for vm in other.list()] == ["web"]
            other.start(spec)
            other.kill("web")
            until(lambda: events, "the end, told by the other driver")
            assert [event.kind for event in events] == [EventKind.STOPPED]
        finally:
            other.close()
        until(lambda: ground.driver.list() == [])

    def test_the_console_echoes(self, ground: Ground) -> None:
        ground.need("console")
        ground.driver.start(ground.spec("web"))
        console = ground.driver.open_console("web")
        read_until(console, b"\n")
        console.send(b"one two three")
        read_until(console, b"one two three")
        console.close()
        console.close()
        assert console.recv(10) == b""

    def test_the_newest_console_wins(self, ground: Ground) -> None:
        ground.need("console")
        ground.driver.start(ground.spec("web"))
        first = ground.driver.open_console("web")
        read_until(first, b"\n")
        second = ground.driver.open_console("web")
        drain(first)
        read_until(second, b"\n")
        second.close()
        first.close()

    def test_a_closed_console_wakes_its_reader(self, ground: Ground) -> None:
        ground.need("console")
        ground.driver.start(ground.spec("web"))
        console = ground.driver.open_console("web")
        reader = threading.Thread(target=drain, args=(console,))
        reader.start()
        console.close()
        reader.join(LIMIT_S)
        assert not reader.is_alive()

    def test_the_console_ends_with_the_vm(self, ground: Ground) -> None:
        ground.need("console")
        ground.driver.start(ground.spec("web"))
        console = ground.driver.open_console("web")
        ground.driver.kill("web")
        drain(console)
        console.close()

    def test_the_serial_log_is_kept_over_lives(self, ground: Ground) -> None:
        ground.need("console")
        log = ground.folder / "web.log"
        spec = ground.spec("web", serial_log=str(log))
        for life in range(1, 3):
            ground.driver.start(spec)
            until(lambda life=life: log.exists() and log.read_bytes().count(b"hello") == life)
            ground.driver.kill("web")


def read_until(console, wanted: bytes) -> bytes:
    """Read until `wanted` came."""
    data = b""
    deadline = time.monotonic() + LIMIT_S
    while wanted not in data:
        more = console.recv(4096)
        assert more, f"the console ended after {data!r}"
        assert time.monotonic() < deadline, f"no {wanted!r} in {data!r}"
        data += more
    return data


def drain(console) -> None:
    """Read to the end of the console."""
    deadline = time.monotonic() + LIMIT_S
    while console.recv(4096):
        assert time.monotonic() < deadline, "the console does not end"
