"""What there is to know about this machine before it joins a pool, and after. Changes nothing.

Rules:
1. A question that cannot be answered is answered by "not known", in words; none raises, and none
   waits longer than LIMIT_S, whatever hangs: a dead NFS server, a libvirtd that does not answer.
2. What is looked at lies below `root`, so that a test may build a machine of files.
3. The clock of the storage is compared by one small file in the pool's tmp, made and removed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from outlast.cli import machine
from outlast.cli.host_lights import HostFacts, StorageFacts, WatchdogFacts
from outlast.cli.storage_facts import LIMIT_S, free_mib, quietly, repositories, storage, within
from outlast.equipment import Repository
from outlast.storage.access import open_register
from outlast.storage.format import slot_from
from outlast.storage.register import Register
from outlast.wire import seal

T = TypeVar("T")

REACH_S = 2.0
NOT_SYNCED = 5  # of adjtimex: TIME_ERROR
TIMEX_BYTES = 256  # its struct timex is smaller everywhere
MAGICCLOSE = 0x0100  # of a watchdog's options
QEMU = "/usr/bin/qemu-system-x86_64"


def look(host_file: Mapping[str, Any], pool_dir: Path | None, root: Path = Path("/")) -> HostFacts:
    """Everything; host_file: {} when this machine is in no pool. Never raises."""
    qemu = str(host_file.get("qemu") or QEMU)
    libvirt, libvirt_trouble = libvirt_version(str(host_file.get("libvirt_uri", "qemu:///system")))
    facts = HostFacts(
        joined=str(host_file.get("host", "")),
        python=sys.version_info[:2],
        kernel=_pair(platform.release()) or (0, 0),
        qemu=qemu_version(qemu),
        qemu_path=qemu,
        libvirt=libvirt,
        libvirt_trouble=libvirt_trouble,
        libvirt_settings=tuple(machine.libvirt_settings(root / machine.QEMU_CONF)),
        kvm=kvm_trouble(root),
        watchdog=watchdog(host_file, root),
        cgroup=cgroup_mount(root),
        clock_source=_text(
            root / "sys/devices/system/clocksource/clocksource0/current_clocksource"
        ),
        clock_synced=clock_synced(),
        confined=confined(root),
        memory_mib=memory_mib(root),
        var_free_mib=free_mib(root / "var/lib"),
        ports_taken=ports_taken() if not host_file else {},
    )
    if host_file:
        facts = replace(
            facts, services=services(root), certificate_days=quietly(certificate_days, None)
        )
    if pool_dir is None:
        return facts
    found = within(LIMIT_S, lambda: storage(pool_dir), None)
    if found is None:
        trouble = f"{pool_dir} did not answer within {LIMIT_S:g} s"
        return replace(facts, storage=StorageFacts(str(pool_dir), trouble))
    if found.trouble or not (pool_dir / "pool.json").exists():
        return replace(facts, storage=found)
    own = str(host_file.get("host", ""))

    def register() -> Register:
        return open_register(pool_dir, "check")

    more: list[tuple[Repository, str]] = within(LIMIT_S, lambda: repositories(register()), [])
    return replace(
        facts, storage=found, repositories={one.name: trouble for one, trouble in more},
        peers=within(LIMIT_S, lambda: reach(register(), own), {}),
    )  # fmt: skip


def _text(path: Path) -> str:
    return quietly(lambda: path.read_text(encoding="utf-8", errors="replace").strip(), "")


def _pair(text: str) -> tuple[int, int] | None:
    match = re.search(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


# ---- the machine


def qemu_version(path: str) -> tuple[int, int] | None:
    """None: it does not run."""
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else _pair(done.stdout)


def libvirt_version(uri: str) -> tuple[tuple[int, int] | None, str]:
    """Of the daemon, and why there is none."""
    said: list[str] = []

    def ask() -> int:
        import libvirt

        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        try:
            conn = libvirt.openReadOnly(uri)
        except libvirt.libvirtError as error:
            said.append(f"libvirt at {uri}: {error}")
            raise ValueError from error
        try:
            return int(conn.getLibVersion())
        finally:
            conn.close()

    number = within(LIMIT_S, ask, 0)
    if not number:
        return None, said[0] if said else f"{uri} did not answer within {LIMIT_S:g} s"
    return (number // 1_000_000, number // 1000 % 1000), ""


def kvm_trouble(root: Path) -> str:
    """Why KVM cannot be used; "" = it can, as far as can be seen without trying."""
    device = root / "dev/kvm"
    if not device.exists():
        flags = _text(root / "proc/cpuinfo")
        if not re.search(r"\b(vmx|svm)\b", flags):
            return "this processor does not offer virtualisation"
        return "there is no /dev/kvm"
    if not os.access(device, os.R_OK | os.W_OK):
        return "/dev/kvm may not be used by this user"
    kept = _text(root / "var/lib/outlast/accelerator.json")  # the agent tried it at this boot
    boot = _text(root / "proc/sys/kernel/random/boot_id")
    if boot and boot in kept and '"name": "tcg"' in kept:
        why = re.search(r'"why": "([^"]*)"', kept)
        return why[1] if why else "a test system did not boot under it"
    return ""


def watchdog(host_file: Mapping[str, Any], root: Path) -> WatchdogFacts:
    """What the kernel says; the device itself is never opened, for that would arm it."""
    device = str(host_file.get("watchdog_device", "/dev/watchdog"))
    wanted = host_file.get("reset", "watchdog") == "watchdog"
    if device.startswith("testing:"):
        there = Path(device.removeprefix("testing:")).exists()
        return WatchdogFacts(device, wanted, there, "a pretend one", there)
    place = root / device.lstrip("/")
    if not place.exists():
        return WatchdogFacts(device, wanted)
    name = place.resolve().name
    known = root / "sys/class/watchdog" / ("watchdog0" if name == "watchdog" else name)
    module = known / "device/driver"
    driver = module.resolve().name if module.exists() else ""
    identity = _text(known / "identity")
    return WatchdogFacts(
        device, wanted, True, ", ".join(part for part in (identity, driver) if part),
        _text(known / "state") == "active", _stops(known),
    )  # fmt: skip


def _stops(known: Path) -> bool:
    """True when it has neither a magic close nor nowayout, as far as the kernel says."""
    try:
        options = int(_text(known / "options"), 16)
    except ValueError:
        return False
    return not options & MAGICCLOSE and _text(known / "nowayout") != "1"


def cgroup_mount(root: Path) -> str:
    for line in _text(root / "proc/self/mounts").splitlines():
        fields = line.split()
        if len(fields) > 2 and fields[2] == "cgroup2":
            return fields[1]
    return ""


def clock_synced() -> bool | None:
    """Whether the kernel's clock is disciplined by anybody; None: it does not say."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        answer = libc.adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else bool(answer != NOT_SYNCED)


def confined(root: Path) -> str:
    """What a security module would forbid that VMs need; "" = nothing."""
    if _text(root / "sys/fs/selinux/enforce") == "1":
        return "SELinux enforces its rules, and has none for the guard's wrapper around QEMU"
    profiles = _text(root / "sys/kernel/security/apparmor/profiles")
    enforced = re.search(r"^(?:libvirtd|/usr/sbin/libvirtd) \(enforce\)", profiles, re.MULTILINE)
    if not enforced:
        return ""
    local = _text(root / "etc/apparmor.d/local/usr.sbin.libvirtd")
    if re.search(r"^\s*/var/lib/outlast/qemu\s+\S*x", local, re.MULTILINE):
        return ""
    return "AppArmor does not let libvirtd start /var/lib/outlast/qemu, the guard's wrapper"


def memory_mib(root: Path) -> int:
    match = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    return int(match[1]) // 1024 if match else 0


def services(root: Path) -> dict[str, str]:
    """Each unit's state; {} where no systemd runs."""
    if not (root / "run/systemd/system").is_dir():
        return {}
    done = subprocess.run(
        ["systemctl", "is-active", *machine.SERVICES], capture_output=True, text=True, check=False
    )
    return dict(zip(machine.SERVICES, done.stdout.split(), strict=False))


# ---- network


def ports_taken() -> dict[str, str]:
    """The ports a host needs that another program holds."""
    wanted = (
        (f"UDP {machine.BEAT_PORT}", socket.SOCK_DGRAM, machine.BEAT_PORT),
        (f"TCP {machine.API_PORT}", socket.SOCK_STREAM, machine.API_PORT),
    )
    found = {}
    for what, kind, port in wanted:
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind is socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))  # noqa: S104 - to see whether anybody has it
            except OSError as error:
                in_use = error.errno == errno.EADDRINUSE
                found[what] = "another program has it" if in_use else str(error.strerror)
    return found


def reach(register: Register, own: str) -> dict[str, str]:
    """Each other host of the pool, and why its agent was not reached; "" = it was."""
    addresses = {}
    for name in register.names("slot"):
        _, value = register.read(name)
        record = slot_from(value) if value is not None else None
        if record is not None and record.active and record.host != own and record.api:
            addresses[record.host] = record.api
    found: dict[str, str] = {}
    threads = [
        threading.Thread(
            target=lambda h=host, a=api: found.__setitem__(h, _connect(a)), daemon=True
        )
        for host, api in addresses.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(REACH_S + 1)
    return {host: found.get(host, "no answer") for host in sorted(addresses)}


def _connect(api: str) -> str:
    host, _, port = api.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S):
            return ""
    except (OSError, ValueError) as error:
        return f"{api}: {getattr(error, 'strerror', None) or error}"


def certificate_days() -> float | None:
    """Until this host's certificate ends; None when there is none that can be read."""
    path = Path(os.environ.get("OUTLAST_ETC") or "/etc/outlast") / "pki/cert.pem"
    return seal.days_of(path, time.time())
