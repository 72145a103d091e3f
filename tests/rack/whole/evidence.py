"""What the tests of a whole pool look at: processes and their ends, disks, the timeline.

Rules:
1. Truth about VMs comes from the kernel (pidfds, start times) and from the disks, never from the
   product's own words; its words are checked against it.
2. Nothing here waits without a limit, and nothing sleeps in the hope that something has happened.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import outlast
from outlast.errors import TimedOut
from outlast.rack import ledger
from outlast.rack.lab import CHUNK, Lab
from outlast.settings import PRESETS, S
from outlast.wire.shapes import TimelineEntry

TIMING = PRESETS["lab"]
BEAT_S, FENCE_S, KILL_S = TIMING.beat_ns / S, TIMING.fence_ns / S, TIMING.kill_ns / S
T_DEAD_S, GRACE_S = TIMING.dead_ns / S, TIMING.partition_grace_ns / S
BACK_S = 40.0  # generous: these tests prove that it happens, `make bench-failover` how fast
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


# ---- the timeline


class Story:
    """What the pool's hosts told since a moment."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self.since_wall_s = lab, time.time()

    def entries(self) -> list[TimelineEntry]:
        return self._lab.client().timeline(self.since_wall_s, 5000)

    def codes(self) -> dict[str, list[str]]:
        """Sentences by code."""
        found: dict[str, list[str]] = {}
        for entry in self.entries():
            found.setdefault(entry.code, []).append(entry.sentence)
        return found

    def wait(self, *codes: str, about: str = "", timeout_s: float = 15) -> dict[str, list[str]]:
        """All of these were told, each with `about` in a sentence. Raises TimedOut."""

        def told() -> bool:
            said = self.codes()
            return all(any(about in text for text in said.get(code, [])) for code in codes)

        self._lab.wait(told, timeout_s, f"not all of {', '.join(codes)} were told about '{about}'")
        return self.codes()


def command(lab: Lab, host: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """An `outlast` command in a host, whatever its exit code."""
    source = str(Path(outlast.__file__).resolve().parent.parent)
    argv = [sys.executable, "-m", "outlast.cli.main", *arguments]
    return lab.rack.exec(host, argv, timeout_s=60, env={"PYTHONPATH": source})


# ---- VMs


def victims(lab: Lab, host: str) -> list[str]:
    """VMs whose QEMU lives on this host."""
    return sorted(vm for vm, places in lab.processes().items() if any(h == host for h, _ in places))


def boots(lab: Lab, names: Iterable[str] = ()) -> dict[str, int]:
    return {vm: lab.boots(vm) for vm in names or lab.vms}


def wait_back(lab: Lab, before: dict[str, int], timeout_s: float = BACK_S) -> float:
    """Each of these VMs has come up again, by its own first line; the seconds it took."""
    names = ", ".join(before)
    return lab.wait(
        lambda: all(lab.boots(vm) > count for vm, count in before.items()),
        timeout_s,
        f"not all came back: {names}",
    )


def settle(lab: Lab, names: Iterable[str]) -> None:
    """Each of these VMs is up and writes: "running" is said of a VM that has not yet begun to."""
    before = {vm: len(lab.log(vm)) for vm in names}

    def still() -> list[str]:
        return [vm for vm, size in before.items() if not _writes(lab.log(vm), size)]

    try:
        lab.wait(lambda: not still(), BACK_S, "not all write")
    except TimedOut:
        seen = {vm: (lab.statuses()[vm], lab.processes().get(vm)) for vm in still()}
        raise TimedOut(f"after {BACK_S:g} s these do not write: {seen}") from None


def _writes(log: str, since: int) -> bool:
    """The VM's newest boot has written after this many characters of its log."""
    newest = re.findall(r"BOOT ([0-9a-f]{16}) ", log)[-1:]
    return bool(newest) and f"W {newest[0]} " in log[since:]


def unsound(lab: Lab) -> dict[str, str]:
    """VMs whose disk and log prove something bad, with the sentence; a second look must agree."""
    return {vm: text for vm in lab.vms if (text := _fault(lab, vm)) and (text := _fault(lab, vm))}


def _fault(lab: Lab, vm: str) -> str:
    log = lab.log(vm)  # first: what it acknowledges is on the disk that is read later
    with open(lab.pool_dir / "images" / f"{vm}.raw", "rb") as disk:
        verdict = ledger.judge(list(iter(lambda: disk.read(CHUNK), b"")), [log])
    return "" if verdict.sound else verdict.sentence()


# ---- processes


def begun_s(pid: int) -> float:
    """When a process began, in seconds of CLOCK_BOOTTIME; -1 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19]) * TICK_S
    except (OSError, IndexError):
        return -1


def boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _takes_copy(pid: int) -> bool:
    try:
        return b"-incoming" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Life:
    """One QEMU: born and, when it is over, ended, on CLOCK_BOOTTIME."""

    vm: str
    host: str
    pid: int
    begun_s: float
    ended_s: float = 0
    incoming: bool = False  # born to take a copy in, which stands still at first


class Lives:
    """Watches every QEMU of a lab from birth to the end of its last thread.

    A process counts as living until its pidfd says otherwise: a zombie leader with a thread stuck
    in the storage is alive.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._poll = select.poll()
        self._open: dict[int, Life] = {}  # by pidfd
        self._known: set[tuple[int, float]] = set()
        self.over: list[Life] = []
        self._threads = [
            threading.Thread(target=work, name=work.__name__) for work in (self._find, self._reap)
        ]

    def __enter__(self) -> Lives:
        self._look()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for fd in self._open:
            os.close(fd)

    def of(self, vm: str) -> list[Life]:
        """All lives of a VM that were seen, in order of birth."""
        with self._lock:
            lives = [*self.over, *self._open.values()]
        return sorted((life for life in lives if life.vm == vm), key=lambda life: life.begun_s)

    def overlaps(self) -> list[str]:
        """Sentences about VMs of which two QEMUs lived at once, the newer one from its fork on.

        Those that took a copy in are left out: two live at once while a VM moves. That never both
        of them run is for the disks to prove.
        """
        found = []
        for vm in self._lab.vms:
            lives = [life for life in self.of(vm) if not life.incoming]
            for old, new in pairwise(lives):
                if not old.ended_s or old.ended_s > new.begun_s + 2 * TICK_S:
                    found.append(
                        f"{vm}: {old.host}/{old.pid} ended at {old.ended_s:.2f}, "
                        f"{new.host}/{new.pid} began at {new.begun_s:.2f}"
                    )
        return found

    def _find(self) -> None:
        while not self._stop.wait(0.1):
            self._look()

    def _look(self) -> None:
        for vm, places in self._lab.processes().items():
            for host, pid in places:
                self._take(vm, host, pid)

    def _take(self, vm: str, host: str, pid: int) -> None:
        key = (pid, begun_s(pid))
        if key in self._known or key[1] < 0:
            return
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return
        with self._lock:
            self._known.add(key)
            self._open[fd] = Life(vm, host, pid, key[1], incoming=_takes_copy(pid))
            self._poll.register(fd, select.POLLIN)

    def _reap(self) -> None:
        while not self._stop.is_set():
            for fd, _ in self._poll.poll(20):
                ended_s = boottime_s()
                with self._lock:
                    self._poll.unregister(fd)
                    self.over.append(replace(self._open.pop(fd), ended_s=ended_s))
                os.close(fd)
