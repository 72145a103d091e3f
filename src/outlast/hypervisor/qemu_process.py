"""The files by which one host's QEMU processes are known: /proc, libvirt's pid files and logs.

Nothing here asks libvirt or touches the pool's storage; what cannot be read counts as not there.
All paths are below `root`, "/" for the host this process runs on.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from outlast.model import LocalVm

log = logging.getLogger(__name__)

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_LOG_TAIL = 4096


def boot_ns() -> int:
    """Now, by CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def started_ticks(pid: int, proc: Path = Path("/proc")) -> int:
    """When a process started, in clock ticks since boot; 0 if it is not there or dead."""
    try:
        words = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if words[0] in "ZX" else int(words[19])


class QemuProcesses:
    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = root / "proc"
        self._pids = root / "run/libvirt/qemu"
        self._logs = root / "var/log/libvirt/qemu"

    def pid(self, name: str) -> int:
        """The pid libvirt noted for a VM, 0 if there is none or it cannot be read."""
        try:
            return int((self._pids / f"{name}.pid").read_text())
        except (OSError, ValueError):
            return 0

    def measured(self, vm: LocalVm) -> LocalVm:
        """The same VM with pid, start (CLOCK_BOOTTIME) and processor time where known."""
        pid = self.pid(vm.name)
        if not pid:
            return vm
        try:
            line = (self._proc / str(pid) / "stat").read_text()
        except OSError:
            return replace(vm, pid=pid)
        # fields 14, 15 (user and system time) and 22 (start, since boot), in clock ticks
        stat = line.rpartition(")")[2].split()
        cpu_ns = (int(stat[11]) + int(stat[12])) * _TICK_NS
        return replace(vm, pid=pid, started_ns=int(stat[19]) * _TICK_NS, cpu_ns=cpu_ns)

    def kill(self, name: str, uuid: str) -> bool:
        """SIGKILL for the QEMU of a VM, if its pid file and its command line agree.

        The open folder of the process stands for the process, so no other one can be hit.
        """
        pid = self.pid(name)
        if not pid:
            return False
        try:
            fd = os.open(self._proc / str(pid), os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return False
        try:
            line = os.open("cmdline", os.O_RDONLY, dir_fd=fd)
            with open(line, "rb") as source:
                if uuid.encode() not in source.read().split(b"\0"):
                    return False
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        except OSError as error:
            log.debug("kill of '%s': process %d: %s", name, pid, error)
            return False
        finally:
            os.close(fd)
        return True

    def log_mark(self, name: str) -> int:
        """Where the log of a VM's QEMU ends now."""
        try:
            return (self._logs / f"{name}.log").stat().st_size
        except OSError:
            return 0

    def log_since(self, name: str, mark: int) -> str:
        """What the log has gained since `mark`, at most its last 4 KiB."""
        try:
            with (self._logs / f"{name}.log").open("rb") as source:
                end = source.seek(0, os.SEEK_END)
                source.seek(max(mark if mark <= end else 0, end - _LOG_TAIL))
                return source.read().decode("utf-8", "replace")
        except OSError:
            return ""
