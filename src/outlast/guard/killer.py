"""The cgroup subtree in which every managed VM of this host lives, and how it is emptied.

Layout: <subtree>/<vm>/ holds the processes of one VM. The subtree is given, or
<mount of cgroup v2>/outlast/vms. Rules:

1. Nothing here waits: cgroup files are read and written, pidfds are polled with time-out 0.
2. Empty needs two witnesses: cgroup.events says populated 0, AND every pidfd of a process that
   ever entered is readable. A QEMU on dead storage is a zombie leader with a thread in D state,
   and something (libvirt's own cgroup code) may have moved a process out of the subtree.
3. Not knowing counts as populated.
4. Freeze first, then kill: a frozen process runs no vCPU even while it cannot die, and a killed
   one dies although it is frozen.
5. Only one guard may own a subtree: the directory is locked (flock) for the life of the process.

It deliberately decides nothing: when to freeze and kill is core.py's business.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import Conflict, OutlastError

FREEZE = "cgroup.freeze"
KILL = "cgroup.kill"
EVENTS = "cgroup.events"
PROCS = "cgroup.procs"


class CgroupTrouble(OutlastError):
    """The cgroup tree is missing or refuses."""

    code = "cgroup-trouble"


@dataclass(frozen=True, slots=True)
class Entered:
    """One process that entered: enough to find it again and not to mistake another for it."""

    vm: str
    pid: int
    start_ticks: int  # field 22 of /proc/<pid>/stat


def automatic(mounts: Path = Path("/proc/self/mounts")) -> Path:
    """<mount of cgroup v2>/outlast/vms.

    Raises CgroupTrouble when no cgroup v2 is mounted.
    """
    for line in mounts.read_text().splitlines():
        fields = line.split()
        if len(fields) > 2 and fields[2] == "cgroup2":
            return Path(fields[1].replace("\\040", " ")) / "outlast" / "vms"
    raise CgroupTrouble(
        "no cgroup v2 is mounted on this host", hint="mount -t cgroup2 none /sys/fs/cgroup"
    )


class Subtree:
    """The VMs' part of the cgroup tree. Created if absent.

    Raises CgroupTrouble if it cannot be made, Conflict if another guard owns it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trouble = ""  # the last thing that went wrong, for status
        self._pidfds: dict[int, Entered] = {}
        self._poll = select.poll()
        self._frozen: bool | None = None
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._dir = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._read(EVENTS)
        except OSError as trouble:
            raise CgroupTrouble(
                f"the cgroup {path} cannot be used: {trouble.strerror}",
                hint="it must lie on a cgroup v2 mount, and the guard must run as root",
            ) from None
        try:
            fcntl.flock(self._dir, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._dir)
            raise Conflict(
                f"another guard owns the cgroup {path}", hint="stop it first, or give another path"
            ) from None

    def adopt(self, known: tuple[Entered, ...]) -> None:
        """After a restart: pidfds of everything inside and of what an earlier guard let in."""
        for vm in self._names():
            for pid in self._pids(vm):
                self._track(vm, pid, None)
        held = {entered.pid for entered in self._pidfds.values()}
        for entered in known:
            if entered.pid not in held and start_ticks(entered.pid) == entered.start_ticks:
                self._track(entered.vm, entered.pid, None)

    def close(self) -> None:
        for fd in (*self._pidfds, self._dir):
            os.close(fd)
        self._pidfds.clear()

    # -- looking ---------------------------------------------------------------------------

    def populated(self) -> bool:
        """True unless both witnesses of rule 2 say that nothing is left."""
        try:
            inside = "populated 0" not in self._read(EVENTS)
        except OSError as trouble:
            self.trouble = f"reading {self.path}/{EVENTS}: {trouble.strerror}"
            inside = True
        return bool(self._living()) or inside

    def vms(self) -> dict[str, bool]:
        """Every VM that has a cgroup or a process, and whether anything of it may be alive."""
        found = {vm: self._vm_populated(vm) for vm in self._names()}
        for entered in self._living():
            found[entered.vm] = True
        return found

    def escaped(self) -> list[str]:
        """VMs whose process lives outside of their cgroup: freezing would not reach them."""
        return sorted({e.vm for e in self._living() if e.pid not in self._pids(e.vm)})

    def members(self) -> tuple[Entered, ...]:
        """What has entered and is not known to be dead."""
        return tuple(self._living())

    def vm_populated(self, vm: str) -> bool:
        """Rule 2 for one VM."""
        return any(e.vm == vm for e in self._living()) or self._vm_populated(vm)

    # -- acting ----------------------------------------------------------------------------

    def freeze(self) -> None:
        """Stop every process in the subtree, also those to come. Does not wait until it is done."""
        if self._frozen is not True and self._write(FREEZE, "1"):
            self._frozen = True

    def thaw(self) -> None:
        if self._frozen is not False and self._write(FREEZE, "0"):
            self._frozen = False

    def kill(self) -> None:
        """SIGKILL for everything, inside and escaped. Does not wait."""
        self._kill(".", self._deep_pids)
        for fd in self._pidfds:
            _sigkill(fd)

    def kill_vm(self, vm: str) -> None:
        """Freeze and SIGKILL one VM. Does not wait."""
        if (self.path / vm).is_dir():
            self._write(f"{vm}/{FREEZE}", "1")
            self._kill(vm, lambda: self._pids(vm))
        for fd, entered in self._pidfds.items():
            if entered.vm == vm:
                _sigkill(fd)

    def enter(self, vm: str, pid: int) -> str:
        """Put a process into its VM's cgroup; "" or the reason why not."""
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return "the process that asked is gone"
        try:
            (self.path / vm).mkdir(exist_ok=True)
            self._put(f"{vm}/{FREEZE}", "0")
            self._put(f"{vm}/{PROCS}", str(pid))
        except OSError as trouble:
            os.close(pidfd)
            return f"the cgroup of {vm} refuses the process: {trouble.strerror}"
        self._track(vm, pid, pidfd)
        return ""

    def tidy(self) -> None:
        """Remove the cgroups of VMs that are gone."""
        for vm in self._names():
            if not self._vm_populated(vm):
                with contextlib.suppress(OSError):
                    (self.path / vm).rmdir()

    # -- inner -----------------------------------------------------------------------------

    def _names(self) -> list[str]:
        try:
            with os.scandir(self.path) as entries:
                return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        except OSError as trouble:
            self.trouble = f"listing {self.path}: {trouble.strerror}"
            return []

    def _vm_populated(self, vm: str) -> bool:
        try:
            return "populated 0" not in self._read(f"{vm}/{EVENTS}")
        except OSError as trouble:
            return trouble.errno not in (errno.ENOENT, errno.ENODEV)

    def _pids(self, vm: str) -> list[int]:
        try:
            return [int(word) for word in self._read(f"{vm}/{PROCS}").split()]
        except OSError:
            return []

    def _deep_pids(self) -> list[int]:
        found = []
        for folder, _, _ in os.walk(self.path):
            with contextlib.suppress(OSError):
                found += [int(word) for word in (Path(folder) / PROCS).read_text().split()]
        return found

    def _living(self) -> list[Entered]:
        for fd, _ in self._poll.poll(0):
            self._poll.unregister(fd)
            del self._pidfds[fd]
            os.close(fd)
        return list(self._pidfds.values())

    def _track(self, vm: str, pid: int, pidfd: int | None) -> None:
        try:
            fd = os.pidfd_open(pid) if pidfd is None else pidfd
        except OSError:
            return  # it is gone
        self._pidfds[fd] = Entered(vm, pid, start_ticks(pid))
        self._poll.register(fd, select.POLLIN)

    def _kill(self, folder: str, pids: Callable[[], list[int]]) -> None:
        try:
            self._put(f"{folder}/{KILL}", "1")
        except FileNotFoundError:  # a kernel before 5.14: one by one, repeated by the next tick
            for pid in pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        except OSError as trouble:
            self.trouble = f"killing in {self.path}/{folder}: {trouble.strerror}"

    def _write(self, name: str, text: str) -> bool:
        try:
            self._put(name, text)
        except OSError as trouble:
            self.trouble = f"writing {self.path}/{name}: {trouble.strerror}"
            return False
        return True

    def _put(self, name: str, text: str) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._dir)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def _read(self, name: str) -> str:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._dir)
        try:
            return os.read(fd, 1 << 16).decode()
        finally:
            os.close(fd)


def start_ticks(pid: int) -> int:
    """When this process began, in clock ticks since boot; -1 if there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return -1


def _sigkill(pidfd: int) -> None:
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
