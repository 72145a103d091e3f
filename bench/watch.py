"""Instants of things that happen to VMs, taken from the machine itself, on CLOCK_MONOTONIC."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from outlast.errors import TimedOut
from outlast.rack.lab import Lab

POLL_S = 0.005
BOOT = b"BOOT "


def until(happened: Callable[[], bool], timeout_s: float, what: str) -> float:
    """The instant at which it was first seen. Raises TimedOut."""
    end = time.monotonic() + timeout_s
    while True:
        if happened():
            return time.monotonic()
        if time.monotonic() > end:
            raise TimedOut(f"after {timeout_s:g} s: {what}")
        time.sleep(POLL_S)


def boots(path: Path) -> int:
    """How many first console lines a serial log holds."""
    try:
        return path.read_bytes().count(BOOT)
    except FileNotFoundError:
        return 0


def next_boots(
    lab: Lab, vms: list[str], timeout_s: float, act: Callable[[], object]
) -> list[float]:
    """Seconds from the beginning of `act` to each VM's next first console line."""
    logs = {vm: lab.pool_dir / "logs" / f"{vm}.log" for vm in vms}
    sizes = {vm: path.stat().st_size for vm, path in logs.items()}
    found: dict[str, float] = {}
    begun = time.monotonic()
    act()

    def look() -> bool:
        for vm, path in logs.items():
            if vm in found or path.stat().st_size == sizes[vm]:
                continue  # looking must cost less than what is looked at
            with path.open("rb") as file:
                file.seek(max(0, sizes[vm] - len(BOOT)))
                if BOOT in file.read():
                    found[vm] = time.monotonic() - begun
        return len(found) == len(vms)

    until(look, timeout_s, f"{len(vms) - len(found)} VMs did not come up")
    return list(found.values())


def bare_boot(lab: Lab, folder: Path) -> float:
    """Seconds from the start of a plain QEMU to the same VM's first console line."""
    disk, log = folder / "bare.raw", folder / "bare.log"
    log.unlink(missing_ok=True)
    disk.write_bytes(b"")
    with disk.open("r+b") as file:
        file.truncate(4 << 20)
    kernel = lab.pool_dir / "images" / "pulsar.elf"
    argv = [
        "qemu-system-x86_64", "-accel", "tcg", "-machine", "pc", "-cpu", "qemu64", "-m", "8",
        "-display", "none", "-nodefaults", "-kernel", str(kernel), "-append", "ms=100",
        "-drive", f"file={disk},format=raw,if=virtio,cache=none", "-serial", f"file:{log}",
    ]  # fmt: skip
    begun = time.monotonic()
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as qemu:
        try:
            return until(lambda: boots(log) > 0, 20, "a bare QEMU said nothing") - begun
        finally:
            qemu.kill()


def new_qemu(vm: str, old_pid: int, timeout_s: float) -> float:
    """The instant at which another QEMU of this VM exists on the machine."""
    mark = f"guest={vm}".encode()

    def there() -> bool:
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == old_pid:
                continue
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            argument = line.split(b"\0")
            if b"qemu-system" in argument[0] and any(a.split(b",")[0] == mark for a in argument):
                return True
        return False

    return until(there, timeout_s, f"no new QEMU of {vm}")


def cpu_s(pid: int) -> float:
    """Processor seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def pss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def idle(pids: Mapping[str, int], seconds: float) -> tuple[dict[str, float], dict[str, float]]:
    """(percent of a core, MiB PSS) of each process over a while of doing nothing."""
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    time.sleep(seconds)
    cpu = {name: 100 * (cpu_s(pid) - before[name]) / seconds for name, pid in pids.items()}
    return cpu, {name: pss_mib(pid) for name, pid in pids.items()}
