"""A pool on a rack: real hosts, real QEMUs, and a ledger that knows who wrote what.

    with Lab(folder) as lab:
        lab.begin(hosts=3)
        lab.create(["vm1", "vm2"])
        lab.wait_running(["vm1", "vm2"])
        lab.rack.power(lab.where("vm1"), "off")
        lab.wait_running(["vm1", "vm2"])
        assert all(v.sound for v in lab.verdicts().values())

Rules:
1. Everything is done as a person would do it: `outlast` commands inside the hosts, the API of any
   agent from outside. Nothing of the product is imported but its wire.
2. Truth about VMs is read from the machine (processes, disks, serial logs), not from the product.
3. `end` leaves nothing behind, whatever happened before.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from outlast.errors import Conflict, OutlastError, TimedOut
from outlast.rack import ledger
from outlast.rack.client import DEFAULT_FOLDER, RackClient
from outlast.rack.guest import build
from outlast.wire.client import AgentClient
from outlast.wire.shapes import VmCreate, VmStatus, make

POOL = "/srv/pool"  # the pool's directory as the hosts see it
KERNEL = "pulsar.elf"  # below the pool's images
MEMORY_OF_HOST = "1GiB"  # what each host gives to VMs
MEMORY = "8MiB"
DISK = "4MiB"
WORDS = "ms=100 lines=5"  # each byte on a serial line is a call of the storage
CHUNK = 1 << 20
SWITCH_OFF = "import os; os.write(os.open('/dev/rack-power', os.O_WRONLY), b'o')"
SOCKET_PATH_MAX = 107  # bytes that the kernel takes; through an open folder any path is short
_GUEST = re.compile(rb"\0guest=([a-z0-9-]+)")


class Lab:
    """One pool on one rack."""

    def __init__(self, folder: Path = DEFAULT_FOLDER) -> None:
        self.rack = RackClient(folder)
        self.folder = self.rack.folder
        self.hosts: list[str] = []
        self.vms: list[str] = []
        self._near = -1  # the folder, open

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    # ---- the pool

    def begin(
        self,
        hosts: int = 3,
        preset: str = "lab",
        say: Callable[[str], None] = lambda text: None,
        *,
        leashed: bool = False,
        memory: str = MEMORY_OF_HOST,
    ) -> None:
        """Rack up, pool made, hosts joined, all of them members.

        memory: that each host gives to VMs.
        leashed: the rack goes down by itself when this process ends, however it ends.
        """
        self.rack.down(purge=True)
        say(f"starting {hosts} hosts and their storage")
        self.rack.up(hosts=hosts, leashed=leashed)
        self.make_pool(preset, say, memory=memory)

    def make_pool(
        self,
        preset: str = "lab",
        say: Callable[[str], None] = lambda text: None,
        *,
        name: str = "demo",
        memory: str = MEMORY_OF_HOST,
    ) -> None:
        """A pool of all hosts of a rack that is up; returns when all are members.

        preset: "lab", or the timing of real pools. Raises Conflict when the rack's storage holds a
        pool already, and what the commands say.
        """
        addresses = {h: s["addresses"] for h, s in self.rack.status()["hosts"].items()}
        self.hosts = list(addresses)
        if (self.pool_dir / "pool.json").exists():
            raise Conflict(
                "this rack has a pool already", hint="outlast rack down --purge makes it empty"
            )
        kernel = build.build(self.folder / "guest").read_bytes()  # no compiler: say so before all
        say("making the pool")
        first = self.hosts[0]
        timing = ["--lab", "--watchdog", "required"] if preset == "lab" else [
            "--preset", preset, "--open-join",
        ]  # fmt: skip
        self.outlast(first, "pool", "init", POOL, "--name", name, *timing)
        for host, its in addresses.items():
            say(f"host {host} joins")
            argv = ["host", "join", POOL, "--name", host, "--no-wait", *self.networks(its)]
            self.outlast(host, *argv, "--memory", memory, "--accelerator", "tcg")
            self._power_switch(host)
        self.wait_members(self.hosts)
        (self.pool_dir / "images" / KERNEL).write_bytes(kernel)

    def networks(self, addresses: Mapping[str, str]) -> list[str]:
        """How a host says which of its addresses, by network, it uses for what."""
        return ["--address", addresses["mgmt"]]

    def _power_switch(self, host: str) -> None:
        """How an emulated host is switched off: it has no systemd."""
        path = self.folder / host / "disk/etc-outlast/host.json"
        known = json.loads(path.read_text())
        known["power_off_command"] = [sys.executable, "-c", SWITCH_OFF]
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(known))
        fresh.replace(path)

    def end(self) -> None:
        self.rack.down(purge=True)
        if self._near >= 0:
            os.close(self._near)
            self._near = -1

    def outlast(self, host: str, *arguments: str, timeout_s: float = 60) -> str:
        """Run an `outlast` command inside a host and return its output.

        Raises OutlastError with the command's own words.
        """
        source = str(Path(__file__).resolve().parent.parent.parent)
        argv = [sys.executable, "-m", "outlast.cli.main", *arguments]
        done = self.rack.exec(host, argv, timeout_s=timeout_s, env={"PYTHONPATH": source})
        if done.returncode:
            raise OutlastError(
                f"outlast {' '.join(arguments[:3])} on {host}: {done.stderr.strip()}"
            )
        return done.stdout

    def client(self, host: str = "") -> AgentClient:
        """The API of one host's agent; of any that answers when none is named."""
        for name in [host] if host else self.hosts:
            client = AgentClient(f"unix:{self._agent_socket(name)}", timeout_s=5)
            if host:
                return client
            try:
                client.status()
            except OutlastError:
                continue
            return client
        raise TimedOut("no agent of the rack answers")

    def _agent_socket(self, host: str) -> str:
        path = f"{self.folder}/{host}/run/outlast/agent.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
            return path
        if self._near < 0:
            self._near = os.open(self.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._near}/{host}/run/outlast/agent.sock"

    @property
    def pool_dir(self) -> Path:
        """The pool's directory as the storage server has it."""
        return self.folder / "pool"

    def wait_members(self, hosts: Iterable[str], timeout_s: float = 40) -> None:
        wanted = set(hosts)

        def all_in() -> bool:
            found = {h.name for h in self.client().status().hosts if h.state == "member"}
            return wanted <= found

        self.wait(all_in, timeout_s, f"{', '.join(sorted(wanted))} are not all members")

    # ---- VMs

    def create(
        self,
        names: Sequence[str],
        cmdline: str = WORDS,
        start: bool = True,
        *,
        kernel: str = KERNEL,
        initrd: str = "",
        memory: str = MEMORY,
    ) -> None:
        """New VMs that sign their disks and tell on their serial line what they wrote.

        kernel, initrd: files in the pool's images.
        """
        client = self.client()
        for name in names:
            wish = make(
                VmCreate,
                name=name,
                memory=memory,
                disks=[{"size": DISK}],
                kernel=f"{POOL}/images/{kernel}",
                initrd=f"{POOL}/images/{initrd}" if initrd else "",
                cmdline=cmdline,
                serial_log=f"{POOL}/logs/{name}.log",
            )
            client.create(wish)
            if start:
                client.start(name)
            self.vms.append(name)

    def statuses(self) -> dict[str, VmStatus]:
        return {vm.name: vm for vm in self.client().vms()}

    def processes(self) -> dict[str, list[tuple[str, int]]]:
        """Where QEMUs of VMs live, by the machine's own process list: vm -> (host, pid)."""
        found: dict[str, list[tuple[str, int]]] = {}
        for host, state in self.rack.status()["hosts"].items():
            if state["power"] == "off":
                continue
            for pid in self.rack.pids(host):
                vm = _vm_of(pid)
                if vm:
                    found.setdefault(vm, []).append((host, pid))
        return found

    def where(self, vm: str) -> str:
        """The host with the VM's QEMU, "" when there is none."""
        places = self.processes().get(vm, [])
        return places[0][0] if places else ""

    def kill_qemu(self, vm: str) -> str:
        """kill -9; returns the host it was on."""
        host, pid = self.processes()[vm][0]
        os.kill(pid, signal.SIGKILL)
        return host

    def log(self, vm: str) -> str:
        """What the VM has said on its serial line since its birth, over all boots."""
        path = self.pool_dir / "logs" / f"{vm}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def boots(self, vm: str) -> int:
        """How often the VM has come up, by its own first lines."""
        # not only at a line's beginning: a QEMU that was killed may leave half a line behind
        return len(re.findall(r"BOOT [0-9a-f]{16} ", self.log(vm)))

    def wait_running(self, names: Iterable[str], timeout_s: float = 60) -> None:
        wanted = set(names)

        def all_run() -> bool:
            running = {n for n, vm in self.statuses().items() if vm.state == "running"}
            return wanted <= running

        self.wait(all_run, timeout_s, "not all VMs run: " + ", ".join(sorted(wanted)))

    def wait(self, happened: Callable[[], bool], timeout_s: float, otherwise: str) -> float:
        """Poll until it happened; returns the seconds it took.

        Raises TimedOut with the words of `otherwise`.
        """
        begun, trouble = time.monotonic(), ""
        while True:
            try:
                if happened():
                    return time.monotonic() - begun
                trouble = ""
            except OutlastError as error:
                trouble = error.sentence  # an agent may be away for a moment
            if time.monotonic() - begun > timeout_s:
                raise TimedOut(f"after {timeout_s:g} s: {otherwise}", hint=trouble)
            time.sleep(0.05)

    # ---- truth

    def verdicts(self) -> dict[str, ledger.Verdict]:
        """What disks and serial logs prove, VM by VM."""
        return {vm: self.verdict(vm) for vm in self.vms}

    def verdict(self, vm: str, disk: Path | None = None) -> ledger.Verdict:
        log = self.log(vm)  # before the disk: a VM may write on, and what its log tells is there
        with open(disk or self.pool_dir / "images" / f"{vm}.raw", "rb") as file:
            chunks = list(iter(lambda: file.read(CHUNK), b""))
        return ledger.judge(chunks, [log])


def _vm_of(pid: int) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    found = _GUEST.search(line)
    if found is None or b"qemu" not in line.split(b"\0")[0]:
        return ""
    return found[1].decode()
