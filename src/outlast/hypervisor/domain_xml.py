"""A VM's definition as libvirt XML: a pure function of the definition and this host's options.

Rules:
1. Domains are transient and never come back by themselves: on_crash and on_poweroff destroy; only a
   reboot from inside goes on in the same process.
2. Disks bypass the host's page cache (cache='none') and stop the VM on an error, so that no write
   that was acknowledged is ever lost and a sick storage is seen.
3. The emulator is whatever the host's options say (on a pool host the guard's wrapper).
4. The first serial port is a pty, so that the console works; with `serial_log` libvirt also appends
   all output to that file.
5. The same VM has the same XML everywhere except for the host's options; MAC addresses come from
   its uuid and survive each restart.
6. A metadata element tells the pool's VMs from others (`NAMESPACE`).

Not here: whether files or bridges exist; libvirt and QEMU say that when the VM starts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from outlast.errors import InvalidInput
from outlast.hypervisor import hardware_xml
from outlast.model import Disk, VmSpec

NAMESPACE = "urn:outlast:vm:1"
ET.register_namespace("outlast", NAMESPACE)

TARGETS = {"virtio": "vd", "sata": "sd", "scsi": "sd", "ide": "hd"}
FORMATS = ("raw", "qcow2")
SMALL_MIB = 64  # below this the emulation's code cache must be small as well
# libvirt's word for a kind of disk, and how it names one
_SOURCES: Mapping[str, tuple[str, Callable[[str], dict[str, str]]]] = {
    "file": ("file", lambda path: {"file": path}),
    "block": ("block", lambda path: {"dev": path}),
    "rbd": ("network", lambda path: {"protocol": "rbd", "name": path.removeprefix("rbd:")}),
}
# the user that VMs are to Ceph, and the name of its key in libvirt (libvirt_ceph.py)
CEPH_USER, CEPH_SECRET = "outlast", "5c6b4a6a-0c3e-5c50-8a3b-6f75746c6173"
MACHINE_TYPES = {"kvm": "kvm", "tcg": "qemu"}


@dataclass(frozen=True, slots=True)
class DomainOptions:
    """What depends on the host and not on the VM."""

    accelerator: str = "tcg"  # kvm | tcg
    emulator: str = "/usr/bin/qemu-system-x86_64"
    # graphics on a unix socket: a path with {name}, "auto" = a place libvirt chooses and makes
    # usable for an unprivileged QEMU, "" = no VM has graphics
    vnc_socket: str = ""
    pool: str = ""  # uuid of the pool, for people who look at the XML
    cpu: str = ""  # the <cpu> element that VMs see; "" = the host's own
    ceph_key: bool = False  # libvirt knows the key of CEPH_USER


def domain_xml(spec: VmSpec, options: DomainOptions) -> str:
    """The libvirt domain of a VM.

    Raises InvalidInput for what no host could run.
    """
    _check(spec, options)
    domain = ET.Element("domain", type=MACHINE_TYPES[options.accelerator])
    _text(domain, "name", spec.name)
    _text(domain, "uuid", spec.uuid)
    mark = ET.SubElement(ET.SubElement(domain, "metadata"), f"{{{NAMESPACE}}}vm", name=spec.name)
    if options.pool:
        mark.set("pool", options.pool)
    hardware_xml.memory(domain, spec)
    _text(domain, "memory", str(spec.memory_mib), unit="MiB")
    most = spec.vcpus_max or spec.vcpus
    now = {"current": str(spec.vcpus)} if most != spec.vcpus else {}
    _text(domain, "vcpu", str(most), **now)
    _boot(domain, spec)
    _processor(domain, spec, options)
    for cause, action in (
        ("on_poweroff", "destroy"),
        ("on_reboot", "restart"),
        ("on_crash", "destroy"),
    ):
        _text(domain, cause, action)
    _devices(ET.SubElement(domain, "devices"), spec, options)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def mac_address(uuid: str, index: int) -> str:
    """The MAC address of a VM's network card number `index` (from 0)."""
    digest = hashlib.sha256(f"{uuid.lower()}/{index}".encode()).digest()
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])


def _check(spec: VmSpec, options: DomainOptions) -> None:
    buses = [disk.bus for disk in spec.disks]
    rules = (
        (options.accelerator in MACHINE_TYPES,
         f"there is no accelerator '{options.accelerator}'", "kvm or tcg"),
        (spec.memory_mib > 0, f"a VM needs memory, not {spec.memory_mib} MiB", ""),
        (spec.vcpus > 0, f"a VM needs a processor, not {spec.vcpus}", ""),
        (set(buses) <= set(TARGETS), f"a disk bus in {buses} is unknown",
         "one of: " + ", ".join(TARGETS)),
        (all(disk.format in FORMATS for disk in spec.disks), "a disk format is unknown",
         "one of: " + ", ".join(FORMATS)),
        (all(disk.path.startswith("/") or disk.kind == "rbd" for disk in spec.disks),
         "a disk's path must begin with /", ""),
        (len(spec.disks) <= 26, f"{len(spec.disks)} disks are too many", "at most 26"),
    )  # fmt: skip
    for holds, sentence, hint in (*rules, *hardware_xml.rules(spec)):
        if not holds:
            raise InvalidInput(f"VM '{spec.name}': {sentence}", hint=hint)


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _boot(domain: ET.Element, spec: VmSpec) -> None:
    system = ET.SubElement(domain, "os")
    _text(system, "type", "hvm", arch="x86_64", machine=spec.machine)
    hardware_xml.firmware(system, spec)
    if not spec.kernel:
        ET.SubElement(system, "boot", dev="hd")
        return
    for tag, value in (
        ("kernel", spec.kernel),
        ("initrd", spec.initrd),
        ("cmdline", spec.cmdline),
    ):
        if value:
            _text(system, tag, value)


def _processor(domain: ET.Element, spec: VmSpec, options: DomainOptions) -> None:
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    hardware_xml.features(features, spec)
    if options.accelerator == "tcg":
        # QEMU would reserve up to 1 GiB for translated code, whatever the size of the VM
        cache_mib = 8 if spec.memory_mib < SMALL_MIB else 64
        _text(ET.SubElement(features, "tcg"), "tb-cache", str(cache_mib), unit="MiB")
    if spec.cpu:
        cpu = hardware_xml.passed_through(options.accelerator)
    elif options.cpu:
        cpu = ET.fromstring(options.cpu)  # noqa: S314 - the hypervisor's own words
    elif options.accelerator == "kvm":
        cpu = ET.Element("cpu", mode="host-model")
    else:
        cpu = ET.Element("cpu", mode="custom", match="exact")
        _text(cpu, "model", "qemu64")
    hardware_xml.cells(cpu, spec)
    domain.append(cpu)
    ET.SubElement(domain, "clock", offset="utc")


def _devices(devices: ET.Element, spec: VmSpec, options: DomainOptions) -> None:
    _text(devices, "emulator", options.emulator)
    seen: dict[str, int] = {}
    for disk in spec.disks:
        letters = TARGETS[disk.bus]
        seen[letters] = seen.get(letters, -1) + 1
        _disk(devices, disk, letters + chr(ord("a") + seen[letters]), options)
    usb = any(device.startswith("usb:") for device in spec.devices)
    ET.SubElement(devices, "controller", type="usb", model="qemu-xhci" if usb else "none")
    if any(disk.bus == "scsi" for disk in spec.disks):
        ET.SubElement(devices, "controller", type="scsi", model="virtio-scsi")
    for index, bridge in enumerate(spec.networks):
        card = ET.SubElement(devices, "interface", type="bridge")
        ET.SubElement(card, "mac", address=mac_address(spec.uuid, index))
        ET.SubElement(card, "source", bridge=bridge)
        ET.SubElement(card, "model", type="virtio")
    serial = ET.SubElement(devices, "serial", type="pty")
    if spec.serial_log:
        ET.SubElement(serial, "log", file=spec.serial_log, append="on")
    ET.SubElement(serial, "target", port="0")
    if options.vnc_socket and spec.graphics == "vnc":
        graphics = ET.SubElement(devices, "graphics", type="vnc")
        if options.vnc_socket == "auto":
            ET.SubElement(graphics, "listen", type="socket")
        else:
            graphics.set("socket", options.vnc_socket.replace("{name}", spec.name))
        ET.SubElement(ET.SubElement(devices, "video"), "model", type="vga", vram="16384")
        # its pointer is where the viewer's is
        ET.SubElement(devices, "input", type="tablet", bus="virtio")
    hardware_xml.devices(devices, spec)
    # memory is promised in full; a balloon would only blur that
    ET.SubElement(devices, "memballoon", model="none")


def _disk(devices: ET.Element, disk: Disk, target: str, options: DomainOptions) -> None:
    kind, source = _SOURCES[disk.kind]
    element = ET.SubElement(devices, "disk", type=kind, device="disk")
    ET.SubElement(
        element, "driver", name="qemu", type=disk.format, cache="none", io="threads",
        error_policy="stop", rerror_policy="stop",
    )  # fmt: skip
    place = ET.SubElement(element, "source", source(disk.path))
    if disk.kind == "rbd" and options.ceph_key:
        auth = ET.SubElement(place, "auth", username=CEPH_USER)
        ET.SubElement(auth, "secret", type="ceph", uuid=CEPH_SECRET)
    ET.SubElement(element, "target", dev=target, bus=disk.bus)
