"""A libvirt domain of somebody else, read as a VM of the pool: what can be taken and what not.

Pure.

Rules:
1. What the pool cannot run as it was is a refusal, in words; nothing is left out in silence. What
   does no harm to leave out (an empty CD drive, graphics, sound) is a remark.
2. Disks keep their order, so that the system inside finds its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from xml.etree import ElementTree as ET

from outlast.errors import HypervisorTrouble

BUSES, FORMATS = ("virtio", "sata", "scsi", "ide"), ("raw", "qcow2")
_MIB_OF = {
    "b": 2**-20, "bytes": 2**-20, "kb": 1000 / 2**20, "k": 2**-10, "kib": 2**-10, "": 2**-10,
    "mb": 10**6 / 2**20, "m": 1, "mib": 1, "gb": 10**9 / 2**20, "g": 1024, "gib": 1024,
    "t": 2**20, "tib": 2**20,
}  # fmt: skip
# devices whose loss the system inside would feel
_NEEDED = {
    "hostdev": "a device of its host is handed through to it",
    "tpm": "it has a TPM", "filesystem": "a folder of its host is shared with it",
    "shmem": "it shares memory with others", "vsock": "it has a vsock",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FoundDisk:
    path: str
    format: str
    bus: str


@dataclass(frozen=True, slots=True)
class Found:
    """A domain as the pool would run it.

    refusals: why it cannot; lost: cards that are on no bridge; remarks: what will be otherwise.
    """

    name: str
    uuid: str
    memory_mib: int
    vcpus: int
    machine: str
    disks: tuple[FoundDisk, ...]
    networks: tuple[str, ...]  # bridges
    refusals: tuple[str, ...]
    lost: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """A domain as its host's libvirt has it. note: why it may not be touched now; "" = it may."""

    xml: str
    note: str = ""


class Foreigners(Protocol):
    """Domains of one host that are not the pool's. Raises LibvirtGone, HypervisorTrouble."""

    def names(self) -> list[str]:
        """All that are defined, running or not."""

    def definition(self, name: str) -> Definition:
        """Raises NotFound."""

    def undefine(self, name: str) -> None:
        """Make libvirt forget it; its disks stay. Raises NotFound."""

    def define(self, xml: str) -> None:
        """Give it back to libvirt."""


def read(xml: str) -> Found:
    """Raises HypervisorTrouble for what is no domain."""
    try:
        root = ET.fromstring(xml)  # noqa: S314 - libvirt's own words
    except ET.ParseError as error:
        raise HypervisorTrouble(f"libvirt's definition cannot be read: {error}") from error
    refusals, remarks = _machine(root), []
    disks, said = _disks(root)
    refusals += said.refusals
    remarks += said.remarks
    networks, lost = _networks(root)
    devices = root.find("devices")
    for tag, words in _NEEDED.items():
        if devices is not None and devices.find(tag) is not None:
            refusals.append(words)
    if networks:
        remarks.append("its network cards get new hardware addresses")
    kind = root.find("os/type")
    vcpus = int(root.findtext("vcpu") or 1)
    return Found(
        root.findtext("name") or "", root.findtext("uuid") or "", _memory(root), vcpus,
        (kind.get("machine") if kind is not None else None) or "pc",
        tuple(disks), tuple(networks), tuple(refusals), tuple(lost), tuple(remarks),
    )  # fmt: skip


@dataclass(slots=True)
class _Said:
    refusals: list[str]
    remarks: list[str]


def _machine(root: ET.Element) -> list[str]:
    refusals = []
    if root.get("type") not in {"kvm", "qemu"}:
        refusals.append(f"it is a domain of type {root.get('type')}, not of QEMU")
    kind = root.find("os/type")
    if kind is None or kind.text != "hvm" or kind.get("arch", "x86_64") != "x86_64":
        refusals.append("it is no machine with an x86-64 processor")
    system = root.find("os")
    if system is not None and (system.find("loader") is not None or system.get("firmware")):
        refusals.append("it boots with UEFI")
    if root.find("os/kernel") is not None:
        refusals.append("it boots a kernel file of its host")
    if root.find("memoryBacking") is not None or root.find("maxMemory") is not None:
        refusals.append("its memory is set up in a special way")
    return refusals


def _memory(root: ET.Element) -> int:
    element = root.find("memory")
    if element is None or not (element.text or "").strip().isdigit():
        return 0
    return round(int(element.text or 0) * _MIB_OF.get((element.get("unit") or "").lower(), 0))


def _disks(root: ET.Element) -> tuple[list[FoundDisk], _Said]:
    disks, said = [], _Said([], [])
    for disk in root.iter("disk"):
        target, source, driver = disk.find("target"), disk.find("source"), disk.find("driver")
        name = target.get("dev", "?") if target is not None else "?"
        if disk.get("device", "disk") in {"cdrom", "floppy"}:
            what = "with its medium" if source is not None else "which is empty"
            said.remarks.append(f"its drive {name} is left out, {what}")
            continue
        bus = target.get("bus", "") if target is not None else ""
        path = source.get("file", "") if source is not None else ""
        kind = driver.get("type", "") if driver is not None else "raw"
        if disk.get("type") != "file" or not path:
            said.refusals.append(f"its disk {name} is no file")
        elif bus not in BUSES or kind not in FORMATS:
            said.refusals.append(f"its disk {name} is {kind or 'of no format'} on the bus {bus}")
        elif disk.find("shareable") is not None or disk.find("readonly") is not None:
            said.refusals.append(f"its disk {name} is shared with others or only to be read")
        elif disk.find("source/encryption") is not None or disk.find("encryption") is not None:
            said.refusals.append(f"its disk {name} is encrypted")
        else:
            disks.append(FoundDisk(path, kind, bus))
    if not disks and not said.refusals:
        said.refusals.append("it has no disk")
    return disks, said


def _networks(root: ET.Element) -> tuple[list[str], list[str]]:
    networks, refusals = [], []
    for card in root.iter("interface"):
        source = card.find("source")
        bridge = source.get("bridge", "") if source is not None else ""
        if card.get("type") == "bridge" and bridge:
            networks.append(bridge)
        else:
            where = source.attrib.values() if source is not None else ()
            named = next(iter(where), "")
            refusals.append(f"a network card is on the {card.get('type')} {named}, not on a bridge")
    return networks, refusals
