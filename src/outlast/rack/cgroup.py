"""Control groups of the rack: one folder a host, to freeze it and to kill it as a whole.

Only core files of cgroup v2 are used (procs, kill, freeze, events): no controller is needed and
nothing is enabled, so this works beside systemd and in hybrid set-ups.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

from outlast.errors import Conflict, OutlastError, TimedOut


def find_root(mounts: str = "") -> Path:
    """Where cgroup v2 is mounted on this machine. Raises OutlastError if it is not."""
    for line in (mounts or Path("/proc/self/mounts").read_text()).splitlines():
        fields = line.split()
        if len(fields) > 2 and fields[2] == "cgroup2":
            return Path(fields[1])
    raise OutlastError(
        "cgroup v2 is not mounted on this machine",
        hint="mount -t cgroup2 none /sys/fs/cgroup/unified",
    )


class Group:
    """One cgroup folder with everything below it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def procs(self) -> Path:
        return self.path / "cgroup.procs"

    def create(self) -> None:
        self.path.mkdir(exist_ok=True)

    def populated(self) -> bool:
        """True while any process is in it or below."""
        return self._event("populated")

    def frozen(self) -> bool:
        """True if a freeze was asked for, even while something stuck keeps it from completing."""
        with contextlib.suppress(OSError):
            return (self.path / "cgroup.freeze").read_text().strip() == "1"
        return False

    def freeze(self, on: bool, timeout_s: float = 1.0) -> bool:
        """Stop or continue everything. False: asked for, but something stuck goes on."""
        (self.path / "cgroup.freeze").write_text("1" if on else "0")
        return self._wait("frozen", on, timeout_s)

    def kill(self) -> None:
        """SIGKILL to every process here and below, frozen or not. Returns at once."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "cgroup.kill").write_text("1")

    def wait_empty(self, timeout_s: float) -> bool:
        return self._wait("populated", False, timeout_s)

    def remove(self, timeout_s: float = 10.0) -> None:
        """Kill what is left and remove the whole subtree. Raises TimedOut naming survivors."""
        end = time.monotonic() + timeout_s
        self.kill()
        self.wait_empty(timeout_s)
        while True:
            for folder in self._folders():
                with contextlib.suppress(OSError):
                    folder.rmdir()
            if not self.path.exists():
                return
            if time.monotonic() > end:
                raise TimedOut(
                    f"processes survive in {self.path}: {sorted(self.pids())}",
                    hint="they may hang in the kernel; try again or restart the machine",
                )
            time.sleep(0.002)

    def pids(self) -> set[int]:
        """Processes here and below (zombies do not show)."""
        found: set[int] = set()
        for folder in self._folders():
            with contextlib.suppress(OSError):
                found.update(int(n) for n in (folder / "cgroup.procs").read_text().split())
        return found

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Hold this folder for one rack. Raises Conflict if another rack holds it."""
        self.create()
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(
                    f"another rack uses the prefix '{self.path.name}'", hint="choose another prefix"
                ) from None
            yield
        finally:
            os.close(fd)

    def _folders(self) -> list[Path]:
        """This folder and those below, deepest first."""
        return [Path(name) for name, _, _ in os.walk(self.path, topdown=False)]

    def _event(self, name: str) -> bool:
        with contextlib.suppress(OSError):
            text = (self.path / "cgroup.events").read_text()
            return f"{name} 1" in text
        return False

    def _wait(self, name: str, value: bool, timeout_s: float) -> bool:
        """Wait until an event has a value; the kernel wakes us when the file changes."""
        end = time.monotonic() + timeout_s
        try:
            events = (self.path / "cgroup.events").open()
        except OSError:
            return name == "populated" and not value
        with events:
            waiter = select.poll()
            waiter.register(events, select.POLLPRI)
            while self._event(name) is not value:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                waiter.poll(min(left, 0.05) * 1000)
                events.seek(0)
                events.read()
        return True
