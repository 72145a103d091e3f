"""What the command line has to find out about this machine: names, addresses, clock, services.

Nothing here changes anything, except `start_services`, which is what it says.
"""

from __future__ import annotations

import fcntl
import ipaddress
import re
import secrets
import socket
import struct
import subprocess
import uuid
from pathlib import Path

from outlast.errors import InvalidInput, OutlastError, StorageTrouble
from outlast.storage.etcd import Etcd
from outlast.storage.etcd_access import read_access
from outlast.storage.names import check_name

BEAT_PORT, API_PORT = 7790, 7791
CLOCK_OFF_S_MAX = 30.0
SERVICES = ("outlast-guard", "outlast-pulse", "outlast-agent", "outlast-farewell")
QEMU_CONF = Path("etc/libvirt/qemu.conf")
LIBVIRT_WANTED = {"user": '"root"', "cgroup_controllers": "[]", "security_driver": '"none"'}
LIBVIRT_FOR_TPMS = {"swtpm_user": '"root"', "swtpm_group": '"root"'}  # their state is in the pool
_SIOCGIFADDR = 0x8915


def host_name(given: str) -> str:
    """The name given, else the first part of the machine's own. Raises InvalidInput."""
    if given:
        return check_name(given, "host name")
    own = socket.gethostname().partition(".")[0].lower()
    try:
        return check_name(own, "host name")
    except InvalidInput as error:
        raise InvalidInput(error.sentence, hint="choose one with --name") from None


def host_uuid(var: Path) -> str:
    """This machine's id; where it has none, one is made once and kept in `var`."""
    try:
        text = Path("/etc/machine-id").read_text(encoding="ascii").strip()
        if re.fullmatch(r"[0-9a-f]{32}", text) and text.strip("0"):
            return str(uuid.UUID(text))
    except (OSError, ValueError):
        pass
    kept = var / "host-uuid"
    try:
        return str(uuid.UUID(kept.read_text(encoding="ascii").strip()))
    except (OSError, ValueError):
        pass
    made = str(uuid.uuid4())
    try:
        var.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept.write_text(made + "\n", encoding="ascii")
    except OSError as error:
        raise StorageTrouble(f"{kept}: {error.strerror or error}", hint="run it as root") from error
    return made


def default_address() -> str:
    """The address of the interface with the default route. Raises InvalidInput without one."""
    try:
        routes = Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        routes = []
    for line in routes:
        fields = line.split()
        if len(fields) > 7 and fields[1] == "00000000" and fields[7] == "00000000":
            name = fields[0].encode()[:15]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                try:
                    packed = struct.pack("256s", name)
                    answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, packed)
                except OSError:
                    continue
            return socket.inet_ntoa(answer[20:24])
    raise InvalidInput(
        "this machine has no default route, so its address is not known",
        hint="say it with --address 10.0.0.5; repeat it for a second network",
    )


def check_address(text: str, port: int) -> str:
    """ip:port of an address of this machine, the port added where it is missing.

    Raises InvalidInput when it is none, or not this machine's.
    """
    host, given = text, str(port)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        given = rest.removeprefix(":") or given
    elif text.count(":") == 1:
        host, _, given = text.partition(":")
    try:
        ip = ipaddress.ip_address(host)
        number = int(given)
        if not 0 < number < 65536:
            raise ValueError
    except ValueError:
        raise InvalidInput(
            f"{text[:60]!r} is not an address", hint="like 10.0.0.5 or 10.0.0.5:7790"
        ) from None
    if ip.is_unspecified or ip.is_multicast:
        raise InvalidInput(f"{text} is not an address that others can reach")
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(ip), 0))
        except OSError as error:
            raise InvalidInput(
                f"{ip} is not an address of this machine ({error.strerror})",
                hint="'ip address' lists them",
            ) from None
    return f"{ip}:{number}" if ip.version == 4 else f"[{ip}]:{number}"


def clock_off(pool_dir: Path, now_s: float) -> float:
    """How far the wall clock is off the storage's, in seconds (positive: ahead).

    Raises StorageTrouble.
    """
    access = read_access(pool_dir)
    return now_s - (Etcd(access).clock_s() if access else _clock_of_files(pool_dir / "tmp"))


def _clock_of_files(folder: Path) -> float:
    """A file is made in `folder` and removed again. Raises StorageTrouble."""
    probe = folder / f"clock-{secrets.token_hex(6)}"
    try:
        try:
            probe.touch(mode=0o600, exist_ok=False)
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise StorageTrouble(
            f"the pool's storage cannot be written: {error.strerror or error} ({folder})",
            hint="is it mounted for writing, with rights for root, and not full?",
        ) from error


def check_clock(pool_dir: Path, now_s: float) -> float:
    """The same; raises InvalidInput above 30 s, StorageTrouble."""
    off_s = clock_off(pool_dir, now_s)
    if abs(off_s) > CLOCK_OFF_S_MAX:
        side = "ahead of" if off_s > 0 else "behind"
        raise InvalidInput(
            f"this machine's clock is {abs(off_s):.0f} s {side} the storage's",
            hint="set up time synchronisation (chrony or systemd-timesyncd) on all hosts",
        )
    return off_s


def libvirt_settings(path: Path = Path("/") / QEMU_CONF) -> list[str]:
    """What libvirt's qemu.conf must say for the guard to see every VM, and does not.

    QEMU starts through the guard's wrapper: as root, because the guard speaks to root alone; in the
    guard's control group, so libvirt must not move it out of there; unconfined, because no
    profile knows the wrapper.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [f"{path} cannot be read; is libvirt installed?"]
    said = dict(re.findall(r"^\s*([a-z_]+)\s*=\s*(.+?)\s*(?:#.*)?$", text, re.MULTILINE))
    return [
        f"set {name} = {value} in {path} and restart libvirtd, or VMs will not start here"
        for name, value in LIBVIRT_WANTED.items()
        if said.get(name, "").replace(" ", "") != value
    ]


def start_services() -> str:
    """Enable and start the three services where systemd runs; "" when that was done, else why not.

    Raises OutlastError when systemd refuses.
    """
    if not Path("/run/systemd/system").is_dir():
        return "systemd does not run here; start guard, pulse and agent another way"
    units = [f"{name}.service" for name in SERVICES]
    known = subprocess.run(["systemctl", "cat", *units], capture_output=True, check=False)
    if known.returncode:
        return "its systemd units are not installed; see packaging/systemd"
    done = subprocess.run(
        ["systemctl", "enable", "--now", *units], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise OutlastError(
            f"the services did not start: {lines[-1]}",
            hint="the host has joined; see 'systemctl status " + " ".join(SERVICES) + "'",
        )
    return ""
