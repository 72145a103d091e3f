"""One machine of the lab: QEMU without KVM, a distribution's kernel, its own layer above the root.

Rules:
1. `kill` is a power cut: QEMU gets SIGKILL, and what it had not written is gone. `start` after it
   finds the disk as it was left. `cut` unplugs the network cable and nothing else.
2. The chipset's watchdog is armed: a machine that opens it and does not pet it is reset.
3. Only processes that were started here are ended, by their handle.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from lab.channel import CommandFailed, Done, GuestAgent, Monitor
from lab.root import Root
from outlast.errors import TimedOut, Unreachable

BOOT_S, LIMIT_S = 600.0, 600.0
# HPET: what a TSC of a translated processor is worth is guessed at boot, on a busy machine badly
KERNEL_WORDS = (
    "console=ttyS0 root=/dev/vda rw net.ifnames=0 ipv6.disable=1 mitigations=off audit=0 quiet "
    "no_timer_check clocksource=hpet tsc=unstable panic=5 "
    "systemd.mask=systemd-journal-flush.service systemd.getty_auto=no"
)

CPU = "qemu64,-svm,+ssse3,+sse4.1,+sse4.2,+popcnt"  # Ceph takes SSSE3 for granted


class Machine:
    """`given`: a folder of this machine that it sees, read-only, as /mnt/lab."""

    def __init__(
        self, name: str, number: int, root: Root, folder: Path, given: Path, port: int,
        memory_mib: int,
    ) -> None:  # fmt: skip
        self.name, self.address = name, f"10.77.0.{number}"
        self._number, self._root, self._given, self._port = number, root, given, port
        self._memory_mib = memory_mib
        self._folder = folder / name
        self._folder.mkdir()
        self._qemu: subprocess.Popen[bytes] | None = None
        self._agent = GuestAgent(self._folder / "agent")
        self._monitor = Monitor(self._folder / "monitor")
        self.console = self._folder / "console"
        layer = ("-f", "qcow2", "-F", "raw", "-b", str(root.image), str(self._disk("root")))
        self._quietly("qemu-img", "create", "-q", *layer)
        self._disks = [self._disk("root")]

    def add_disk(self, name: str, size: str) -> None:
        """One more, before it is started: /dev/vdb and so on."""
        self._quietly("qemu-img", "create", "-q", "-f", "qcow2", str(self._disk(name)), size)
        self._disks.append(self._disk(name))

    # ---- power and cable

    def start(self) -> None:
        assert self._qemu is None
        self._agent.close()
        self._monitor.close()
        with (self._folder / "qemu.log").open("ab") as log:
            # a session of its own: a kernel that is fair to sessions is fair to each machine then
            self._qemu = subprocess.Popen(
                self._argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """A power cut."""
        if self._qemu is not None:
            self._qemu.send_signal(signal.SIGKILL)
            self._qemu.wait()
        self._qemu = None

    def cut(self, away: bool) -> None:
        """The cable of its network. Raises Unreachable."""
        self._monitor.say({"execute": "set_link", "arguments": {"name": "net", "up": not away}})

    def wait_up(self, limit_s: float = BOOT_S) -> None:
        """Raises TimedOut."""
        until = time.monotonic() + limit_s
        while not self._agent.there():
            if self._qemu is not None and self._qemu.poll() is not None:
                log = (self._folder / "qemu.log").read_text()[-300:]
                raise Unreachable(f"the QEMU of {self.name} has ended: {log}")
            if time.monotonic() > until:
                raise TimedOut(f"{self.name} has not booted after {limit_s:g} s",
                               hint=f"see {self.console}")  # fmt: skip
            time.sleep(0.5)

    # ---- commands in it

    def begin(self, command: str, typed: str = "") -> int:
        return self._agent.begin(command, typed)

    def ended(self, number: int) -> Done | None:
        return self._agent.ended(number)

    def wait(self, number: int, limit_s: float = LIMIT_S) -> Done:
        return self._agent.wait(number, limit_s, f"{self.name}: command {number}")

    def run(self, command: str, limit_s: float = LIMIT_S, typed: str = "") -> Done:
        """Whatever comes of it. Raises TimedOut, Unreachable."""
        number = self._agent.begin(command, typed)
        return self._agent.wait(number, limit_s, f"{self.name}: {command}")

    def check(self, command: str, limit_s: float = LIMIT_S, typed: str = "") -> str:
        """What it says; it must succeed. Raises CommandFailed, TimedOut, Unreachable."""
        done = self.run(command, limit_s, typed)
        if done.code:
            raise CommandFailed(f"{self.name}: '{command}' ended with {done.code}: {done.text}")
        return done.out

    def until(self, command: str, limit_s: float) -> float:
        """Seconds until the command succeeded; it is tried again and again. Raises TimedOut."""
        began = time.monotonic()
        while True:
            with contextlib.suppress(Unreachable):
                if self.run(command, limit_s).code == 0:
                    return time.monotonic() - began
            if time.monotonic() - began > limit_s:
                raise TimedOut(f"{self.name}: not so after {limit_s:g} s: {command}")
            time.sleep(1)

    # ---- how it is made

    def _disk(self, name: str) -> Path:
        return self._folder / f"{name}.qcow2"

    def _argv(self) -> Sequence[str]:
        words = (
            f"{KERNEL_WORDS} lab.name={self.name} lab.address={self.address}/24 "
            f"systemd.machine_id={self._number:032x}"
        )
        drives = [
            word
            for path in self._disks
            for word in ("-drive", f"file={path},if=virtio,format=qcow2,cache=unsafe")
        ]
        return (
            "setpriv", "--pdeathsig", "KILL",
            "qemu-system-x86_64", "-name", self.name, "-M", "q35", "-nodefaults",
            "-accel", "tcg,tb-size=256", "-cpu", CPU, "-smp", "1",
            "-m", str(self._memory_mib), "-display", "none",
            "-kernel", str(self._root.kernel), "-initrd", str(self._root.initrd),
            "-append", words, *drives,
            "-netdev", f"socket,id=net,mcast=239.77.0.1:{self._port},localaddr=127.0.0.1",
            "-device", f"virtio-net-pci,netdev=net,mac=52:54:00:77:00:{self._number:02x}",
            "-device", "virtio-serial", "-device",
            "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
            "-chardev", f"socket,id=agent,path={self._folder / 'agent'},server=on,wait=off",
            "-qmp", f"unix:{self._folder / 'monitor'},server=on,wait=off",
            "-serial", f"file:{self.console}", "-device", "virtio-rng-pci",
            "-global", "ICH9-LPC.noreboot=false",
            "-virtfs",
            f"local,path={self._given},mount_tag=lab,security_model=none,readonly=on",
        )  # fmt: skip

    @staticmethod
    def _quietly(*argv: str) -> None:
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
