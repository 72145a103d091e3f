"""How good and how fast placement is, in CPU seconds: `make bench-placement`.

Every plan is followed step by step by `plan.follow`, which knows nothing of how it was found. A row
that breaks a rule, makes more hosts unsafe or moves something the second time gives exit code 1; a
row that misses the goal of quality only says "good": false. "quick" is what a plan that is not
thorough comes to, as a master's own are; "least" is what no plan can go below
(least.py). `--large` adds 1,000 hosts with 40,000 VMs.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from random import Random
from typing import TypeVar

from bench.least import least_deviation
from bench.skewed import skewed
from outlast.placement.balance import balance
from outlast.placement.choose import answer, best_host
from outlast.placement.evacuate import evacuate
from outlast.placement.fit import broken
from outlast.placement.layout import Layout
from outlast.placement.picture import Picture, Vm
from outlast.placement.plan import follow
from outlast.placement.spare import every, unsafe

T = TypeVar("T")
SIZES = ((10, 100), (20, 400), (30, 600), (64, 2000))
USED = (0.70, 0.93)
DEVIATION_MAX, MOVED_MAX = 0.02, 0.30
PLACED = 50


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.process_time()
    result = work()
    return result, time.process_time() - began


def quality(hosts: int, vms: int, used: float, seed: int = 1) -> dict[str, object]:
    """One row: a skewed pool before and after its balancing plan."""
    pool = skewed(hosts, vms, used, seed)
    before = unsafe(pool)
    plan, cpu_s = timed(lambda: balance(pool, Random(1)))  # noqa: S311
    after = follow(pool, plan.moves)  # raises at the first step that breaks a hard rule
    again = balance(after)
    quick = balance(pool)
    memory = sum(h.memory_mib for h in pool.hosts)
    left = unsafe(after)
    row: dict[str, object] = {
        "hosts": hosts, "vms": len(pool.vms), "used": used, "before": round(plan.before, 4),
        "quick": round(quick.after, 4), "after": round(plan.after, 4),
        "moves": len(plan.moves), "again": len(again.moves),
        "least": round(least_deviation(pool), 4),
        "moved": round(plan.mib / memory, 3), "unsafe_before": len(before),
        "unsafe_after": len(left), "unsafe_if_even": doomed(pool),
        "violations": len(broken(Layout(after))),
        "cpu_s": round(cpu_s, 2),
    }  # fmt: skip
    row["sound"] = not row["violations"] and len(left) <= len(before) and not again.moves
    row["good"] = (
        plan.after <= DEVIATION_MAX and plan.mib <= MOVED_MAX * memory
        and not row["violations"] and len(left) <= len(before)
    )  # fmt: skip
    return row


def doomed(pool: Picture) -> int:
    """Hosts that cannot be N-1 safe once all are used alike: the others lack the memory."""
    layout = Layout(pool)
    share, _ = layout.pool_shares()
    total = sum(layout.cap_mib)
    return sum(cap * share > (total - cap) * (1 - share) for cap in layout.cap_mib)


def speed(pool: Picture, *, checks: bool) -> dict[str, object]:
    """CPU seconds of each question; placing is the mean of several VMs."""
    layout, index_s = timed(lambda: Layout(pool))
    new = [Vm(f"new{n}", 4096 * (1 + n % 4), 2) for n in range(PLACED)]
    grown = Layout(Picture(pool.hosts, (*pool.vms, *new), pool.groups, pool.policy))
    fresh = range(len(pool.vms), len(pool.vms) + PLACED)
    _, place_s = timed(lambda: [best_host(grown, vm) for vm in fresh])
    _, reasons_s = timed(lambda: [answer(grown, vm).why for vm in fresh])
    busiest = max(range(len(pool.hosts)), key=lambda h: len(layout.on[h]))
    _, evacuate_s = timed(lambda: evacuate(pool, pool.hosts[busiest].name))
    plan, plan_s = timed(lambda: balance(pool))
    row: dict[str, object] = {
        "hosts": len(pool.hosts), "vms": len(pool.vms), "index_ms": round(index_s * 1e3, 1),
        "place_ms": round(place_s / PLACED * 1e3, 3),
        "place_with_reasons_ms": round(reasons_s / PLACED * 1e3, 3),
        "evacuate_s": round(evacuate_s, 3), "plan_s": round(plan_s, 2),
        "moves": len(plan.moves), "deviation": [round(plan.before, 4), round(plan.after, 4)],
    }  # fmt: skip
    if checks:
        row["n1_all_hosts_s"] = round(timed(lambda: every(pool))[1], 3)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="also 1,000 hosts, 40,000 VMs")
    chosen = parser.parse_args()
    say(f"# Python {platform.python_version()}, {platform.machine()}, CPU seconds")
    rows = []
    for hosts, vms in SIZES:
        for used in USED:
            rows.append(quality(hosts, vms, used))
            say(json.dumps(rows[-1]))
    for used in USED:
        say(json.dumps(speed(skewed(64, 2000, used), checks=True)))
    if chosen.large:
        say(json.dumps(speed(skewed(1000, 40000, 0.70), checks=False)))
    return 0 if all(r["sound"] for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
