"""What the product costs: processes that have nothing to do, and a lease that nobody contends."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from bench.figures import Figure, figure
from outlast.errors import OutlastError
from outlast.rack.lab import POOL, Lab
from outlast.storage.bench import BenchSwap, bench_swap

SERVICES = ("outlast-guard", "outlast-pulse", "outlast-agent")
VMS_OF_HOST = 10
CPU_GOAL, MEMORY_GOAL_MIB, LEASE_GOAL = 2.0, 100.0, 2.0
SETTLE_S = 5.0
CODE = """
import dataclasses, json, sys
from outlast.storage.bench import bench_swap
print(json.dumps(dataclasses.asdict(bench_swap(sys.argv[1], int(sys.argv[2])))))
"""


def pool_of_many(lab: Lab) -> None:
    """Ten quiet VMs on each host of a pool that has none."""
    vms = [f"i{n}" for n in range(1, VMS_OF_HOST * len(lab.hosts) + 1)]
    lab.create(vms, cmdline="ms=1000 lines=10")
    lab.wait_running(vms, 180)


def cost(lab: Lab, timing: str, seconds: float) -> list[Figure]:
    """Guard, pulse and agent of a host with ten VMs while nothing happens."""
    homes = [places[0][0] for places in lab.processes().values()]
    count, host = max((homes.count(name), name) for name in lab.hosts)
    pids = {name.split("-")[1]: lab.rack.service_pid(host, name) for name in SERVICES}
    time.sleep(SETTLE_S)
    before, begun = {n: cpu_ns(pid) for n, pid in pids.items()}, time.monotonic_ns()
    time.sleep(seconds)
    took_ns = time.monotonic_ns() - begun
    cpu = {n: 100 * (cpu_ns(pid) - before[n]) / took_ns for n, pid in pids.items()}
    pss = {n: pss_mib(pid) for n, pid in pids.items()}
    maps = [Path(f"/proc/{pid}/smaps").read_text() for pid in pids.values()]
    name = f"idle, {timing} timing:"
    return [
        figure(f"{name} CPU of a core", "%", [sum(cpu.values())], CPU_GOAL,
               f"{_shares(cpu, '%')}; {count} VMs here, over {seconds:g} s"),
        figure(f"{name} memory (PSS)", "MiB", [sum(pss.values())], MEMORY_GOAL_MIB,
               _shares(pss, "MiB")),
        figure(f"{name} memory without other hosts", "MiB", [alone_mib(maps)], MEMORY_GOAL_MIB),
    ]  # fmt: skip


def _shares(parts: Mapping[str, float], unit: str) -> str:
    return ", ".join(f"{name} {value:.2f} {unit}" for name, value in parts.items())


def cpu_ns(pid: int) -> int:
    """Processor time of all threads a process has had, by the kernel's own clock of it."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def pss_mib(pid: int) -> float:
    """Memory of a process, what it shares divided by those who share it."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def alone_mib(maps: list[str]) -> float:
    """Memory of some processes as if nobody else had their files in memory.

    maps: the text of each one's /proc/PID/smaps. What the hosts of a rack share is divided by their
    number in PSS; on a machine of its own a host has it all.
    """
    private_kib, files = 0, dict[str, int]()
    for text in maps:
        here, rss_kib = "", 0
        for line in text.splitlines():
            key, _, rest = line.partition(":")
            words = line.split()
            if not key.isalnum() and "_" not in key:  # the head of a mapping: a-b perms offset ...
                here = f"{words[2]} {words[5]}" if len(words) > 5 and words[4] != "0" else ""
            elif key == "Rss":
                rss_kib = int(rest.split()[0])
            elif key == "Anonymous":
                anonymous_kib = int(rest.split()[0]) if here else rss_kib
                private_kib += anonymous_kib
                files[here] = max(files.get(here, 0), rss_kib - anonymous_kib)
    return (private_kib + sum(files.values())) / 1024


def local_leases(folder: Path, rounds: int) -> list[Figure]:
    """On the file system of this machine's temporary files."""
    return _leases("local file system", bench_swap(folder, rounds))


def rack_leases(lab: Lab, rounds: int) -> list[Figure]:
    """On the rack's storage, from one of its hosts."""
    source = str(Path(sys.modules[Lab.__module__].__file__ or "").parent.parent.parent)
    argv = [sys.executable, "-c", CODE, POOL, str(rounds)]
    done = lab.rack.exec(lab.hosts[0], argv, timeout_s=120, env={"PYTHONPATH": source})
    if done.returncode:
        raise OutlastError(f"the lease bench failed: {done.stderr.strip()[-300:]}")
    said = json.loads(done.stdout)
    return _leases("rack's storage", BenchSwap(**said))


def _leases(where: str, result: BenchSwap) -> list[Figure]:
    remark = f"least, median and most of {result.rounds} interleaved pairs"
    return [
        figure(f"lease taken, {where}", "ms", result.swap_ms),
        figure("  bare create+fsync+link+fsync", "ms", result.bare_ms),
        figure("  lease over bare", "x", result.ratio, LEASE_GOAL, remark),
    ]
