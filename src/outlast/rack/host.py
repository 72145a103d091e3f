"""One emulated host, seen from outside: its power switch, its processes, its watchdog.

Rules:
1. A power cut takes the cables first (peers see silence, no farewell), then every process at once:
   SIGKILL to the host's PID 1 and cgroup.kill on its group. Both: a frozen helper outside of the
   PID namespace would never reap its child otherwise.
2. The host's storage client dies with the host, so requests stuck in the storage are aborted and
   nothing can survive in them. `power_off` returns only when no process is left.
3. One lock a host: power switch, watchdog and sysrq never act at the same time.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from outlast.errors import Conflict, NotFound, OutlastError, TimedOut
from outlast.rack import disk, net
from outlast.rack.boot import CONTROL, Service, Spec
from outlast.rack.cgroup import Group
from outlast.rack.fake_watchdog import Watchdog
from outlast.rack.root import POOL

UNSHARE = ("unshare", "--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--net",
           "--cgroup", "--")  # fmt: skip
PYTHON = (sys.executable, "-S", "-m")
BOOT_TIMEOUT_S, OFF_TIMEOUT_S = 20.0, 10.0
HOST_FILE = "/etc/outlast/host.json"
POWER_SWITCH = "/dev/rack-power"  # as /proc/sysrq-trigger, which some kernels have not
OWN_SERVICES = ("guard", "guard.pulse", "agent")
# joins the host's cgroup first: freeze and power cut must reach what was started from outside
ENTER = 'echo 0 > "$0" && exec nsenter -t "$1" -a -- env -i "${@:2}"'


@dataclass(frozen=True, slots=True)
class Site:
    """What all hosts of a rack share."""

    folder: Path
    switch: net.Switch
    group: Group
    names: tuple[str, ...]
    storage: str  # "rackfs" | "bind"
    libvirt: bool
    env: Mapping[str, str]
    source: Path  # the folder that holds the package `outlast`
    shared_locks: bool = True
    extra_services: tuple[Service, ...] = ()
    nowayout: bool = False


@dataclass(slots=True)
class Power:
    """A host that is on."""

    process: subprocess.Popen[bytes]
    pid: int  # of the host's PID 1, as the machine sees it
    namespace: int
    boot_id: str
    on_s: float = field(default_factory=time.monotonic)


class Host:
    """A host named a, b, c ... with the number 1, 2, 3 ..."""

    def __init__(self, site: Site, name: str) -> None:
        self.site, self.name = site, name
        self.number = site.names.index(name) + 1
        self.base = site.folder / name
        self.group = Group(site.group.path / name)
        self.machine_id = disk.install(self.base)
        self.power: Power | None = None
        self.ended = False  # the rack goes down: nothing switches it on again
        self._lock = threading.RLock()
        self.watchdog = Watchdog(self._fire, site.nowayout)

    def address(self, network: str) -> str:
        return net.address(network, self.number, self.site.switch.third)

    def plug_watchdog(self) -> None:
        """Mount the watchdog's files where the host's boot finds them."""
        data = self.watchdog.mount_options()
        self.site.switch.mount("rackdog", str(self.base / "watchdog"), "fuse.rackdog", 6, data)
        self.watchdog.start()

    def unplug_watchdog(self) -> None:
        self.ended = True
        self.watchdog.close()
        with contextlib.suppress(OSError):
            self.site.switch.unmount(str(self.base / "watchdog"))

    # -- power

    def power_on(self) -> None:
        """Boot; returns when the pool is mounted and the services that must be there are.

        Raises Conflict if it is on, OutlastError with the host's own words if it does not boot.
        """
        with self._lock:
            if self.power is not None or self.ended:
                raise Conflict(f"host {self.name} is on already or the rack goes down")
            disk.empty_run(self.base, again=True)
            boot_id = str(uuid.uuid4())
            self._spec(boot_id).write(self.base / "spec.json")
            self.group.create()
            reader, writer = os.pipe()
            try:
                self._start(boot_id, writer)
                os.close(writer)
                writer = -1
                self._await_boot(reader)
            except BaseException:
                self.power_off()
                raise
            finally:
                os.close(reader)
                if writer >= 0:
                    os.close(writer)

    def _start(self, boot_id: str, report: int) -> None:
        argv = [*UNSHARE, *PYTHON, "outlast.rack.boot", str(self.base / "spec.json"), str(report)]
        log = self.base / "log/console.log"
        process = self.site.switch.start(self.group.procs, argv, log, self.site.env, [report])
        pid = _first_child(process)
        namespace = Path(f"/proc/{pid}/ns/pid").stat().st_ino
        self.power = Power(process, pid, namespace, boot_id)
        self.site.switch.plug(self.name, pid)

    def _await_boot(self, reader: int) -> None:
        ready, _, _ = select.select([reader], [], [], BOOT_TIMEOUT_S)
        words = os.read(reader, 4096).decode(errors="replace").strip() if ready else ""
        if words != "ready":
            log = self.base / "log"
            why = words or ("it died" if ready else f"not ready after {BOOT_TIMEOUT_S:g} s")
            raise OutlastError(f"host {self.name} does not boot: {why}", hint=f"see {log}")

    def power_off(self) -> dict[str, float]:
        """Cut the power. Returns milliseconds: "cables_ms", "kill_ms", "total_ms".

        Raises TimedOut naming the processes that would not die.
        """
        with self._lock:
            start = time.monotonic()
            if self.power is None:
                return {"cables_ms": 0.0, "kill_ms": 0.0, "total_ms": 0.0}
            self.site.switch.silence(self.name)
            cut = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.power.pid, signal.SIGKILL)
            self.group.kill()
            self._await_death(cut + OFF_TIMEOUT_S)
            dead = time.monotonic()
            self.power.process.wait()
            self.power = None
            self.watchdog.power_off()
            self.group.remove()
            self.site.switch.pull(self.name)
            disk.empty_run(self.base, again=False)
            end = time.monotonic()
        spans = {"cables_ms": cut - start, "kill_ms": dead - cut, "total_ms": end - start}
        return {name: round(seconds * 1000, 1) for name, seconds in spans.items()}

    def reset(self) -> None:
        """Off and on again: a new boot id, an empty /run, the same disk."""
        with self._lock:
            self.power_off()
            self.power_on()

    def _await_death(self, end_s: float) -> None:
        while left := self.pids():
            if time.monotonic() > end_s:
                raise TimedOut(f"host {self.name} is off, but {left} survive in the kernel")
            time.sleep(0.001)

    def _fire(self, why: str) -> None:
        """The watchdog or sysrq acts. Runs in a thread of its own."""
        with self._lock:
            if self.ended or self.power is None:
                return
            with open(self.base / "log/console.log", "a") as log:
                log.write(f"power: {why}\n")
            if why == "sysrq-off":
                self.power_off()
            else:
                self.reset()

    # -- processes

    def state(self) -> str:
        """ "on", "off" or "frozen"."""
        if self.power is None:
            return "off"
        return "frozen" if self.group.frozen() else "on"

    def freeze(self, on: bool) -> bool:
        """Stop or continue every process. False: something stuck in the kernel has not stopped."""
        self.need_power()
        return self.group.freeze(on)

    def need_power(self) -> Power:
        if self.power is None:
            raise Conflict(f"host {self.name} is off", hint=f"outlast rack power on {self.name}")
        return self.power

    def pids(self) -> list[int]:
        """Living processes of the host as the machine sees them, found by their PID namespace."""
        if self.power is None:
            return []
        return living(self.power.namespace)

    def service_pid(self, service: str) -> int:
        """The machine's pid of a running service. Raises NotFound."""
        inner = self.services().get(service, {}).get("pid", 0)
        if inner:
            for pid in self.pids():
                with contextlib.suppress(OSError):
                    if _inner_pid(pid) == inner:
                        return pid
        raise NotFound(f"no service '{service}' runs on host {self.name}")

    def services(self) -> dict[str, dict[str, int]]:
        """Services by name: {"pid": as seen inside (0: not running), "starts": so many}."""
        try:
            raw = json.loads((self.base / "run/rack/services.json").read_text())
        except (OSError, ValueError):
            return {}
        return {str(name): dict(state) for name, state in raw.items()}

    # -- what it boots with

    def _spec(self, boot_id: str) -> Spec:
        site = self.site
        binds = [(str(self.base / folder), place, False) for folder, place in disk.FOLDERS.items()]
        binds += [
            (str(self.base / "watchdog/watchdog"), "/dev/watchdog", False),
            (str(self.base / "watchdog/sysrq"), "/proc/sysrq-trigger", False),
            (str(self.base / "watchdog/sysrq"), POWER_SWITCH, False),
            (str(self.base / "boot_id"), "/proc/sys/kernel/random/boot_id", True),
            (site.env["PYTHONPYCACHEPREFIX"], site.env["PYTHONPYCACHEPREFIX"], False),
            (str(site.source), str(site.source), True),
        ]
        if not sys.prefix.startswith("/usr"):
            binds.append((sys.prefix, sys.prefix, True))
        if site.storage == "bind":
            binds.append((str(site.folder / "pool"), POOL, False))
        (self.base / "boot_id").write_text(boot_id + "\n")
        return Spec(
            name=self.name,
            base=str(self.base),
            hide=str(site.folder),
            nets={n: f"{self.address(n)}/24" for n in net.NETS},
            binds=tuple(binds),
            files=self._files(),
            storage=self._storage_command() if site.storage == "rackfs" else (),
            env=site.env,
            services=self._services(),
        )

    def _files(self) -> dict[str, str]:
        third = self.site.switch.third
        lines = ["127.0.0.1 localhost"]
        lines += [f"{net.address('mgmt', i, third)} {n}" for i, n in enumerate(self.site.names, 1)]
        return {
            "/etc/hosts": "\n".join(lines) + "\n",
            "/etc/hostname": self.name + "\n",
            "/etc/machine-id": self.machine_id + "\n",
        }

    def _storage_command(self) -> tuple[str, ...]:
        server = net.address("storage", net.SERVER, self.site.switch.third)
        locks = str(int(self.site.shared_locks))
        return (
            *PYTHON, "outlast.rack.filemount", server, str(net.STORAGE_PORT), POOL, CONTROL,
            "--shared-locks", locks,
        )  # fmt: skip

    def _services(self) -> tuple[Service, ...]:
        python = sys.executable
        own = [
            Service(f"outlast-{m.split('.')[-1]}", (python, "-m", f"outlast.{m}"), HOST_FILE)
            for m in OWN_SERVICES
        ]
        virt = [Service("libvirtd", ("libvirtd", "-l"), ready="/run/libvirt/libvirt-sock")]
        return (*(virt if self.site.libvirt else ()), *own, *self.site.extra_services)


def enter(pid: int, procs: Path, argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """The command that runs `argv` inside the host whose PID 1 is `pid`."""
    settings = [f"{name}={value}" for name, value in env.items()]
    return ["bash", "-c", ENTER, str(procs), str(pid), *settings, *argv]


def living(namespace: int) -> list[int]:
    """Processes in a PID namespace, as far as any thread of theirs can still do anything."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{entry.name}/ns/pid").st_ino == namespace and _lives(entry.name):  # noqa: PTH116
                found.append(int(entry.name))
    return found


def _lives(pid: str) -> bool:
    """A zombie lives while a thread of its is left: one may be stuck in the storage."""
    state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    if state in "ZX":
        return len(os.listdir(f"/proc/{pid}/task")) > 1  # noqa: PTH208
    # a PID 1 that has given up everything and only waits for zombies to be reaped by others
    return Path(f"/proc/{pid}/wchan").read_text() != "zap_pid_ns_processes"


def _inner_pid(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return 0


def _first_child(process: subprocess.Popen[bytes]) -> int:
    """The pid of the host's PID 1: the one child of `unshare`."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + BOOT_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        children = path.read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.001)
    raise OutlastError("a host's namespaces could not be made", hint="see its log/console.log")
