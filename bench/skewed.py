"""Made-up pools for benchmarks and tests: unequal hosts, nine sizes of VM, badly spread.

The same arguments give the same pool. Hosts have 16 to 64 cores and 128 to 512 GiB; VMs 1 to 64
GiB. Memory is filled to `used` of the pool; a third of the hosts is full, the rest is not. Some
VMs are in groups of three that belong apart (and are); CPU load is uneven too.
"""

from __future__ import annotations

import random

from outlast.placement.picture import Group, GroupKind, Host, Picture, Vm

GIB = 1024
CORES = (16, 24, 32, 48, 64)
MEMORY_GIB = (128, 192, 256, 384, 512)
SIZES = ((1, 1), (2, 1), (4, 2), (6, 2), (8, 4), (12, 4), (16, 8), (32, 8), (64, 16))


def skewed(hosts: int, vms: int, used: float, seed: int = 1) -> Picture:
    """About `vms` VMs; sizes are drawn so that so many fill `used` of the memory."""
    dice = random.Random(seed)  # noqa: S311
    made = []
    for n in range(hosts):
        k = dice.randrange(5)
        made.append(Host(f"h{n:04}", MEMORY_GIB[k] * GIB, CORES[k]))
    total = sum(h.memory_mib for h in made)
    sizes = _sizes(dice, vms, int(total * used / GIB))
    free = [h.memory_mib // GIB for h in made]
    level = [1.0 if n % 3 == 0 else dice.uniform(0.55, 1.0) for n in range(hosts)]
    _scale(level, free, used)
    goal = [f * lv for f, lv in zip(free, level, strict=True)]
    got = [0] * hosts
    placed = []
    for n, (gib, vcpus) in enumerate(sorted(sizes, reverse=True)):
        fitting = [h for h in range(hosts) if free[h] - got[h] >= gib]
        if not fitting:
            continue
        few = dice.sample(fitting, min(4, len(fitting)))
        at = max(few, key=lambda h: goal[h] - got[h])
        if goal[at] - got[at] < gib:
            at = max(fitting, key=lambda h: goal[h] - got[h])
        got[at] += gib
        busy = vcpus * dice.choice((0.05, 0.1, 0.2, 0.3, 0.5))
        placed.append(Vm(f"vm{n:05}", gib * GIB, vcpus, made[at].name, round(busy, 3)))
    return Picture(tuple(made), tuple(placed), _groups(dice, placed))


def _sizes(dice: random.Random, vms: int, gib: int) -> list[tuple[int, int]]:
    sizes = [dice.choice(SIZES) for _ in range(vms)]
    sum_gib = sum(s[0] for s in sizes)
    for _ in range(20 * vms):  # one draw after the other, towards the sum
        if abs(sum_gib - gib) <= 8:
            break
        at, size = dice.randrange(vms), dice.choice(SIZES)
        change = size[0] - sizes[at][0]
        if abs(sum_gib + change - gib) < abs(sum_gib - gib):
            sizes[at] = size
            sum_gib += change
    return sizes


def _scale(level: list[float], free: list[int], used: float) -> None:
    """Moves the levels below 1 so that the pool is filled to `used`."""
    full = sum(f for f, lv in zip(free, level, strict=True) if lv == 1.0)
    rest = sum(f * lv for f, lv in zip(free, level, strict=True) if lv < 1.0)
    factor = (sum(free) * used - full) / rest if rest else 1.0
    for n, lv in enumerate(level):
        if lv < 1.0:
            level[n] = min(1.0, max(0.0, lv * factor))


def _groups(dice: random.Random, vms: list[Vm]) -> tuple[Group, ...]:
    drawn = dice.sample(vms, min(len(vms), len(vms) // 20 // 3 * 3))
    groups = []
    for n in range(0, len(drawn) - 2, 3):
        three = drawn[n : n + 3]
        if len({v.host for v in three}) == 3:
            groups.append(Group(f"g{n // 3}", GroupKind.APART, tuple(v.name for v in three)))
    return tuple(groups)
