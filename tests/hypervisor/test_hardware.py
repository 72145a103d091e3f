"""Firmware, TPM, watchdog and agent channel on a real libvirtd and QEMU."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest
from driver_kit import ENDS, Ground, read_until
from private_libvirtd import PrivateLibvirtd
from tiny_guest import write_hanging_disk

from outlast.errors import HypervisorTrouble
from outlast.hypervisor.driver import EventKind
from outlast.hypervisor.hardware_xml import TPM_PLACE, pinned
from outlast.hypervisor.libvirt_driver import LibvirtDriver
from outlast.hypervisor.libvirt_tpm import link_tpm
from outlast.hypervisor.mover import Way
from outlast.model import Disk, VmSpec, VmState

pytestmark = pytest.mark.rack
SPEC = VmSpec("web", "00000000-0000-4000-8000-0000000000aa", 8, 1, (Disk("/x"),))


def live(libvirtd: PrivateLibvirtd, name: str) -> ET.Element:
    conn = libvirt.open(libvirtd.uri)
    try:
        return ET.fromstring(conn.lookupByName(name).XMLDesc())
    finally:
        conn.close()


def test_uefi_with_secure_boot_and_a_tpm(
    libvirtd: PrivateLibvirtd, ground: Ground, tmp_path: Path
) -> None:
    if not (Path("/usr/share/OVMF").is_dir() and shutil.which("swtpm")):
        pytest.skip("needs ovmf and swtpm")
    store = tmp_path / "firmware"
    store.mkdir()
    spec = ground.spec(
        "win", memory_mib=128, machine="q35", firmware="uefi-secure", nvram=str(store / "win.fd"),
        tpm_state=str(store / "win.tpm"), agent_channel=True, watchdog="restart",
    )  # fmt: skip
    assert "TPM" in pinned(spec)
    ground.driver.start(spec)
    domain = live(libvirtd, "win")
    loader = domain.find("os/loader")
    assert loader is not None and loader.get("secure") == "yes"
    assert domain.findtext("os/nvram") == spec.nvram
    assert (store / "win.fd").stat().st_size > 0, "its variables are on the pool's storage"
    kept = {path.name for path in (store / "win.tpm").rglob("*")}
    assert "tpm2-00.permall" in kept, "and so is the state of its TPM"
    assert domain.find("devices/channel/target[@name='org.qemu.guest_agent.0']") is not None

    assert isinstance(ground.driver, LibvirtDriver)
    with pytest.raises(HypervisorTrouble, match="does not move while it runs"):
        ground.driver.depart("win", Way("0" * 16, "/nowhere", "127.0.0.1"))
    before = (store / "win.tpm/tpm2/tpm2-00.permall").read_bytes()
    ground.driver.kill("win")
    ground.await_kind("win", *ENDS)
    assert (store / "win.tpm/tpm2/tpm2-00.permall").read_bytes() == before, "it outlasts its VM"
    ground.driver.start(spec)
    assert ground.driver.list()[0].state is VmState.RUNNING


def test_a_hung_system_is_a_failed_vm(ground: Ground) -> None:
    spec = ground.spec("web", watchdog="restart")
    write_hanging_disk(Path(spec.disks[0].path))
    ground.driver.start(spec)
    event = ground.await_kind("web", *ENDS)
    assert event.kind is EventKind.CRASHED
    assert ground.driver.list() == []


def test_a_hung_system_can_be_reset_in_place(ground: Ground) -> None:
    spec = ground.spec("web", watchdog="reset")
    write_hanging_disk(Path(spec.disks[0].path))
    ground.driver.start(spec)
    console = ground.driver.open_console("web")
    assert b"hh" in read_until(console, b"hh"), "it began anew, twice"
    console.close()
    assert [vm.state for vm in ground.driver.list()] == [VmState.RUNNING]
    assert ground.kinds("web") == [EventKind.STARTED]


def test_emulated_modules_of_memory_do_not_move(libvirtd: PrivateLibvirtd, ground: Ground) -> None:
    assert isinstance(ground.driver, LibvirtDriver)
    ground.driver.start(ground.spec("web", memory_mib=128, memory_max_mib=512))
    ground.driver.resize("web", memory_mib=256)
    assert live(libvirtd, "web").get("type") == "qemu"
    with pytest.raises(HypervisorTrouble, match="given memory while it ran"):
        ground.driver.depart("web", Way("0" * 16, "/nowhere", "127.0.0.1"))


def test_a_processor_that_is_passed_through(libvirtd: PrivateLibvirtd, ground: Ground) -> None:
    ground.driver.start(ground.spec("web", cpu="passthrough"))
    cpu = live(libvirtd, "web").find("cpu")
    assert cpu is not None and cpu.get("mode") == "maximum", "all that the emulator can do"
    assert [vm.state for vm in ground.driver.list()] == [VmState.RUNNING]


def test_the_state_of_a_tpm_is_never_lost_by_linking(tmp_path: Path) -> None:
    spec = replace(SPEC, tpm_state="/pool/web.tpm")
    link_tpm(tmp_path, SPEC)
    assert list(tmp_path.iterdir()) == []
    link_tpm(tmp_path, spec)
    link_tpm(tmp_path, spec)
    link = tmp_path / TPM_PLACE.lstrip("/") / spec.uuid
    assert link.readlink() == Path("/pool/web.tpm") and (tmp_path / "pool/web.tpm").is_dir()
    link_tpm(tmp_path, replace(spec, tpm_state="/other/web.tpm"))
    assert link.readlink() == Path("/other/web.tpm")
    link.unlink()
    link.mkdir()
    with pytest.raises(HypervisorTrouble, match="a state of this host's own"):
        link_tpm(tmp_path, spec)
