"""Is this machine fit to be a host? Judged from what was found out about it; values in, lights out.

Rules:
1. Red: it cannot join, or VMs would not start, or would not be protected. Yellow: it works, less
   safely or less well than it could. Green: looked at and well. What is not known is yellow, never
   passed over.
2. Every light that is not green says what to do next.
3. Nothing is found out here: host_facts.py does that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from outlast.cli.machine import API_PORT, BEAT_PORT, CLOCK_OFF_S_MAX
from outlast.mounts import table
from outlast.mounts.options import needed
from outlast.readiness.lights import CERTIFICATE_DAYS, GREEN, RED, SOUND_CLOCKS, YELLOW, Light
from outlast.words import plural

PYTHON_MIN, LIBVIRT_MIN, QEMU_MIN, KERNEL_MIN = (3, 11), (9, 0), (7, 2), (5, 14)
MEMORY_MIB_MIN = 2048
FREE_MIB_MIN, FREE_MIB_WISHED = 64, 1024
SHARED = frozenset(
    {"nfs", "nfs4", "ocfs2", "gfs2", "ceph", "fuse.glusterfs", "fuse.ceph-fuse", "lustre", "beegfs"}
)
WATCHDOG_HINT = (
    "load the driver of this machine's watchdog, such as iTCO_wdt, ipmi_watchdog or i6300esb; "
    "'modprobe softdog nowayout=1' is better than none"
)


@dataclass(frozen=True, slots=True)
class WatchdogFacts:
    """What the kernel says of the watchdog this host uses, or would use."""

    device: str = "/dev/watchdog"
    wanted: bool = True  # False: this host joined with another way to be reset
    there: bool = False
    driver: str = ""  # of the kernel, with what the device calls itself
    armed: bool = False
    stops: bool = False  # when its user is killed: the guard refuses such a one


@dataclass(frozen=True, slots=True)
class StorageFacts:
    """The pool's directory, or what shall become one."""

    path: str
    trouble: str = ""  # it could not be looked at; the rest means nothing then
    fs_type: str = ""
    options: tuple[str, ...] = ()
    own_disk: bool = False  # it is on the machine's own root file system
    direct: str = ""  # why O_DIRECT does not work; "" = it does
    free_mib: int = 0
    clock_off_s: float | None = None  # of this machine's clock, ahead of the storage's
    silent: tuple[str, ...] = ()  # why addresses of the pool's etcd do not answer
    etcd_days: float | None = None  # until this host's certificate for it ends; None: not known


@dataclass(frozen=True, slots=True)
class HostFacts:
    """All that was found out. "" and None: not known, or not there."""

    joined: str = ""  # the host's name in its pool; "" = it is in none
    python: tuple[int, int] = (0, 0)
    kernel: tuple[int, int] = (0, 0)
    qemu: tuple[int, int] | None = None
    qemu_path: str = ""
    libvirt: tuple[int, int] | None = None
    libvirt_trouble: str = ""
    libvirt_settings: tuple[str, ...] = ()
    kvm: str = ""  # why KVM cannot be used; "" = it can
    watchdog: WatchdogFacts = field(default_factory=WatchdogFacts)
    cgroup: str = ""  # where cgroup v2 is mounted
    clock_source: str = ""
    clock_synced: bool | None = None
    confined: str = ""  # what AppArmor or SELinux would forbid; "" = nothing
    certificate_days: float | None = None
    storage: StorageFacts | None = None
    repositories: Mapping[str, str] = field(default_factory=dict)  # name -> trouble; "" = none
    memory_mib: int = 0
    var_free_mib: int = 0
    services: Mapping[str, str] = field(default_factory=dict)  # unit -> its state; {} = no systemd
    ports_taken: Mapping[str, str] = field(default_factory=dict)  # "TCP 7791" -> why
    peers: Mapping[str, str] = field(default_factory=dict)  # host -> why not reached; "" = it was


def judge(facts: HostFacts) -> list[Light]:
    """Every light of this machine, in the order in which one would set it up."""
    parts = (
        _software,
        _processor,
        _hypervisor,
        _watchdog,
        _clock,
        _storage,
        _room,
        _network,
        _pool,
    )
    return [light for part in parts for light in part(facts)]


def _software(facts: HostFacts) -> Iterator[Light]:
    yield _version("Python", facts.python, PYTHON_MIN, "a newer distribution has it")
    yield _version("kernel", facts.kernel, KERNEL_MIN, "install a newer one: the guard ends VMs "
                   "through cgroup.kill, which came with 5.14")  # fmt: skip
    if facts.cgroup:
        yield Light(GREEN, "cgroup v2", f"is mounted at {facts.cgroup}")
    else:
        yield Light(RED, "cgroup v2", "is not mounted: the guard could not end VMs for certain",
                    "boot with systemd.unified_cgroup_hierarchy=1")  # fmt: skip
    if facts.confined:
        yield Light(
            RED, "confinement", facts.confined, "outlast host prepare; with SELinux: setenforce 0"
        )


def _version(what: str, found: tuple[int, int], least: tuple[int, int], hint: str) -> Light:
    said = f"{found[0]}.{found[1]}"
    if found >= least:
        return Light(GREEN, what, said)
    return Light(RED, what, f"{said} is older than {least[0]}.{least[1]}, the oldest that will do",
                 hint)  # fmt: skip


def _processor(facts: HostFacts) -> Iterator[Light]:
    if not facts.kvm:
        yield Light(GREEN, "KVM", "can be used")
    else:
        yield Light(YELLOW, "KVM", f"{facts.kvm}: VMs would be emulated, many times slower",
                    "switch virtualisation (VT-x, AMD-V) on in the firmware; modprobe kvm_intel "
                    "or kvm_amd")  # fmt: skip


def _hypervisor(facts: HostFacts) -> Iterator[Light]:
    if facts.qemu is None:
        yield Light(RED, "QEMU", f"{facts.qemu_path} does not run",
                    "apt-get install qemu-system-x86 qemu-utils")  # fmt: skip
    else:
        yield _version("QEMU", facts.qemu, QEMU_MIN, "a newer distribution has it")
    if facts.libvirt is None:
        yield Light(RED, "libvirt", facts.libvirt_trouble or "does not answer",
                    "apt-get install libvirt-daemon-system; systemctl status libvirtd")  # fmt: skip
    else:
        yield _version("libvirt", facts.libvirt, LIBVIRT_MIN, "a newer distribution has it")
    for lacking in facts.libvirt_settings:
        yield Light(RED, "libvirt", lacking, "outlast host prepare")


def _watchdog(facts: HostFacts) -> Iterator[Light]:
    dog = facts.watchdog
    if not dog.wanted:
        yield Light(YELLOW, "watchdog", "this host joined without one: if it hangs, nothing resets "
                    "it, and its VMs wait longer", WATCHDOG_HINT + "; then join again")  # fmt: skip
    elif not dog.there:
        yield Light(YELLOW, "watchdog", f"there is no {dog.device}: a host that hangs cannot reset "
                    "itself", WATCHDOG_HINT)  # fmt: skip
    elif dog.armed and not facts.joined:
        yield Light(RED, "watchdog", f"{dog.device} ({dog.driver}) is in use by another program",
                    "systemd holds it when RuntimeWatchdogSec is set in /etc/systemd/system.conf; "
                    "wd_keepalive and watchdog are packages that do")  # fmt: skip
    elif dog.stops:
        yield Light(YELLOW, "watchdog", f"{dog.device} ({dog.driver}) would stop when the guard is "
                    "killed, so the guard does not use it", "load its driver with nowayout=1"
                    )  # fmt: skip
    elif "softdog" in dog.driver.lower() or "software" in dog.driver.lower():
        yield Light(YELLOW, "watchdog", f"{dog.device} is softdog: it shares the kernel's fate",
                    "if this machine has one of its own, load its driver instead")  # fmt: skip
    else:
        state = "armed" if dog.armed else "not armed yet: the guard does that with its first VM"
        yield Light(GREEN, "watchdog", f"{dog.device}, {dog.driver or 'driver not known'}, {state}")


def _clock(facts: HostFacts) -> Iterator[Light]:
    source = facts.clock_source
    if source in SOUND_CLOCKS:
        yield Light(GREEN, "clock", f"its source is {source}")
    else:
        yield Light(YELLOW, "clock", f"its source is '{source or 'not known'}': it may be slow or "
                    "drift", "see 'dmesg | grep clocksource' for why the kernel does not trust "
                    "its time stamp counter")  # fmt: skip
    if facts.clock_synced:
        yield Light(GREEN, "time", "is kept by a time server")
    else:
        known = "is not kept by a time server" if facts.clock_synced is False else "may be wrong"
        yield Light(YELLOW, "time", f"{known}: nothing is decided by it, but people read it",
                    "apt-get install chrony")  # fmt: skip


def _storage(facts: HostFacts) -> Iterator[Light]:
    found = facts.storage
    if found is None:
        yield Light(YELLOW, "storage", "was not looked at: this host is in no pool",
                    "say where it is mounted: outlast host check --pool /srv/pool")  # fmt: skip
        return
    if found.fs_type == "etcd":
        yield from _etcd(found)
        return
    if found.trouble:
        yield Light(RED, "storage", found.trouble, f"is it mounted? findmnt -T {found.path}")
        return
    if found.own_disk:
        yield Light(YELLOW, "storage", f"{found.path} is on this machine's own disk: no other host "
                    "sees it", "mount the shared storage there, unless the pool shall have one "
                    "host")  # fmt: skip
    elif found.fs_type in SHARED or found.fs_type.startswith("fuse."):
        yield Light(GREEN, "storage", f"{found.path} is {found.fs_type}")
    else:
        yield Light(YELLOW, "storage", f"{found.path} is {found.fs_type}: is it shared with the "
                    "other hosts?", f"outlast storage probe {found.path}, on two hosts at once"
                    )  # fmt: skip
    if found.direct:
        yield Light(RED, "storage", f"reads past the cache (O_DIRECT) fail: {found.direct}",
                    f"outlast storage probe {found.path} tells what else is missing")  # fmt: skip
    kind = found.fs_type.removesuffix("4")
    lacking = table.lacking(needed(kind), kind, found.options) if kind in {"nfs", "ocfs2"} else []
    if lacking:
        yield Light(YELLOW, "storage", f"{found.path} is mounted without {', '.join(lacking)}",
                    f"outlast storage mount {kind} SOURCE {found.path} --dry-run says why; then "
                    "mount it so")  # fmt: skip
    yield _free("storage", found.path, found.free_mib)
    for name, trouble in facts.repositories.items():
        if trouble:
            yield Light(YELLOW, "storage", f"{name}: {trouble}", "outlast storage list")
        else:
            yield Light(GREEN, "storage", f"{name} is there")
    yield from _off(found.clock_off_s)


def _etcd(found: StorageFacts) -> Iterator[Light]:
    hint = "does it run, is it reached, is the certificate good? see docs/operating/etcd.md"
    if found.trouble:
        yield Light(RED, "storage", found.trouble, hint)
        return
    for said in found.silent:
        yield Light(YELLOW, "storage", said, hint)
    if not found.silent:
        yield Light(GREEN, "storage", "every address of the pool's etcd answers")
    if found.etcd_days is not None:
        yield _certificate("this host's for etcd", found.etcd_days, "put a new one in its place")
    yield _free("storage", found.path, found.free_mib)
    yield from _off(found.clock_off_s)


def _off(off_s: float | None) -> Iterator[Light]:
    if off_s is not None and abs(off_s) > CLOCK_OFF_S_MAX:
        side = "ahead of" if off_s > 0 else "behind"
        yield Light(RED, "time", f"this machine's clock is {abs(off_s):.0f} s {side} the "
                    "storage's", "apt-get install chrony, on every host")  # fmt: skip


def _free(what: str, place: str, free_mib: int) -> Light:
    if free_mib < FREE_MIB_WISHED:
        colour = RED if free_mib < FREE_MIB_MIN else YELLOW
        return Light(colour, what, f"only {free_mib} MiB are free in {place}", "make room there")
    return Light(GREEN, what, f"{free_mib / 1024:.0f} GiB are free in {place}")


def _room(facts: HostFacts) -> Iterator[Light]:
    yield _free("disk", "/var/lib/outlast", facts.var_free_mib)
    if facts.memory_mib < MEMORY_MIB_MIN:
        yield Light(YELLOW, "memory", f"this machine has {facts.memory_mib} MiB in all",
                    "a host for VMs wants more")  # fmt: skip
    else:
        yield Light(GREEN, "memory", f"{facts.memory_mib / 1024:.0f} GiB")


def _network(facts: HostFacts) -> Iterator[Light]:
    for port, why in facts.ports_taken.items():
        yield Light(RED, "network", f"{port} cannot be used: {why}",
                    f"ss -lnp | grep -e {BEAT_PORT} -e {API_PORT}")  # fmt: skip
    for host, why in facts.peers.items():
        if why:
            yield Light(YELLOW, "network", f"the agent of {host} was not reached: {why}",
                        f"does it run, and does a firewall let TCP {API_PORT} and UDP {BEAT_PORT} "
                        "through?")  # fmt: skip
        else:
            yield Light(GREEN, "network", f"the agent of {host} can be reached")


def _pool(facts: HostFacts) -> Iterator[Light]:
    if not facts.joined:
        return
    for unit, state in facts.services.items():
        if state == "active":
            yield Light(GREEN, "services", f"{unit} runs")
        else:
            yield Light(RED, "services", f"{unit} is {state or 'not known'}",
                        f"systemctl enable --now {unit}; journalctl -u {unit}")  # fmt: skip
    days = facts.certificate_days
    if days is None:
        yield Light(RED, "certificate", "this host has none that can be read", "outlast host renew")
    else:
        yield _certificate("this host's", days, "outlast host renew")


def _certificate(whose: str, days: float, hint: str) -> Light:
    if days >= CERTIFICATE_DAYS:
        return Light(GREEN, "certificate", f"{whose} is good for {days:.0f} days")
    said = (
        f"ends in {plural(round(days), 'day')}" if days > 0 else "has ended: nobody listens to it"
    )
    return Light(YELLOW if days > 0 else RED, "certificate", f"{whose} {said}", hint)
