"""How long VMs are away when things die, and what the product costs while nothing happens.

    python -m bench.failover [--rounds N] [--quick] [--json FILE]        (as root; minutes)

Everything is measured on a rack of real processes, the bare values in the same run. Instants are
taken from serial logs and the machine's process list, not from the product. See
docs/operating/measurements.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import watch
from bench.figures import Figure, figure, table
from outlast.errors import OutlastError
from outlast.rack.lab import Lab
from outlast.settings import S, preset
from outlast.storage.probe import bench_swap

T_DEAD_S = preset("lab").dead_ns / S
MANY = 30
SERVICES = ("outlast-guard", "outlast-pulse", "outlast-agent")


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def failover(lab: Lab, rounds: int) -> list[Figure]:
    """Power cut to first console line elsewhere, less T_dead, less the bare boot."""
    bare, over, whole = [], [], []
    for number in range(rounds):
        say(f"  power cut {number + 1} of {rounds}")
        bare.append(watch.bare_boot(lab, lab.folder))
        host = lab.where("vm1")
        (away_s,) = watch.next_boots(lab, ["vm1"], 60, lambda h=host: lab.rack.power(h, "off"))  # type: ignore[misc]
        whole.append(away_s)
        over.append(away_s - T_DEAD_S - bare[-1])
        lab.rack.power(host, "on")
        lab.wait_members(lab.hosts)
        lab.wait_running(lab.vms)
    return [
        figure("bare boot to first line", "s", bare),
        figure("power cut to first line elsewhere", "s", whole),
        figure("the same less T_dead and bare boot", "s", over, 1.0),
    ]


def restart(lab: Lab, rounds: int) -> list[Figure]:
    """kill -9 of a QEMU until another one of that VM exists."""
    begun, back = [], []
    for number in range(rounds):
        vm = lab.vms[number % len(lab.vms)]
        _, pid = lab.processes()[vm][0]
        log = lab.pool_dir / "logs" / f"{vm}.log"
        before, killed = watch.boots(log), time.monotonic()
        lab.kill_qemu(vm)
        begun.append(watch.new_qemu(vm, pid, 20) - killed)
        seen = watch.until(lambda p=log, b=before: watch.boots(p) > b, 20, vm)  # type: ignore[misc]
        back.append(seen - killed)
        lab.wait_running([vm])
        time.sleep(0.3)
    return [
        figure("QEMU killed until its restart is begun", "s", begun, 0.5),
        figure("QEMU killed to first line", "s", back),
    ]


def many(folder: Path, count: int) -> list[Figure]:
    """All VMs of a host with many small ones, running again elsewhere."""
    with Lab(folder) as lab:
        lab.begin(hosts=3, leashed=True)
        for host in ("a", "c"):
            lab.rack.power(host, "off")
        lab.hosts = ["b"]
        lab.wait(lambda: len(lab.client().status().hosts) > 0, 30, "b does not answer")
        vms = [f"m{n}" for n in range(1, count + 1)]
        lab.create(vms, cmdline="ms=1000 quiet")
        lab.wait_running(vms, 120)
        lab.hosts = ["a", "b", "c"]
        for host in ("a", "c"):
            lab.rack.power(host, "on")
        lab.wait_members(lab.hosts)
        time.sleep(2)
        lab.hosts = ["a", "c"]
        away = watch.next_boots(lab, vms, 120, lambda: lab.rack.power("b", "off"))
        return [
            figure(f"all {count} VMs of a host again, after the cut", "s", [max(away)],
                   T_DEAD_S + 10),
            figure(f"each of the {count}", "s", away),
        ]  # fmt: skip


def cost(folder: Path, timing: str, seconds: float, goals: bool) -> list[Figure]:
    """Guard, pulse and agent of a host with ten VMs, while nothing happens."""
    with Lab(folder) as lab:
        lab.begin(hosts=3, preset=timing, leashed=True)
        vms = [f"i{n}" for n in range(1, 31)]
        lab.create(vms, cmdline="ms=1000 quiet")
        lab.wait_running(vms, 180)
        time.sleep(5)
        pids = {name: lab.rack.service_pid("b", name) for name in SERVICES}
        cpu, pss = watch.idle(pids, seconds)
    parts = ", ".join(f"{n.removeprefix('outlast-')} {cpu[n]:.2f} % {pss[n]:.0f} MiB" for n in pids)
    return [
        figure(f"idle, {timing}: CPU of a core", "%", [sum(cpu.values())],
               2.0 if goals else None, parts),
        figure(f"idle, {timing}: memory (PSS)", "MiB", [sum(pss.values())], 100.0),
    ]  # fmt: skip


def lease(folder: Path, rounds: int) -> list[Figure]:
    """Taking a free lease against the bare steps of it on the same file system."""
    result = bench_swap(folder, rounds)
    remark = f"least, median and most of {result.rounds} interleaved pairs"
    return [
        figure("lease taken", "ms", result.swap_ms),
        figure("bare create+fsync+link+fsync", "ms", result.bare_ms),
        figure("lease over bare", "x", result.ratio, 2.0, remark),
    ]


def measure(folder: Path, rounds: int, quick: bool) -> list[Figure]:
    figures: list[Figure] = []

    def part(words: str, run: Callable[[], list[Figure]]) -> None:
        say(f"{words} (load {os.getloadavg()[0]:.1f})")
        figures.extend(run())

    part("leases", lambda: lease(folder, 100 if quick else 300))
    with Lab(folder / "r1") as lab:
        lab.begin(hosts=3, leashed=True)
        lab.create([f"vm{n}" for n in range(1, 7)])
        lab.wait_running(lab.vms)
        part("killed QEMUs", lambda: restart(lab, 4 if quick else 2 * rounds))
        part("power cuts", lambda: failover(lab, 2 if quick else rounds))
    part("a host with many VMs", lambda: many(folder / "r2", 10 if quick else MANY))
    for timing, goals in (("standard", True), ("lab", False)):
        words = f"idle cost, {timing} timing"
        seconds = 10 if quick else 30
        part(words, lambda t=timing, g=goals, s=seconds: cost(folder / t, t, s, g))  # type: ignore[misc]
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="fewer of everything")
    parser.add_argument("--json", type=Path, default=Path("build/failover.json"))
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="outlast-bench-") as folder:
            figures = measure(Path(folder), args.rounds, args.quick)
    except OutlastError as trouble:
        say(f"{trouble.sentence}{f' ({trouble.hint})' if trouble.hint else ''}")
        return trouble.exit_code
    sys.stdout.write(table(figures) + "\n")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps([f.json() for f in figures], indent=1) + "\n")
    say(f"written to {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
