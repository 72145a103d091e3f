"""Parts of a domain that not every VM has: firmware, TPM, watchdog, channel, devices. Pure.

Rules:
1. Everything a VM must find again on another host is on the pool's storage: the variables of its
   firmware (`nvram`), the state of its TPM (`tpm_state`).
2. A VM without any of these has the very XML it had before they existed.
3. A watchdog that runs out ends the QEMU process (`restart`), so that the pool sees a failed VM
   and decides; or it resets the system inside in place (`reset`), and nobody hears of it.
4. Devices of a host pin the VM to hosts that have them; such a VM cannot move while it runs.
5. A processor that is passed through moves to hosts with the very same one only. Nothing below
   checks that: it is placement's to know (pool/landscape.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from outlast.model import VmSpec

FIRMWARES = ("bios", "uefi", "uefi-secure")
GRAPHICS = ("vnc", "none")
CPUS = ("", "passthrough")
WATCHDOGS = {"restart": "poweroff", "reset": "reset"}  # ours -> libvirt's
TPM_PLACE = "/var/lib/libvirt/swtpm"  # libvirt has one place for all; the driver links from there
DIMMS_MAX = 16  # modules that can be added until its next start
AGENT = "org.qemu.guest_agent.0"
_PCI = re.compile(r"pci:([0-9a-f]{4}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])\Z")
_USB = re.compile(r"usb:([0-9a-f]{4}):([0-9a-f]{4})\Z")


def pinned(spec: VmSpec) -> str:
    """Why this VM cannot move while it runs; "" when it can."""
    if spec.movable:
        return ""
    if spec.devices:
        return f"it uses devices of its host: {', '.join(spec.devices)}"
    return "it has a TPM, whose state does not move while it runs"


def rules(spec: VmSpec) -> Iterator[tuple[bool, str, str]]:
    """What must hold: whether it does, else a sentence and a hint."""
    yield (
        spec.firmware in FIRMWARES,
        f"there is no firmware '{spec.firmware}'",
        ("one of: " + ", ".join(FIRMWARES)),
    )
    yield (spec.graphics in GRAPHICS, f"there are no graphics '{spec.graphics}'",
           "one of: " + ", ".join(GRAPHICS))  # fmt: skip
    yield (spec.cpu in CPUS, f"a processor cannot be shown as '{spec.cpu}'", "passthrough")
    yield (not uefi(spec) or spec.nvram.startswith("/"),
           "UEFI needs a place for its variables", "a path that begins with /")  # fmt: skip
    yield (spec.firmware != "uefi-secure" or "q35" in spec.machine,
           "Secure Boot needs the machine type q35", "--machine q35")  # fmt: skip
    yield (not (uefi(spec) and spec.kernel), "UEFI boots from a disk, not from a kernel file", "")
    yield (not spec.tpm_state or spec.tpm_state.startswith("/"),
           "the path of a TPM's state must begin with /", "")  # fmt: skip
    yield (not spec.watchdog or spec.watchdog in WATCHDOGS,
           f"a watchdog cannot '{spec.watchdog}'", "one of: " + ", ".join(WATCHDOGS))  # fmt: skip
    wrong = [d for d in spec.devices if not (_PCI.match(d) or _USB.match(d))]
    yield (not wrong, f"{', '.join(wrong)[:80]} is no device",
           "like pci:0000:03:00.0 or usb:046d:c52b, as lspci -D and lsusb show them")  # fmt: skip
    yield (not spec.vcpus_max or spec.vcpus_max >= spec.vcpus,
           f"{spec.vcpus} processors are more than the most, {spec.vcpus_max}", "")  # fmt: skip
    yield (not spec.memory_max_mib or spec.memory_max_mib >= spec.memory_mib,
           f"{spec.memory_mib} MiB are more than the most, {spec.memory_max_mib}", "")  # fmt: skip


def uefi(spec: VmSpec) -> bool:
    return spec.firmware != "bios"


def firmware(system: ET.Element, spec: VmSpec) -> None:
    """Into <os>, after its type: libvirt finds the files by what they can, on each host anew."""
    if not uefi(spec):
        return
    system.set("firmware", "efi")
    secure = spec.firmware == "uefi-secure"
    wanted = ET.SubElement(system, "firmware")
    for feature in ("secure-boot", "enrolled-keys"):
        ET.SubElement(wanted, "feature", enabled="yes" if secure else "no", name=feature)
    if secure:
        ET.SubElement(system, "loader", secure="yes")
    ET.SubElement(system, "nvram").text = spec.nvram


def features(element: ET.Element, spec: VmSpec) -> None:
    """Into <features>."""
    if spec.firmware == "uefi-secure":
        ET.SubElement(element, "smm", state="on")


def memory(domain: ET.Element, spec: VmSpec) -> None:
    """How far its memory can grow: into the domain before <memory>."""
    if spec.memory_max_mib > spec.memory_mib:
        most = ET.SubElement(domain, "maxMemory", slots=str(DIMMS_MAX), unit="MiB")
        most.text = str(spec.memory_max_mib)


def passed_through(accelerator: str) -> ET.Element:
    """The <cpu> that is the host's own, or all that an emulator can do."""
    return ET.Element("cpu", mode="host-passthrough" if accelerator == "kvm" else "maximum")


def cells(cpu: ET.Element, spec: VmSpec) -> None:
    """Into <cpu>: memory can only be added to a VM that is told where it belongs."""
    if spec.memory_max_mib > spec.memory_mib:
        most = max(spec.vcpus, spec.vcpus_max)
        numa = ET.SubElement(cpu, "numa")
        ET.SubElement(
            numa, "cell", id="0", cpus=f"0-{most - 1}", memory=str(spec.memory_mib), unit="MiB"
        )


def more_memory(mib: int) -> str:
    """A module of memory, to be added to a running VM."""
    module = ET.Element("memory", model="dimm")
    target = ET.SubElement(module, "target")
    ET.SubElement(target, "size", unit="MiB").text = str(mib)
    ET.SubElement(target, "node").text = "0"
    return ET.tostring(module, encoding="unicode")


def devices(element: ET.Element, spec: VmSpec) -> None:
    """Into <devices>."""
    if spec.agent_channel:
        channel = ET.SubElement(element, "channel", type="unix")
        ET.SubElement(channel, "target", type="virtio", name=AGENT)
    if spec.tpm_state:
        tpm = ET.SubElement(element, "tpm", model="tpm-crb")
        ET.SubElement(tpm, "backend", type="emulator", version="2.0", persistent_state="yes")
    if spec.watchdog:
        action = WATCHDOGS[spec.watchdog]
        ET.SubElement(element, "watchdog", model="i6300esb", action=action)
    for device in spec.devices:
        _device(element, device)


def _device(element: ET.Element, device: str) -> None:
    if match := _PCI.match(device):
        host = ET.SubElement(element, "hostdev", mode="subsystem", type="pci", managed="yes")
        names = ("domain", "bus", "slot", "function")
        place = {name: f"0x{part}" for name, part in zip(names, match.groups(), strict=True)}
        ET.SubElement(ET.SubElement(host, "source"), "address", place)
    elif match := _USB.match(device):
        host = ET.SubElement(element, "hostdev", mode="subsystem", type="usb", managed="yes")
        source = ET.SubElement(host, "source")
        ET.SubElement(source, "vendor", id=f"0x{match[1]}")
        ET.SubElement(source, "product", id=f"0x{match[2]}")
