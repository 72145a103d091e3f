"""Is anybody taken for dead who lives, and how soon is a cut acted on? `make bench-detection`.

Simulated, with the product's own cores and the timing `standard`:
1. A large pool for hours, while its network loses a share of all beats, a storage cycle takes up to
   0.6 of what may happen twice in a row (half of F), and hosts stand still for a second again and
   again. Counted are hosts that are called silent or lose their term: there should be none.
2. Many small pools of which one host is cut off at a random instant: how long until the others have
   a view without it, beyond what is waited on purpose (links count as down, then the grace).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from statistics import median

from outlast.pool.journal import Note
from outlast.settings import MS, S, preset
from outlast.sim.pool import SimPool
from outlast.storage import format as fmt

TIMING = "standard"
LATE_SHARE = 0.6
PAUSE_S, PAUSE_EVERY_S = 1.0, 20.0
WRONG = ("host-silent", "storm-brake", "not-member")
SLICE_S = 30.0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def calm(hosts: int, hours: float, loss: float) -> bool:
    """Part 1; True when nobody was taken for dead."""
    told: Counter[str] = Counter()

    def tell(_host: str, note: Note) -> None:
        told[note.code] += 1

    names = [f"h{n}" for n in range(1, hosts + 1)]
    pool = SimPool(1, names, [f"vm{n}" for n in range(hosts)], timing=TIMING, tell=tell)
    pool.start()
    pool.run(60)
    told.clear()
    world, chance = pool.world, random.Random(1)  # noqa: S311 - a simulation
    world.loss = loss
    fence_ns = preset(TIMING).fence_ns
    late_ns = round(LATE_SHARE * fence_ns / 2)
    world.latency_ns = (1 * MS, late_ns // 4)  # a cycle waits four times
    begun, seconds, pauses = time.process_time(), hours * 3600, 0
    for _ in range(round(seconds / SLICE_S)):
        for host in chance.sample(names, round(hosts * SLICE_S / PAUSE_EVERY_S) % hosts or 1):
            pauses += 1
            machine = pool.host(host)
            machine.frozen = True
            world.after(round(PAUSE_S * S), lambda m=machine: setattr(m, "frozen", False))  # type: ignore[misc]
            pool.run(SLICE_S / hosts / 2)
        pool.run(SLICE_S / 2)
    cpu_s = time.process_time() - begun
    wrong = {code: told[code] for code in WRONG if told[code]}
    say(f"{hosts} hosts, {hours:g} h, {loss:.0%} of beats lost, storage up to "
        f"{late_ns / S:g} s late, {pauses} pauses of {PAUSE_S:g} s: "
        f"taken for dead: {wrong or 'nobody'}; view {_view(pool)}; {cpu_s:.0f} CPU s")  # fmt: skip
    return not wrong


def _view(pool: SimPool) -> int:
    return pool.world.disk.version("view")


def cuts(runs: int) -> bool:
    """Part 2; True when 99 of 100 are within one beat of what is waited on purpose."""
    timing = preset(TIMING)
    waited_s = (timing.link_lost_ns + timing.partition_grace_ns) / S
    late: list[float] = []
    for seed in range(runs):
        names = "abcde"[: 3 + seed % 3]
        pool = SimPool(seed, names, ["vm1", "vm2"], timing=TIMING)
        pool.start()
        pool.run(20 + seed % 17 / 7)
        lone, cut_ns = names[seed % len(names)], pool.world.now_ns
        for other in names:
            if other != lone:
                pool.world.link(lone, other, False)
        while lone in _members(pool):
            pool.run(0.05)
            if pool.world.now_ns - cut_ns > 4 * waited_s * S:
                break
        late.append((pool.world.now_ns - cut_ns) / S - waited_s)
    late.sort()
    p99 = late[min(len(late) - 1, int(len(late) * 0.99))]
    beat_s = timing.beat_ns / S
    say(f"{runs} cuts: a view without the host {waited_s:g} s (links down, then the grace) and "
        f"{late[0]:.2f} / {median(late):.2f} / {p99:.2f} / {late[-1]:.2f} s after it "
        f"(least, median, 99 %, most; a beat is {beat_s:g} s)")  # fmt: skip
    return p99 <= beat_s


def _members(pool: SimPool) -> set[str]:
    version = _view(pool)
    view = fmt.view_from(pool.world.disk.value("view", version))
    return {member.host for member in view.members.values()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=64)
    parser.add_argument("--hours", type=float, default=1.0, help="24 take half an hour of CPU time")
    parser.add_argument("--loss", type=float, default=0.2)
    parser.add_argument("--cuts", type=int, default=200)
    args = parser.parse_args()
    good = [calm(args.hosts, args.hours, args.loss)] if args.hours else []
    good += [cuts(args.cuts)] if args.cuts else []
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
