"""A real guard process with real processes as VMs in a private cgroup: the bench of these tests.

The subtree is <mount of cgroup v2>/outlast-test-<pid>/<n>; a VM is a shell script behind the real
emulator wrapper. `FakeWatchdog` is the hardware behind a "testing:" device: it resets the "host"
by killing the guard and the subtree.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from outlast.guard import emulator
from outlast.guard.client import GuardClient, GuardGone
from outlast.guard.facts import Reading
from outlast.guard.killer import CgroupTrouble, automatic

MS = 1_000_000
Reply = dict[str, object]
_numbers = itertools.count()
QEMU = """#!/bin/sh
# a VM: "$2" is guest=NAME, the word after it says how it behaves
case "$3" in
deaf) trap '' TERM INT HUP; while :; do sleep 1; done;;
bomb) for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 600 & done; wait;;
stuck) printf x > "$FAKE_DISK";;
ghost) exec python3 -c 'import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).syscall(60, 0)';;
esac
exec sleep 600
"""


def why_not() -> str:
    """Why these tests cannot run here; "" if they can."""
    try:
        root = automatic()
    except CgroupTrouble as trouble:
        return trouble.sentence
    return "" if os.geteuid() == 0 and os.access(root.parent.parent, os.W_OK) else "needs root"


def until(true: Callable[[], object], what: str, timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.005)


class ProcessGuard:
    """See guard_kit.GuardBench; more of it is for the tests of processes."""

    def __init__(
        self, folder: Path, program: tuple[str, ...] | list[str] = (), **host: str
    ) -> None:
        self.program_words = program or ["-m", "outlast.guard"]
        self.run, self.etc = folder / "run", folder / "etc"
        self.run.mkdir()
        self.etc.mkdir()
        top = automatic().parent.parent / f"outlast-test-{os.getpid()}"
        self.subtree = top / str(next(_numbers))
        self.configure(**host)
        self.wrapper, self.qemu = folder / "emulator", folder / "qemu"
        self.qemu.write_text(QEMU)
        self.qemu.chmod(0o755)
        self.socket = self.run / "guard.sock"
        emulator.install(self.wrapper, socket=str(self.socket), qemu=str(self.qemu))
        self.client = GuardClient(self.socket, timeout_s=5)
        self.vms: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.log = folder / "log"
        self.pace = 1
        self.guard = self.launch()

    def configure(self, **host: str) -> None:
        part = {"reset": "none", "cgroup": str(self.subtree), **host}
        (self.etc / "host.json").write_text(json.dumps(part))

    # -- the guard -------------------------------------------------------------------------

    def launch(self) -> subprocess.Popen[bytes]:
        env = {
            **os.environ, "OUTLAST_RUN": str(self.run), "OUTLAST_ETC": str(self.etc),
            "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
        }  # fmt: skip
        with self.log.open("ab") as log:
            words = [word.format(run=self.run, etc=self.etc) for word in self.program_words]
            self.guard = subprocess.Popen([sys.executable, *words], env=env, stderr=log)
        until(self.answers, "the guard answers")
        return self.guard

    def answers(self) -> bool:
        assert self.guard.poll() is None, self.log.read_text()
        try:
            return self.client.status()["pid"] == self.guard.pid
        except GuardGone:
            return False

    def kill9(self) -> None:
        self.guard.send_signal(signal.SIGKILL)
        self.guard.wait()
        self.client.disconnect()

    def restart(self) -> None:
        self.kill9()
        self.launch()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.guard.send_signal(number)
        self.client.disconnect()
        return self.guard.wait(10)

    def ask(self, op: str, **fields: object) -> Reply:
        return self.client.ask(op, **fields)

    def reading(self) -> Reading:
        return Reading(
            time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW),
        )

    def wait(self, ns: int) -> None:
        time.sleep(ns * self.pace / 1e9)

    # -- VMs -------------------------------------------------------------------------------

    def start(self, vm: str, how: str = "") -> Reply:
        process = subprocess.Popen(
            [self.wrapper, "-name", f"guest={vm}", how], stderr=subprocess.PIPE
        )

        def settled() -> bool:
            return process.poll() is not None or self.program(process.pid) in (
                "qemu",
                "sleep",
                "python3",
            )

        until(settled, f"{vm} runs or was refused")
        if process.poll() is not None:
            assert process.stderr is not None
            return {"ok": False, "error": process.stderr.read().decode()}
        self.vms.append((vm, process))
        return {"ok": True}

    def boot(self, vm: str, how: str = "") -> None:
        """Admit and start a VM that nothing forbids."""
        assert self.ask("admit", vm=vm)["ok"]
        said = self.start(vm, how)
        assert said["ok"], said

    def program(self, pid: int) -> str:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/comm").read_text().strip()
        return ""

    def pids(self, vm: str) -> list[int]:
        with contextlib.suppress(OSError):
            return [int(w) for w in (self.subtree / vm / "cgroup.procs").read_text().split()]
        return []

    def alive(self, vm: str) -> int:
        return sum(process.poll() is None for name, process in self.vms if name == vm)

    def empty(self) -> bool:
        return "populated 0" in (self.subtree / "cgroup.events").read_text()

    def intrude(self, vm: str) -> None:
        (self.subtree / vm).mkdir(exist_ok=True)
        process = subprocess.Popen(["sleep", "600"])
        (self.subtree / vm / "cgroup.procs").write_text(str(process.pid))
        self.vms.append((vm, process))

    def clean(self) -> None:
        """Leave nothing behind, whatever the test did."""
        with contextlib.suppress(OSError):
            self.guard.send_signal(signal.SIGCONT)
            self.guard.kill()
        self.guard.wait(10)
        self.client.disconnect()
        for _, process in self.vms:
            process.kill()
        with contextlib.suppress(OSError):
            (self.subtree / "cgroup.kill").write_text("1")
        for _, process in self.vms:
            process.wait(10)
            if process.stderr:
                process.stderr.close()
        until(lambda: not self.subtree.exists() or self.empty(), "the subtree is empty")
        for folder in (*self.subtree.glob("*/"), self.subtree, self.subtree.parent):
            if folder.is_dir():
                with contextlib.suppress(OSError):
                    folder.rmdir()


class FakeWatchdog:
    """The hardware: counts down, and resets when it comes to zero."""

    def __init__(self, path: Path) -> None:
        self.device = f"testing:{path}"
        self.heard: list[str] = []
        self.fired_ns = 0
        self.bench: ProcessGuard | None = None
        self._left_s: float | None = None
        self._timeout_s = 0.0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._left_s is not None

    def _count(self) -> None:
        end: float | None = None
        while True:
            wait_s = None if end is None else max(0.0, end - time.monotonic())
            self._socket.settimeout(wait_s or (0.000001 if wait_s is not None else None))
            try:
                word = self._socket.recv(64).decode()
            except (TimeoutError, BlockingIOError):
                end = self._left_s = None
                self._fire()
                continue
            except OSError:
                return
            self.heard.append(word)
            if word == "stop":
                return
            if word.startswith("arm"):
                self._timeout_s = float(word.split()[1])
            end = None if word == "disarm" else time.monotonic() + self._timeout_s
            self._left_s = end

    def _fire(self) -> None:
        self.fired_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if self.bench:
            self.bench.guard.kill()
            (self.bench.subtree / "cgroup.kill").write_text("1")

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
            mouth.sendto(b"stop", self._socket.getsockname())
        self._thread.join(5)
        self._socket.close()
