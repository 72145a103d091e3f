"""The storage server's process, as the rack sees it: start, stall, stop, start again.

Stalled (SIGSTOP) it keeps its connections and answers nothing; stopped (SIGKILL) its connections
break at once. After a start its clients claim open files and locks again by themselves.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from outlast.errors import OutlastError
from outlast.rack import net
from outlast.rack.cgroup import Group

START_TIMEOUT_S = 10.0


class StorageServer:
    """One server for the rack's pool folder."""

    def __init__(
        self, folder: Path, switch: net.Switch, group: Group, env: Mapping[str, str], lease_s: float
    ) -> None:
        self._folder, self._switch, self._group, self._env = folder, switch, group, env
        self._lease_s = lease_s
        self._process: subprocess.Popen[bytes] | None = None
        self._started = False
        self._stalled = False

    def state(self) -> str:
        """ "running", "stalled" or "stopped"."""
        if self._process is None or self._process.poll() is not None:
            return "stopped"
        return "stalled" if self._stalled else "running"

    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start, or go on after a stall. Raises OutlastError if it does not come up."""
        if self.state() == "stalled":
            self._signal(signal.SIGCONT)
            self._stalled = False
        if self.state() == "running":
            return
        self._group.create()
        reader, writer = os.pipe()
        # a first start has no clients that could claim anything
        grace_s = self._lease_s if self._started else 0.0
        address = net.address("storage", net.SERVER, self._switch.third)
        argv = [
            sys.executable, "-S", "-m", "outlast.rack.fileserver", str(self._folder / "pool"),
            address, str(net.STORAGE_PORT), "--lease", str(self._lease_s),
            "--grace", str(grace_s), "--report", str(writer),
        ]  # fmt: skip
        log = self._folder / "storage.log"
        try:
            self._process = self._switch.start(self._group.procs, argv, log, self._env, [writer])
        finally:
            os.close(writer)
        with open(reader, "rb") as report:
            ready, _, _ = select.select([report], [], [], START_TIMEOUT_S)
            if not ready or report.readline() != b"ready\n":
                raise OutlastError("the storage server does not start", hint=f"see {log}")
        self._started = True

    def stall(self) -> None:
        self._signal(signal.SIGSTOP)
        self._stalled = self._process is not None

    def stop(self) -> None:
        """Kill it; what it had not answered is asked again after the next start."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process, self._stalled = None, False

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
