"""Many hosts copy onto one slow disk, and no beat comes late: the real rules in pretended time.

The disk carries out one request after the other, at so many bytes a second. It is the slowest that
may carry a pool of so many hosts: when all of them beat at once, a beat takes half its interval.
`outlast storage probe` admits no slower one (probe.py). So half of it is left for copies.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Generator
from dataclasses import dataclass, field

import pytest

from outlast.agent.copy_brake import LOOK_S
from outlast.hypervisor.libvirt_disks import BUFFER_BYTES
from outlast.images.pace import RATE_BYTES_S, Duty, Throttle
from outlast.images.share import PIECE_MOST, Share, judged
from outlast.model import SLOT_MAX
from outlast.settings import PRESETS, S, Timing
from outlast.storage.format import BLOCK_SIZE

BEAT = (BLOCK_SIZE, BLOCK_SIZE, SLOT_MAX * BLOCK_SIZE)  # read the own block, write it, read all
BEATS = 90
QEMU_TICK_S = 0.1
REAL = sorted(set(PRESETS) - {"lab"})  # `lab` is for one machine alone

Process = Generator[tuple[str, float], None, None]  # ("wait", seconds) or ("disk", bytes)


def slowest_bytes_s(timing: Timing, hosts: int) -> float:
    return hosts * sum(BEAT) / (timing.beat_ns / S / 2)


@dataclass
class World:
    """Time, and a disk with one queue."""

    bytes_s: float
    now_s: float = 0.0
    free_s: float = 0.0  # when the disk has nothing to do any more
    due: list[tuple[float, int, Process]] = field(default_factory=list)
    count: int = 0

    def begin(self, process: Process, at_s: float) -> None:
        self.count += 1
        heapq.heappush(self.due, (at_s, self.count, process))

    def run(self, until_s: float) -> None:
        while self.due and self.due[0][0] < until_s:
            self.now_s, _, process = heapq.heappop(self.due)
            what, much = next(process)
            if what == "disk":
                self.free_s = max(self.free_s, self.now_s) + much / self.bytes_s
                self.begin(process, self.free_s)
            else:
                self.begin(process, self.now_s + much)


class Host:
    def __init__(
        self, world: World, timing: Timing, chance: random.Random, hosts: int
    ) -> None:  # fmt: skip
        self._world, self._timing, self._chance = world, timing, chance
        self._hosts = hosts
        self.sample = {"started_ns": 0, "finished_ns": 0, "seq": 0}
        self.share = Share()
        self.copied = self.on_way = 0
        self.gaps_s: list[float] = []  # from the begin of a beat to the end of the next one

    def beats(self) -> Process:
        beat_s = self._timing.beat_ns / S
        while True:
            began = self._world.now_s
            for size in BEAT:
                yield "disk", size
            ended = self._world.now_s
            if self.sample["started_ns"]:
                self.gaps_s.append(ended - self.sample["started_ns"] / S)
            seq = self.sample["seq"] + 1
            self.sample = {"started_ns": round(began * S), "finished_ns": round(ended * S),
                           "seq": seq}  # fmt: skip
            yield "wait", max(0.0, began + beat_s - ended)

    def looks(self) -> Process:
        while True:
            now_ns = round(self._world.now_s * S)
            self.share = judged(self.share, self.sample, now_ns, self._timing, self._hosts)
            yield "wait", LOOK_S

    def copies(self, heeds: bool) -> Process:
        """A program that copies piece by piece, at the default rate at most."""
        duty = Duty(self._chance.random())
        piece = self.share.piece_bytes if heeds else PIECE_MOST
        while True:
            runs, wait_s = duty.look(self.share.value if heeds else 1.0, self._world.now_s)
            if not runs:
                yield "wait", wait_s
                continue
            began = self._world.now_s
            yield "disk", piece
            self.copied += piece
            yield "wait", max(0.0, began + piece / RATE_BYTES_S - self._world.now_s)

    def copies_of_qemu(self, ways: int, piece: int) -> Process:
        """A VM's own QEMU copies: as fast as it is told, whether or not what it wrote has arrived;
        up to so many pieces on their way."""
        throttle, budget, ticks = Throttle(RATE_BYTES_S, self._world.now_s), 1.0, 0
        while True:
            while budget > 0 and self.on_way < ways:
                self.on_way, budget = self.on_way + 1, budget - piece
                self._world.begin(self._piece_of_qemu(piece), self._world.now_s)
            yield "wait", QEMU_TICK_S
            budget, ticks = min(1.0, budget) + throttle.bytes_s * QEMU_TICK_S, ticks + 1
            if ticks % 3 == 0:  # as often as the agent looks
                done = self.copied if ways > 1 else None
                throttle.look(self.share.value, self._world.now_s, done)

    def _piece_of_qemu(self, piece: int) -> Process:
        yield "disk", piece
        self.on_way -= 1
        self.copied += piece
        yield "wait", 1e9


def played(
    preset: str, hosts: int, *, heeds: bool = True, faster: float = 1.0,
    qemu: tuple[int, int] | None = None,
) -> tuple[World, list[Host]]:  # fmt: skip
    """qemu: VMs' own QEMUs copy, each with so many pieces of this size on their way."""
    timing, chance = PRESETS[preset], random.Random(7)
    world = World(faster * slowest_bytes_s(timing, hosts))
    all_ = [Host(world, timing, chance, hosts) for _ in range(hosts)]
    beat_s = timing.beat_ns / S
    for host in all_:
        world.begin(host.beats(), chance.random() * beat_s)
        world.begin(host.looks(), chance.random() * LOOK_S)
        copies = host.copies_of_qemu(*qemu) if qemu else host.copies(heeds)
        world.begin(copies, 10 * beat_s)  # all at once
    world.run(BEATS * beat_s)
    return world, all_


def longest_s(hosts: list[Host]) -> float:
    return max(gap for host in hosts for gap in host.gaps_s)


def least_part(hosts: list[Host]) -> float:
    """What the one that got least has copied, of what the one that got most has."""
    copied = [host.copied for host in hosts]
    return min(copied) / max(copied)


def part_of_disk(world: World, hosts: list[Host]) -> float:
    could = min(world.bytes_s, len(hosts) * RATE_BYTES_S)
    return sum(host.copied for host in hosts) / could / world.now_s


@pytest.mark.parametrize("hosts", [1, 12])
@pytest.mark.parametrize("preset", REAL)
def test_beats_are_never_so_late_that_the_pool_would_notice(preset: str, hosts: int) -> None:
    """Until H nothing of the protocol minds; until F no VM ends."""
    for faster, least, part in ((1, 0.05, 0.05), (4, 0.4, 0.5)):
        world, all_ = played(preset, hosts, faster=faster)
        assert longest_s(all_) * S <= PRESETS[preset].hang_ns
        assert least_part(all_) >= least
        assert part_of_disk(world, all_) >= part


@pytest.mark.parametrize("hosts", [1, 6])
@pytest.mark.parametrize("preset", REAL)
@pytest.mark.parametrize("qemu", [(1, BUFFER_BYTES), (64, 1 << 20)], ids=["mirror", "backup"])
def test_copies_of_running_vms_stay_far_from_the_fence(
    preset: str, hosts: int, qemu: tuple[int, int]
) -> None:
    """QEMU itself says how large its pieces are; so these may be noticed, and end no VM."""
    for faster in (1, 4):
        world, all_ = played(preset, hosts, faster=faster, qemu=qemu)
        assert longest_s(all_) * S <= PRESETS[preset].fence_ns / 2
        assert least_part(all_) >= 0.2
        assert part_of_disk(world, all_) >= 0.2


def test_without_these_rules_the_beats_would_wait() -> None:
    _, all_ = played("standard", 8, heeds=False)
    assert longest_s(all_) * S > 2 * PRESETS["standard"].hang_ns
