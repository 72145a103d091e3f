"""Instants of things that happen to VMs, taken from the machine itself, on CLOCK_MONOTONIC.

Looking must cost less than what is looked at: only what has been added to a log is read, and only
processes that were not there before.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from outlast.errors import TimedOut
from outlast.rack.lab import DISK, KERNEL, POOL, Lab
from outlast.wire.sizes import parse_size

POLL_S = 0.005
BOOT = b"BOOT "  # how a guest's first line begins
BARE_S = 20.0
NOTE_S = 5.0  # a note is written by a thread that may be late
# tells the moment before it becomes the program
TIMED = "import os, sys, time; os.write(1, b'%d' % time.monotonic_ns()); os.execvp(sys.argv[1], sys.argv[1:])"  # noqa: E501


def until(happened: Callable[[], bool], timeout_s: float, what: str) -> float:
    """The instant at which it was first seen. Raises TimedOut."""
    end = time.monotonic() + timeout_s
    while True:
        if happened():
            return time.monotonic()
        if time.monotonic() > end:
            raise TimedOut(f"after {timeout_s:g} s: {what}")
        time.sleep(POLL_S)


class SerialLog:
    """Sees the first lines of boots that are written from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = path.stat().st_size if path.exists() else 0
        self._rest = b""  # a first line may come in two pieces

    def spoke(self) -> bool:
        """True when a first line has come since the last call."""
        try:
            if self._path.stat().st_size <= self._at:
                return False
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return False
        self._at += len(data)
        text = self._rest + data
        self._rest = text[-(len(BOOT) - 1) :]
        return BOOT in text


class Newcomers:
    """Processes that began after watching did."""

    def __init__(self) -> None:
        self._old = _pids()

    def qemu(self, vm: str) -> bool:
        """True when one of them is the QEMU of this VM (the wrapper before it does not count)."""
        mark = f"guest={vm}".encode()
        for pid in _pids() - self._old:
            try:
                argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"qemu-system" in argv[0] and any(a.split(b",")[0] == mark for a in argv):
                return True
        return False


def _pids() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208 - faster


def serial_logs(lab: Lab, vms: list[str]) -> dict[str, SerialLog]:
    return {vm: SerialLog(lab.pool_dir / "logs" / f"{vm}.log") for vm in vms}


def first_lines(logs: Mapping[str, SerialLog], timeout_s: float) -> dict[str, float]:
    """The instant of each VM's next first line. Raises TimedOut naming those without."""
    found: dict[str, float] = {}

    def look() -> bool:
        for vm, log in logs.items():
            if vm not in found and log.spoke():
                found[vm] = time.monotonic()
        return len(found) == len(logs)

    try:
        until(look, timeout_s, "")
    except TimedOut as late:
        missing = ", ".join(sorted(set(logs) - set(found)))
        raise TimedOut(f"{late.sentence}no first line of {missing}") from None
    return found


def bare_boot(lab: Lab, host: str) -> float:
    """Seconds from the start of a plain QEMU in this host to its guest's first console line.

    The same guest as the VMs', with a disk of its own on the same storage.
    """
    disk, log = lab.pool_dir / "images" / "bare.raw", lab.pool_dir / "logs" / "bare.log"
    log.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(parse_size(DISK))
    argv = [
        "python3", "-ISc", TIMED,
        "qemu-system-x86_64", "-accel", "tcg", "-machine", "pc", "-cpu", "qemu64", "-m", "8",
        "-display", "none", "-nodefaults", "-kernel", f"{POOL}/images/{KERNEL}",
        "-append", "ms=100", "-serial", f"file:{POOL}/logs/{log.name}",
        "-drive", f"file={POOL}/images/{disk.name},format=raw,if=virtio,cache=none",
    ]  # fmt: skip
    serial = SerialLog(log)
    reader, writer = os.pipe()
    with open(reader, "rb") as told, open(writer, "wb") as mouth:
        process = lab.rack.popen(
            host, argv, start_new_session=True, stdin=subprocess.DEVNULL, stdout=mouth
        )
        try:
            seen = until(serial.spoke, BARE_S, "a bare QEMU said nothing")
            return seen - int(os.read(told.fileno(), 64)) / 1e9
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Clock:
    """One instant on both clocks: notes tell wall time, all else is CLOCK_MONOTONIC."""

    def __init__(self) -> None:
        self.wall_s, self.monotonic_s = time.time(), time.monotonic()

    def noted(self, lab: Lab, code: str, vm: str = "") -> float:
        """Seconds from this instant to the first such note of any host.

        Raises TimedOut when there is none.
        """
        found: list[float] = []

        def look() -> bool:
            found.extend(
                entry["wall_s"] - self.wall_s
                for path in (lab.pool_dir / "journal").glob("*.jsonl")
                for entry in _entries(path)
                if entry["code"] == code and vm in ("", entry["fields"].get("vm"))
                if entry["wall_s"] >= self.wall_s
            )
            return bool(found)

        until(look, NOTE_S, f"no note {code} {vm}".rstrip())
        return min(found)


def _entries(path: Path) -> list[dict[str, Any]]:
    entries = []
    for line in path.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):  # the last one may be half written
            entries.append(json.loads(line))
    return entries


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
