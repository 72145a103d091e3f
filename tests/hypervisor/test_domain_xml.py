"""The XML of VMs, compared with files; OUTLAST_REWRITE=1 writes them anew."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.errors import InvalidInput
from outlast.hypervisor.domain_xml import DomainOptions, domain_xml, mac_address
from outlast.model import Disk, VmSpec

GOLDEN = Path(__file__).parent / "golden"
WRAPPER = "/usr/lib/outlast/emulator"

TINY = VmSpec(
    "nano", "00000000-0000-4000-8000-000000000001", 8, 1, (Disk("/srv/pool/images/nano.raw"),),
    kernel="/srv/pool/images/nano.elf", cmdline="ms=100", serial_log="/srv/pool/logs/nano.log",
)  # fmt: skip
LINUX = VmSpec(
    "web", "00000000-0000-4000-8000-000000000002", 2048, 4,
    (
        Disk("/srv/pool/images/web.qcow2", "qcow2"),
        Disk("/srv/pool/images/data.raw", bus="scsi"),
        Disk("/srv/pool/images/more.raw"),
    ),
    kernel="/srv/pool/images/vmlinuz", initrd="/srv/pool/images/initrd", cmdline="root=/dev/vda1",
    networks=("br0", "br-storage"), machine="q35",
)  # fmt: skip
PLAIN = VmSpec("db", "00000000-0000-4000-8000-000000000003", 512, 1, (Disk("/srv/pool/a&b.raw"),))

WINDOWS = VmSpec(
    "win", "00000000-0000-4000-8000-000000000004", 4096, 2, (Disk("/srv/pool/images/win.raw"),),
    machine="q35", firmware="uefi-secure", nvram="/srv/pool/firmware/win.fd",
    tpm_state="/srv/pool/firmware/win.tpm", watchdog="restart", agent_channel=True,
    devices=("pci:0000:03:00.0", "usb:046d:c52b"), vcpus_max=8, memory_max_mib=8192,
)  # fmt: skip

DEVICES = VmSpec(
    "san", "00000000-0000-4000-8000-000000000005", 512, 1,
    (Disk("/dev/vg0/san"), Disk("rbd:vms/san-data")),
)  # fmt: skip

CASES = {
    "devices": (DEVICES, DomainOptions("kvm", WRAPPER)),
    "ceph-key": (DEVICES, DomainOptions("kvm", WRAPPER, ceph_key=True)),
    "hardware": (WINDOWS, DomainOptions("kvm", WRAPPER)),
    "nano-tcg": (TINY, DomainOptions(emulator=WRAPPER)),
    "linux-kvm": (LINUX, DomainOptions("kvm", WRAPPER, "/run/outlast/vnc/{name}.sock", "p-1")),
    "linux-tcg": (LINUX, DomainOptions("tcg", WRAPPER, "/run/outlast/vnc/{name}.sock", "p-1")),
    "graphics": (PLAIN, DomainOptions(vnc_socket="auto")),
    "blind": (replace(PLAIN, graphics="none"), DomainOptions(vnc_socket="auto")),
    "plain": (PLAIN, DomainOptions()),
    "through-kvm": (replace(PLAIN, cpu="passthrough"), DomainOptions("kvm", cpu="<cpu/>")),
    "through-tcg": (replace(PLAIN, cpu="passthrough"), DomainOptions(cpu="<cpu/>")),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    xml = domain_xml(*CASES[case])
    path = GOLDEN / f"{case}.xml"
    if os.environ.get("OUTLAST_REWRITE"):
        path.write_text(xml)
    assert xml == path.read_text()


@pytest.mark.parametrize("case", CASES)
def test_libvirts_schema_accepts_it(case: str) -> None:
    libvirt = pytest.importorskip("libvirt")
    conn = libvirt.open("test:///default")
    xml = (GOLDEN / f"{case}.xml").read_text()
    conn.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE).undefine()
    with pytest.raises(libvirt.libvirtError):
        bad = xml.replace("cache=", "cash=")
        conn.defineXMLFlags(bad, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    conn.close()


@pytest.mark.parametrize("case", CASES)
def test_it_never_comes_back_by_itself(case: str) -> None:
    domain = ET.fromstring(domain_xml(*CASES[case]))
    assert domain.findtext("on_crash") == domain.findtext("on_poweroff") == "destroy"
    for driver in domain.iterfind("devices/disk/driver"):
        assert driver.get("cache") == "none"
        assert driver.get("error_policy") == driver.get("rerror_policy") == "stop"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (replace(PLAIN, memory_mib=0), "memory"),
        (replace(PLAIN, vcpus=-1), "processor"),
        (replace(PLAIN, disks=(Disk("/x", bus="floppy"),)), "bus"),
        (replace(PLAIN, disks=(Disk("/x", format="vmdk"),)), "format"),
        (replace(PLAIN, disks=(Disk("x.raw"),)), "path"),
        (replace(PLAIN, disks=(Disk("/x"),) * 27), "27 disks"),
        (replace(PLAIN, firmware="coreboot"), "no firmware 'coreboot'"),
        (replace(PLAIN, firmware="uefi"), "a place for its variables"),
        (replace(PLAIN, firmware="uefi-secure", nvram="/x"), "machine type q35"),
        (replace(TINY, firmware="uefi", nvram="/x"), "not from a kernel"),
        (replace(PLAIN, tpm_state="x"), "TPM"),
        (replace(PLAIN, watchdog="bark"), "cannot 'bark'"),
        (replace(PLAIN, devices=("pci:3",)), "pci:3 is no device"),
        (replace(PLAIN, vcpus=4, vcpus_max=2), "4 processors are more"),
        (replace(PLAIN, memory_max_mib=9), "512 MiB are more"),
        (replace(PLAIN, cpu="486"), "cannot be shown as '486'"),
        (replace(PLAIN, graphics="spice"), "there are no graphics 'spice'"),
    ],
)
def test_what_no_host_could_run_is_refused(spec: VmSpec, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        domain_xml(spec, DomainOptions())


def test_an_unknown_accelerator_is_refused() -> None:
    with pytest.raises(InvalidInput, match="warp"):
        domain_xml(PLAIN, DomainOptions(accelerator="warp"))


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=30)


@given(TEXT, TEXT)
def test_no_text_breaks_out_of_its_place(path: str, cmdline: str) -> None:
    spec = replace(TINY, disks=(Disk("/" + path),), cmdline=cmdline)
    domain = ET.fromstring(domain_xml(spec, DomainOptions()))
    source = domain.find("devices/disk/source")
    assert source is not None and source.get("file") == "/" + path
    assert (domain.findtext("os/cmdline") or "") == cmdline
    assert len(domain.findall("devices/disk")) == 1


@given(st.uuids(), st.integers(0, 7))
def test_mac_addresses_are_steady_and_differ(uuid: object, index: int) -> None:
    mac = mac_address(str(uuid), index)
    assert mac == mac_address(str(uuid).upper(), index)
    assert mac.startswith("52:54:00:") and len(mac) == 17
    assert mac != mac_address(str(uuid), index + 1)
