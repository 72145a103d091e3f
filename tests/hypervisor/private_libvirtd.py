"""A libvirtd of its own in namespaces of its own, started in well under two seconds.

`PrivateLibvirtd(home)` must be root and finds libvirtd and QEMU installed. The test stays outside:
it talks to the daemon through the socket below `root`, and sees its processes through `root`/proc.
Nothing of the machine's own libvirt (sockets, configuration, domains) is used or changed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

UNSHARE = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
QEMU_CONF = """\
security_driver = "none"
user = "root"
group = "root"
swtpm_user = "root"
swtpm_group = "root"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""
LIBVIRTD_CONF = """\
auth_unix_rw = "none"
auth_unix_ro = "none"
keepalive_interval = 2
keepalive_count = 3
"""


def why_not() -> str:
    """Why such a daemon cannot run on this machine, "" if it can."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("libvirtd", "qemu-system-x86_64", "unshare", "ip"):
        if shutil.which(program) is None:
            return f"needs {program}"
    return ""


class PrivateLibvirtd:
    def __init__(self, home: Path) -> None:
        self.home = home
        for name in ("etc", "lib", "log", "cache", "run/libvirt", "run/lock"):
            (home / name).mkdir(parents=True)
        (home / "etc/qemu.conf").write_text(QEMU_CONF)
        (home / "etc/libvirtd.conf").write_text(LIBVIRTD_CONF)
        init = Path(__file__).with_name("private_init.py")
        self._init = subprocess.Popen(
            [*UNSHARE, sys.executable, "-I", "-S", str(init), str(home)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(home / "init.err").open("wb"),
        )  # fmt: skip
        if self._answer() != "ready":
            raise RuntimeError(f"no namespaces: {(home / 'init.err').read_text()}")
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text()
        self.pid = int(children.split()[0])  # PID 1 of the namespace, as seen from here
        self.root = Path(f"/proc/{self.pid}/root")
        self.socket = self.root / "run/libvirt/libvirt-sock"
        self.uri = f"qemu:///system?socket={self.socket}"
        self.start()

    def _answer(self) -> str:
        assert self._init.stdout is not None
        return self._init.stdout.readline().decode().strip()

    def _order(self, word: str) -> None:
        assert self._init.stdin is not None
        self._init.stdin.write(word.encode() + b"\n")
        self._init.stdin.flush()

    def start(self) -> None:
        """Start the daemon and wait until its socket is there."""
        self.socket.unlink(missing_ok=True)
        self._order("start")
        deadline = time.monotonic() + 20
        while not self.socket.exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"libvirtd: {(self.home / 'libvirtd.out').read_text()}")
            time.sleep(0.005)

    def crash(self) -> None:
        """kill -9 of the daemon; its VMs go on."""
        self._order("kill")
        assert self._answer() == "killed"

    def daemon_pid(self) -> int:
        """The daemon's pid as seen from here."""
        inner = int((self.root / "run/libvirtd.pid").read_text())
        return self.outer_pid(inner)

    def outer_pid(self, inner: int) -> int:
        """Translate a pid of the namespace."""
        space = Path(f"/proc/{self.pid}/ns/pid").readlink()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if (entry / "ns/pid").readlink() != space:
                    continue
                status = (entry / "status").read_text()
            except OSError:
                continue
            line = next(part for part in status.splitlines() if part.startswith("NSpid:"))
            if int(line.split()[-1]) == inner:
                return int(entry.name)
        raise ProcessLookupError(inner)

    def inside(self, *argv: str) -> str:
        """Run a command in the namespaces of the daemon."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", *argv],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout

    def close(self) -> None:
        """End PID 1 of the namespace; the kernel ends everything else in it."""
        assert self._init.stdin is not None and self._init.stdout is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._init.stdin.close()
        self._init.wait(20)
        self._init.stdout.close()
