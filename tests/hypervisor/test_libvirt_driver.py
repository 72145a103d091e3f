"""The libvirt driver: the whole kit on real QEMU, what fits on libvirt's own test driver, and the
troubles that only a real libvirtd can have."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest
from driver_kit import ENDS, DriverKit, Ground, drain, read_until, until
from guests_kit import GuestsKit
from private_libvirtd import PrivateLibvirtd
from tiny_guest import write_disk

from outlast.errors import Conflict, HypervisorTrouble
from outlast.guard.emulator import install
from outlast.hypervisor.domain_xml import DomainOptions, domain_xml
from outlast.hypervisor.driver import EventKind, GuardRefused, ImageMissing, LibvirtGone
from outlast.hypervisor.libvirt_driver import LibvirtDriver, LibvirtOptions
from outlast.model import Disk, VmState

NO_PROCESS = "libvirt's test driver has no processes, disks or serial ports"


class TestOnLibvirtsTestDriver(DriverKit):
    @pytest.fixture
    def ground(self, tmp_path: Path) -> Ground:
        def connect() -> LibvirtDriver:
            return LibvirtDriver("test:///default", LibvirtOptions(root=tmp_path, memory_mib=16384))

        lacks = {"images", "locks", "processes", "console", "memory"}
        return Ground(
            connect(),
            tmp_path,
            lambda _: None,
            again=connect,
            lacks=dict.fromkeys(lacks, NO_PROCESS),
        )

    def test_a_foreign_domain_is_left_alone(self, ground: Ground) -> None:
        driver = ground.driver
        assert isinstance(driver, LibvirtDriver)
        assert driver.foreign() == ("test",)  # the test driver is born with it
        for act in (driver.kill, driver.shutdown, driver.open_console, driver.open_screen):
            with pytest.raises(Conflict, match="not one of the pool's"):
                act("test")
        assert driver.foreign() == ("test",)


def real(libvirtd: PrivateLibvirtd, folder: Path, **domain: str) -> Ground:
    options = LibvirtOptions(root=libvirtd.root, domain=DomainOptions(**domain))

    def connect() -> LibvirtDriver:
        return LibvirtDriver(libvirtd.uri, options)

    driver = connect()
    return Ground(
        driver,
        folder,
        write_disk,
        again=connect,
        pid_of=lambda name: libvirtd.outer_pid(
            next(vm.pid for vm in driver.list() if vm.name == name)
        ),
    )


@pytest.mark.rack
class TestOnRealQemu(DriverKit):
    @pytest.fixture
    def ground(self, libvirtd: PrivateLibvirtd, tmp_path: Path) -> Ground:
        return real(libvirtd, tmp_path)


@pytest.mark.rack
class TestSystemsInRealQemu(GuestsKit):
    @pytest.fixture
    def ground(self, libvirtd: PrivateLibvirtd, tmp_path: Path) -> Ground:
        return real(libvirtd, tmp_path)


@pytest.fixture
def ground(libvirtd: PrivateLibvirtd, tmp_path: Path) -> Iterator[Ground]:
    made = real(libvirtd, tmp_path)
    made.driver.subscribe(made.events.append)
    yield made
    for vm in made.driver.list():
        made.driver.kill(vm.name)
    made.driver.close()


@pytest.mark.rack
class TestTrouble:
    def test_a_full_disk_pauses_and_resume_loses_nothing(
        self, libvirtd: PrivateLibvirtd, ground: Ground
    ) -> None:
        libvirtd.inside("mount", "-t", "tmpfs", "-o", "size=192k", "none", "/mnt")
        try:
            inside = libvirtd.root / "mnt/web.raw"
            write_disk(inside, writes=True, size=16 << 20)
            spec = ground.spec("web", disks=(Disk("/mnt/web.raw"),))
            ground.driver.start(spec)
            event = ground.await_kind("web", EventKind.IO_ERROR)
            assert "no space left on /mnt/web.raw" in event.detail
            assert "disk error" in ground.await_kind("web", EventKind.PAUSED).detail
            (vm,) = ground.driver.list()
            assert (vm.state, vm.reason) == (VmState.PAUSED, "disk error")
            libvirtd.inside("mount", "-o", "remount,size=32m", "/mnt")
            console = ground.driver.open_console("web")
            ground.driver.resume("web")
            ground.await_kind("web", EventKind.RESUMED)
            said = read_until(console, b"tick")
            assert b"disk error" not in said
            console.close()
        finally:
            ground.driver.kill("web")
            libvirtd.inside("umount", "/mnt")

    def test_a_signal_from_the_host_is_a_crash(self, ground: Ground) -> None:
        ground.driver.start(ground.spec("web"))
        os.kill(ground.pid_of("web"), signal.SIGTERM)
        event = ground.await_kind("web", *ENDS)
        assert event.kind is EventKind.CRASHED
        assert "signal from this host" in event.detail

    def test_a_reboot_inside_goes_on(self, ground: Ground, libvirtd: PrivateLibvirtd) -> None:
        ground.driver.start(ground.spec("web"))
        DriverKit.wait_for_hello(ground, "web")
        console = ground.driver.open_console("web")
        conn = libvirt.open(libvirtd.uri)
        conn.lookupByName("web").reset()
        read_until(console, b"hello")
        console.close()
        conn.close()
        assert ground.names() == ["web"]
        assert ground.kinds("web") == [EventKind.STARTED]

    def test_the_wrappers_refusal_is_told(self, libvirtd: PrivateLibvirtd, tmp_path: Path) -> None:
        wrapper = tmp_path / "emulator"
        install(wrapper, socket=str(tmp_path / "no-guard.sock"))
        ground = real(libvirtd, tmp_path, emulator=str(wrapper))
        with pytest.raises(GuardRefused, match="the guard does not answer") as caught:
            ground.driver.start(ground.spec("web"))
        assert caught.value.sentence.count("\n") == 0
        assert ground.driver.list() == []
        ground.driver.close()

    def test_a_slow_refusal_is_told_as_well(
        self, libvirtd: PrivateLibvirtd, tmp_path: Path
    ) -> None:
        """Then libvirt is connected to the monitor already, and fails in other words."""
        wrapper = tmp_path / "slow"
        wrapper.write_text(
            '#!/bin/sh\ncase "$*" in *guest=*) sleep 0.5\n'
            "echo 'Outlast does not let VM web start on this host: no term' >&2; exit 1;; esac\n"
            f'exec {shutil.which("qemu-system-x86_64")} "$@"\n'
        )
        wrapper.chmod(0o755)
        ground = real(libvirtd, tmp_path, emulator=str(wrapper))
        with pytest.raises(GuardRefused, match="no term"):
            ground.driver.start(ground.spec("web"))
        ground.driver.close()

    def test_a_missing_kernel_is_named(self, ground: Ground) -> None:
        with pytest.raises(ImageMissing, match="/nowhere/kernel"):
            ground.driver.start(ground.spec("web", kernel="/nowhere/kernel"))

    def test_a_missing_bridge_is_named(self, ground: Ground) -> None:
        with pytest.raises(HypervisorTrouble) as caught:
            ground.driver.start(ground.spec("web", networks=("br-nowhere",)))
        assert "br-nowhere" in caught.value.hint

    def test_a_missing_log_folder_is_named(self, ground: Ground) -> None:
        with pytest.raises(HypervisorTrouble) as caught:
            ground.driver.start(ground.spec("web", serial_log="/nowhere/web.log"))
        assert "/nowhere/web.log" in caught.value.hint

    def test_what_an_administrator_starts_is_foreign(
        self, ground: Ground, libvirtd: PrivateLibvirtd
    ) -> None:
        spec = ground.spec("theirs")
        xml = domain_xml(spec, DomainOptions())
        begin, end = xml.index("<metadata>"), xml.index("</metadata>") + len("</metadata>")
        conn = libvirt.open(libvirtd.uri)
        dom = conn.createXML(xml[:begin] + xml[end:], 0)
        try:
            assert ground.driver.list() == []
            assert ground.driver.foreign() == ("theirs",)
            with pytest.raises(Conflict):
                ground.driver.kill("theirs")
        finally:
            dom.destroy()
            conn.close()
        assert ground.events == []

    def test_our_domain_started_by_hand_is_seen(
        self, ground: Ground, libvirtd: PrivateLibvirtd
    ) -> None:
        conn = libvirt.open(libvirtd.uri)
        dom = conn.createXML(domain_xml(ground.spec("web"), DomainOptions()), 0)
        ground.await_kind("web", EventKind.STARTED)
        assert ground.names() == ["web"]
        dom.destroy()
        conn.close()
        assert ground.await_kind("web", *ENDS).kind is EventKind.CRASHED

    def test_graphics_are_on_a_unix_socket(self, libvirtd: PrivateLibvirtd, tmp_path: Path) -> None:
        ground = real(libvirtd, tmp_path, vnc_socket="/run/{name}.vnc")
        ground.driver.start(ground.spec("web"))
        assert (libvirtd.root / "run/web.vnc").is_socket()
        ground.driver.kill("web")
        ground.driver.close()

    def test_graphics_can_be_where_libvirt_likes(
        self, libvirtd: PrivateLibvirtd, tmp_path: Path
    ) -> None:
        ground = real(libvirtd, tmp_path, vnc_socket="auto")
        ground.driver.start(ground.spec("web"))
        first, second = (ground.driver.open_screen("web") for _ in range(2))
        for screen in (first, second):  # a screen has many viewers
            assert screen.recv(12).startswith(b"RFB ")
        first.close()
        ground.driver.start(replace(ground.spec("blind"), graphics="none"))
        with pytest.raises(HypervisorTrouble, match="no screen of 'blind'"):
            ground.driver.open_screen("blind")
        for name in ("web", "blind"):
            ground.driver.kill(name)
        assert second.recv(12) == b""
        second.close()
        ground.driver.close()

    def test_a_start_that_nobody_waits_for_is_still_one_start(
        self, libvirtd: PrivateLibvirtd, tmp_path: Path
    ) -> None:
        gate = tmp_path / "gate"
        wrapper = tmp_path / "slow"
        wrapper.write_text(
            f'#!/bin/sh\ncase "$*" in *guest=*) until [ -e {gate} ]; do sleep 0.05; done;; esac\n'
            f'exec {shutil.which("qemu-system-x86_64")} "$@"\n'
        )
        wrapper.chmod(0o755)
        options = LibvirtOptions(
            root=libvirtd.root, domain=DomainOptions(emulator=str(wrapper)), start_s=3
        )
        ground = Ground(LibvirtDriver(libvirtd.uri, options), tmp_path, write_disk)
        ground.driver.subscribe(ground.events.append)
        spec = ground.spec("web")
        with pytest.raises(LibvirtGone, match="has not answered"):
            ground.driver.start(spec)
        assert [(vm.name, vm.state) for vm in ground.driver.list()] == [("web", VmState.STARTING)]
        with pytest.raises(HypervisorTrouble, match="still under way"):
            ground.driver.start(spec)
        gate.touch()
        ground.await_kind("web", EventKind.STARTED)
        until(lambda: [vm.state for vm in ground.driver.list()] == [VmState.RUNNING])
        ground.driver.start(spec)
        ground.driver.kill("web")
        assert ground.await_kind("web", *ENDS).kind is EventKind.STOPPED
        assert ground.kinds("web") == [EventKind.STARTED, EventKind.STOPPED]
        ground.driver.close()


@pytest.mark.rack
class TestLibvirtdRestarts:
    def test_vms_go_on_and_the_driver_comes_back(
        self, ground: Ground, libvirtd: PrivateLibvirtd
    ) -> None:
        ground.driver.start(ground.spec("web"))
        ground.await_kind("web", EventKind.STARTED)
        before = ground.driver.list()[0].pid
        console = ground.driver.open_console("web")
        libvirtd.crash()
        drain(console)  # it ends with its connection
        console.close()
        with pytest.raises(LibvirtGone):
            ground.driver.list()
        libvirtd.start()
        until(lambda: answers(ground))
        assert [vm.pid for vm in ground.driver.list()] == [before]
        assert ground.kinds("web") == [EventKind.STARTED]
        ground.driver.kill("web")
        assert ground.await_kind("web", *ENDS).kind is EventKind.STOPPED

    def test_who_died_meanwhile_is_reported_once(
        self, ground: Ground, libvirtd: PrivateLibvirtd
    ) -> None:
        for name in ("web", "db"):
            ground.driver.start(ground.spec(name))
            ground.await_kind(name, EventKind.STARTED)
        pid = ground.pid_of("web")
        libvirtd.crash()
        os.kill(pid, signal.SIGKILL)
        libvirtd.start()
        assert ground.await_kind("web", *ENDS).kind is EventKind.CRASHED
        until(lambda: answers(ground))
        assert ground.names() == ["db"]
        ground.driver.kill("db")
        ground.await_kind("db", *ENDS)
        assert ground.kinds("web") == [EventKind.STARTED, EventKind.CRASHED]

    def test_a_frozen_libvirtd_holds_nobody_for_ever(
        self, libvirtd: PrivateLibvirtd, tmp_path: Path
    ) -> None:
        ground = real(libvirtd, tmp_path)
        driver = LibvirtDriver(
            libvirtd.uri, replace(LibvirtOptions(root=libvirtd.root), answer_s=0.5)
        )
        pid = libvirtd.daemon_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            for patient, limit_s in ((driver, 2), (ground.driver, 11)):
                began = time.monotonic()
                with pytest.raises(LibvirtGone):
                    patient.list()
                assert time.monotonic() - began < limit_s
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: answers(ground))
        driver.close()
        ground.driver.close()

    def test_no_libvirtd_at_all_is_said(self, tmp_path: Path) -> None:
        uri = f"qemu:///system?socket={tmp_path}/none"
        driver = LibvirtDriver(uri, LibvirtOptions(connect_s=0.2))
        with pytest.raises(LibvirtGone, match="no connection to libvirt") as caught:
            driver.list()
        assert "libvirtd" in caught.value.hint
        driver.close()


def answers(ground: Ground) -> bool:
    try:
        ground.driver.list()
    except LibvirtGone:
        return False
    return True
