"""The systemd units, run by a real systemd: a host from join to a VM that outlives every restart.

The machine is a container over this one's own root folder, with its own systemd and libvirtd; what
it writes stays in the test's folder. About 40 seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outlast import __version__
from outlast.model import Block, BlockState
from outlast.rack.cgroup import Group, find_root
from outlast.storage.format import BLOCK_SIZE, decode_block

pytestmark = [pytest.mark.rack, pytest.mark.timeout(240)]

CHECKOUT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/lib/outlast/bin/python"
UNITS = ("outlast-guard", "outlast-pulse", "outlast-agent", "outlast-farewell")
NETWORK = """[Unit]
Before=outlast-pulse.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ip link set lo up
[Install]
WantedBy=multi-user.target
"""


class Machine:
    """A booted container."""

    def __init__(self, folder: Path) -> None:
        self.root, self._up = folder / "root", folder / "up"
        self._groups = [Group(find_root() / f"outlast-test-{os.getpid()}")]
        named = Path("/sys/fs/cgroup/systemd")
        if named.is_dir():  # a hybrid set-up has a tree of systemd's own besides
            self._groups.append(Group(named / f"outlast-test-{os.getpid()}"))
        for name in ("root", "up", "work"):
            (folder / name).mkdir()
        layers = f"lowerdir=/,upperdir={self._up},workdir={folder / 'work'}"
        subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", layers, str(self.root)], check=True
        )
        self._log = open(folder / "boot.log", "wb")  # noqa: SIM115 - open as long as it runs
        self._process: subprocess.Popen[bytes] | None = None

    def install(self) -> None:
        """The Debian package of this checkout, as docs/operating/install.md says."""
        for name in ("opt/outlast", "usr/local/bin/outlast"):  # of whoever owns this machine
            shutil.rmtree(self.root / name, ignore_errors=True)
            (self.root / name).unlink(missing_ok=True)
        for place in ("etc/outlast", "var/lib/outlast", "run/outlast"):
            shutil.rmtree(self.root / place, ignore_errors=True)
        build = subprocess.run(
            ["/usr/bin/python3", str(CHECKOUT / "packaging/debian/build.py"), "outlast", "gzip"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert build.returncode == 0, build.stderr
        deb = CHECKOUT / build.stdout.strip()
        shutil.copy(deb, self.root / "outlast.deb")
        self.said = self.inside("dpkg", "--force-depends", "--install", "/outlast.deb")
        system = self.root / "etc/systemd/system"
        (system / "network-up.service").write_text(NETWORK)
        wants = system / "multi-user.target.wants"
        wants.mkdir(exist_ok=True)
        for name in ("libvirtd.service", "network-up.service"):
            (wants / name).unlink(missing_ok=True)
        (wants / "network-up.service").symlink_to("../network-up.service")
        (wants / "libvirtd.service").symlink_to("/lib/systemd/system/libvirtd.service")
        (self.root / "srv/pool").mkdir(parents=True, exist_ok=True)

    def inside(self, *argv: str) -> str:
        """Run a command on its disk while it is off."""
        own = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        done = subprocess.run(
            ["chroot", str(self.root), *argv], env=own, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def boot(self) -> None:
        for group in self._groups:
            group.create()
        devices = [f"--bind={d}" for d in ("/dev/kvm", "/dev/fuse") if Path(d).exists()]
        self._process = subprocess.Popen(
            ["systemd-nspawn", "--quiet", f"--directory={self.root}", "--boot", "--keep-unit",
             f"--machine=outlast-test-{os.getpid()}", "--register=no", "--private-network",
             "--capability=all", "--console=pipe", *devices],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT,
            preexec_fn=self._enter,
        )  # fmt: skip

    def _enter(self) -> None:
        for group in self._groups:
            group.procs.write_text("0")

    @property
    def _init(self) -> int:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return int(children.split()[0])

    def run(self, *argv: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", "-t", str(self._init), "-a", "--", *argv],
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def wait(self, happened: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            with contextlib.suppress(OSError, IndexError):
                if happened():
                    return
            time.sleep(0.1)
        raise AssertionError(f"after {timeout_s:g} s: {otherwise}")

    def ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def close(self) -> None:
        if self._process is not None:
            with contextlib.suppress(OSError, IndexError):
                os.kill(self._init, signal.SIGKILL)
            self._process.kill()
            self._process.wait(30)
        self._log.close()
        for group in self._groups:
            self.wait(lambda group=group: _removed(group.path), 10, f"{group.path} is still in use")
        subprocess.run(["umount", "--lazy", str(self.root)], check=True)


def _removed(folder: Path) -> bool:
    """True when this cgroup is gone, with all below it, or never was."""
    if not folder.exists():
        return True
    for below in sorted(folder.rglob("*/"), reverse=True):
        below.rmdir()
    folder.rmdir()
    return True


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    try:
        made.install()
        made.boot()
        yield made
    finally:
        made.close()


def _said(machine: Machine, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = machine.run("outlast", *arguments, timeout_s=150)
    assert done.returncode == 0, done.stderr + machine.run("journalctl", "-n", "40").stdout
    return done


def _qemu(machine: Machine) -> int:
    """The process id of the VM's QEMU, inside; 0 without one."""
    found = machine.run("pgrep", "-f", "guest=web,").stdout.split()
    return int(found[0]) if found else 0


def test_a_host_of_real_services(machine: Machine) -> None:
    state = lambda: machine.run("systemctl", "is-system-running").stdout.strip()  # noqa: E731
    machine.wait(lambda: state() in {"running", "degraded"}, 60, "systemd did not come up")

    assert "outlast host prepare" in machine.said, "installing says what comes next"
    (site,) = machine.root.glob("usr/lib/outlast/lib/python3*/site-packages")
    assert any(site.glob("outlast/__pycache__/*")), "each start of a service would compile it all"
    assert _said(machine, "--version").stdout.strip() == f"outlast {__version__}"
    _sound_units(machine)
    assert "this machine is prepared" in _said(machine, "host", "prepare", "--yes").stdout
    assert _said(machine, "host", "prepare").stdout == "there is nothing to prepare\n"

    volume = _shared_volume(machine)
    _mounted_and_unmounted(machine, volume)
    _said(machine, "pool", "init", "/srv/pool", "--name", "prod", "--local", "--preset", "quick")
    joined = _said(machine, "host", "join", "/srv/pool", "--prepare", "--name", "a",
                   "--accelerator", "tcg",
                   "--address", "127.0.0.1")  # fmt: skip
    assert "a is a member" in joined.stdout
    for unit in UNITS:
        shown = machine.run("systemctl", "show", unit, "-p", "ActiveState", "-p", "NRestarts")
        assert shown.stdout.split() == ["NRestarts=0", "ActiveState=active"], unit
        assert machine.run("systemctl", "is-enabled", unit).stdout.strip() == "enabled"
    if Path("/dev/kvm").exists():
        told = machine.run("journalctl", "-u", "outlast-agent").stdout
        assert "there is no /dev/kvm" not in told, "the unit hides it"

    _a_repository_comes_and_goes(machine, volume)
    _said(machine, "vm", "create", "web", "--memory", "64MiB", "--disk", "16MiB", "--start")
    first = _qemu(machine)
    assert first
    kept = machine.run("dpkg", "--remove", "outlast")
    assert kept.returncode != 0 and "VMs run on this host" in kept.stderr
    _checked(machine)
    assert "/vms/web" in machine.run("cat", f"/proc/{first}/cgroup").stdout

    for unit in UNITS:  # an upgrade, one process after the other
        assert machine.run("systemctl", "restart", unit).returncode == 0
        machine.wait(lambda: _member(machine), 30, f"no member after {unit} was restarted")
        told = machine.run("outlast", "pool", "timeline").stdout
        assert _qemu(machine) == first, f"the VM noticed that {unit} was restarted: {told}"

    machine.run("kill", "-9", str(first))
    machine.wait(lambda: _qemu(machine) not in {0, first}, 30, "the VM was not restarted")

    pool = json.loads((machine.root / "srv/pool/pool.json").read_text())
    block = lambda: _block(machine, pool["uuid"])  # noqa: E731
    assert block().state is BlockState.MEMBER
    machine.run("systemctl", "poweroff")
    machine.wait(machine.ended, 60, "the machine does not shut down")
    assert block().state is BlockState.CLOSED, "it left without a word"
    _purged(machine)


def _shared_volume(machine: Machine) -> str:
    """A GlusterFS server of the machine's own, and a volume on it."""
    address = "10.99.0.1"
    for words in (
        ("ip", "addr", "add", f"{address}/32", "dev", "lo"),
        ("systemctl", "start", "glusterd"),
        ("gluster", "volume", "create", "vms", f"{address}:/brick", "force"),
        ("gluster", "volume", "start", "vms"),
    ):
        done = machine.run(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    return f"{address}:/vms"


def _mounted_and_unmounted(machine: Machine, volume: str) -> None:
    """What the pool shall live on, by a person's command; and what is in use stays."""
    words = ("storage", "mount", "glusterfs", volume, "/srv/shared")
    assert "Type=glusterfs" in _said(machine, *words, "--dry-run").stdout
    assert not machine.run("findmnt", "/srv/shared").stdout
    assert "is mounted at /srv/shared\n" in _said(machine, *words).stdout
    assert "was mounted at /srv/shared already" in _said(machine, *words).stdout
    assert "fuse.glusterfs" in machine.run("findmnt", "/srv/shared").stdout
    enabled = machine.run("systemctl", "is-enabled", "srv-shared.mount").stdout.strip()
    assert enabled == "enabled", "a boot would not mount it"
    assert "'tolerant'" in _said(machine, "storage", "probe", "/srv/shared").stdout
    assert machine.run("systemctl", "stop", "srv-shared.mount").returncode == 0
    again = "from outlast.mounts.systemd import Mounts; print(Mounts().again('/srv/shared/pool'))"
    assert machine.run(PYTHON, "-c", again).stdout == "True\n", "as after a boot without its server"
    machine.wait(lambda: machine.run("findmnt", "/srv/shared").stdout, 30, "it is not mounted")
    assert machine.run(PYTHON, "-c", again).stdout == "False\n"
    holds = ("systemd-run", "--unit=holds", "sleep", "infinity", "--working-directory=/srv/shared")
    assert machine.run(*holds[:2], holds[-1], *holds[2:4]).returncode == 0
    used = machine.run("outlast", "storage", "unmount", "/srv/shared")
    assert used.returncode == 4 and "in use by sleep" in used.stderr
    machine.run("systemctl", "stop", "holds")
    _said(machine, "storage", "unmount", "/srv/shared")
    assert not machine.run("findmnt", "/srv/shared").stdout


def _a_repository_comes_and_goes(machine: Machine, volume: str) -> None:
    """The agent, hardened as its unit is, has the pool's further storage mounted by systemd."""
    _said(machine, "storage", "add", "fast", "glusterfs", volume)
    listed = lambda: machine.run("outlast", "storage", "list").stdout  # noqa: E731
    machine.wait(lambda: listed().endswith(": there\n"), 30, "the agent does not mount it")
    answered = machine.root / "srv/fast/.outlast/a"
    machine.wait(lambda: machine.run("test", "-s", "/srv/fast/.outlast/a").returncode == 0, 15,
                 f"the agent does not ask it: {answered}")  # fmt: skip
    _said(machine, "storage", "remove", "fast")
    machine.wait(lambda: not machine.run("findmnt", "/srv/fast").stdout, 30, "it stays mounted")


def _purged(machine: Machine) -> None:
    """What the host kept of its pool is gone, and no storage, wherever somebody mounted it."""
    storage = machine.root / "var/lib/outlast/nas"
    storage.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "nas", str(storage)], check=True)
    (storage / "disk.raw").touch()
    machine.inside("dpkg", "--purge", "outlast")
    assert [path.name for path in (machine.root / "var/lib/outlast").iterdir()] == ["nas"]
    assert (storage / "disk.raw").exists() and (machine.root / "srv/pool/pool.json").exists()
    assert not (machine.root / "etc/outlast").exists()


def _sound_units(machine: Machine) -> None:
    """systemd finds nothing to say against them; what they could do: test_units.py."""
    names = [f"{unit}.service" for unit in UNITS]
    told = machine.run("systemd-analyze", "verify", *names)
    ours = [line for line in (told.stdout + told.stderr).splitlines() if "outlast" in line]
    assert (told.returncode, ours) == (0, [])


def _checked(machine: Machine) -> None:
    """`host check` on a host that is at work."""
    told = json.loads(machine.run("outlast", "host", "check", "--json").stdout)
    reasons = {(light["what"], light["colour"]) for light in told["reasons"]}
    assert {("services", "green"), ("certificate", "green"), ("libvirt", "green")} <= reasons
    assert {what for what, colour in reasons if colour == "red"} <= {"memory", "disk"}


def _block(machine: Machine, pool_uuid: str) -> Block:
    """What the host says of itself on the pool's storage."""
    raw = (machine.root / "srv/pool/hb").read_bytes()
    return decode_block(raw[BLOCK_SIZE : 2 * BLOCK_SIZE], pool_uuid, 1)


def _member(machine: Machine) -> bool:
    said = machine.run("outlast", "status", "--json").stdout
    return bool(said) and any(h["state"] == "member" for h in json.loads(said)["hosts"])
