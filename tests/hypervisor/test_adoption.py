"""Domains of others, read as VMs: what is taken over, what is refused and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from outlast.errors import HypervisorTrouble, NotFound
from outlast.hypervisor.adoption import Found, FoundDisk, read
from outlast.hypervisor.libvirt_driver import LibvirtDriver, LibvirtOptions

DISK = """<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2'/><source file='/srv/pool/images/web.qcow2'/>
  <target dev='vda' bus='virtio'/></disk>"""
DOMAIN = """<domain type='kvm'>
  <name>web</name><uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid>
  <memory unit='KiB'>2097152</memory><currentMemory unit='KiB'>2097152</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <os>{os}<type arch='x86_64' machine='pc-q35-7.2'>hvm</type><boot dev='hd'/></os>
  {top}
  <devices>{disk}{more}
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
    <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/></interface>
    <graphics type='vnc'/><sound model='ich9'/><memballoon model='virtio'/>
  </devices>
</domain>"""


def domain(*, os: str = "", top: str = "", disk: str = DISK, more: str = "") -> Found:
    return read(DOMAIN.format(os=os, top=top, disk=disk, more=more))


def test_an_ordinary_domain_is_a_vm() -> None:
    found = domain()
    assert (found.name, found.memory_mib, found.vcpus) == ("web", 2048, 2)
    assert found.machine == "pc-q35-7.2"
    assert found.disks == (FoundDisk("/srv/pool/images/web.qcow2", "qcow2", "virtio"),)
    assert found.networks == ("br0",)
    assert found.refusals == found.lost == ()
    assert found.remarks == (
        "its drive sda is left out, which is empty",
        "its network cards get new hardware addresses",
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"os": "<loader readonly='yes'>/usr/share/OVMF.fd</loader>"}, "boots with UEFI"),
        ({"os": "<kernel>/boot/vmlinuz</kernel>"}, "kernel file of its host"),
        ({"top": "<memoryBacking><hugepages/></memoryBacking>"}, "memory is set up"),
        ({"more": "<hostdev mode='subsystem' type='pci'/>"}, "handed through"),
        ({"more": "<tpm model='tpm-crb'/>"}, "has a TPM"),
        ({"more": "<filesystem type='mount'/>"}, "folder of its host"),
        ({"disk": ""}, "has no disk"),
        ({"disk": DISK.replace("type='file'", "type='block'")}, "vda is no file"),
        ({"disk": DISK.replace("qcow2'/>", "vdi'/>", 1)}, "vda is vdi on the bus virtio"),
        ({"disk": DISK.replace("bus='virtio'", "bus='usb'")}, "on the bus usb"),
        ({"disk": DISK.replace("</disk>", "<shareable/></disk>")}, "shared with others"),
        ({"disk": DISK.replace("</disk>", "<encryption/></disk>")}, "is encrypted"),
    ],
)
def test_what_the_pool_could_not_run_as_it_was(given: dict[str, str], words: str) -> None:
    found = domain(**given)
    assert len(found.refusals) == 1
    assert words in found.refusals[0]


def test_a_card_on_a_network_of_libvirt_needs_another_bridge() -> None:
    found = domain(more="<interface type='network'><source network='default'/></interface>")
    assert found.refusals == ()
    assert found.lost == ("a network card is on the network default, not on a bridge",)


def test_what_is_no_domain_or_of_another_kind() -> None:
    with pytest.raises(HypervisorTrouble):
        read("<domain")
    found = read("<domain type='lxc'><name>c</name><os><type>exe</type></os></domain>")
    assert len(found.refusals) == 3


def test_libvirts_domains_are_looked_at_forgotten_and_given_back(tmp_path: Path) -> None:
    driver = LibvirtDriver("test:///default", LibvirtOptions(root=tmp_path, memory_mib=16384))
    foreigners = driver.foreigners
    assert foreigners.names() == ["test"]  # the test driver is born with it, and it runs
    definition = foreigners.definition("test")
    assert definition.note.startswith("it runs")
    xml = DOMAIN.format(os="", top="", disk=DISK, more="").replace("kvm", "test")
    foreigners.define(xml.replace(" arch='x86_64' machine='pc-q35-7.2'", ""))
    assert foreigners.names() == ["test", "web"]
    definition = foreigners.definition("web")
    assert (definition.note, read(definition.xml).name) == ("", "web")
    foreigners.undefine("web")
    assert foreigners.names() == ["test"]
    foreigners.define(definition.xml)
    assert foreigners.names() == ["test", "web"]
    foreigners.undefine("web")
    for act in (foreigners.undefine, foreigners.definition):
        with pytest.raises(NotFound, match="no domain 'web'"):
            act("web")
    driver.close()
