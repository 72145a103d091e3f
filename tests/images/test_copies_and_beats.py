"""Copies of the pool's own leave room for heartbeats, on a real and slow disk.

The disk is a loop device whose writes the kernel holds to a rate; area and copy lie on one file
system. Rates are a sixtieth of a gigabit link's, and of the pool's own limit.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outlast.agent.copy_brake import LOOK_S, CopyBrake
from outlast.images import qemu_img
from outlast.images.pace import RATE_BYTES_S
from outlast.settings import PRESETS, S
from outlast.storage.heartbeat import HeartbeatFile

GIGABIT_BYTES_S, SCALE = 119 << 20, 60
GROUPS = Path("/sys/fs/cgroup/blkio")
SOURCE_MIB, BEAT_S = 8, 0.05
needs = pytest.mark.skipif(
    os.geteuid() != 0 or not GROUPS.is_dir(), reason="needs root and the controller blkio"
)


@pytest.fixture
def slow(pool_dir: Path, tmp_path: Path) -> Iterator[Path]:
    """The pool, with a heartbeat area, on such a disk; this process is held to its rate."""
    disk, group = tmp_path / "disk", GROUPS / f"outlast-test-{os.getpid()}"
    disk.touch()
    os.truncate(disk, 64 << 20)
    run("mke2fs", "-q", "-t", "ext4", disk)
    run("mount", "-o", "loop", disk, pool_dir)
    try:
        HeartbeatFile.create(pool_dir / "hb", "0" * 32)
        (pool_dir / "images").mkdir()
        device = pool_dir.stat().st_dev
        group.mkdir()
        (group / "blkio.throttle.write_bps_device").write_text(
            f"{os.major(device)}:{os.minor(device)} {GIGABIT_BYTES_S // SCALE}"
        )
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield pool_dir
    finally:
        (GROUPS / "cgroup.procs").write_text(str(os.getpid()))
        with contextlib.suppress(FileNotFoundError):
            group.rmdir()
        run("umount", pool_dir)


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def longest_beat_s(pool_dir: Path, copies: list[Callable[[], object]]) -> float:
    """Of those a host makes while these run at once; the agent's own brake looks at them."""
    done, took, sample = threading.Event(), [0.0], dict[str, int]()
    said = {"sample": sample, "view": {"members": dict.fromkeys(range(len(copies)))}}
    brake = CopyBrake(lambda: said, time.monotonic_ns, lambda: PRESETS["quick"])

    def beat() -> None:
        with HeartbeatFile(pool_dir / "hb", 1) as area:
            while not done.is_set():
                began = time.monotonic_ns()
                area.write_block(os.urandom(4096))
                area.read_all()
                ended = time.monotonic_ns()
                took.append((ended - began) / S)
                sample.update(seq=len(took), started_ns=began, finished_ns=ended)
                time.sleep(BEAT_S)

    def look() -> None:
        while not done.wait(LOOK_S):
            brake.look()

    watching = [threading.Thread(target=act) for act in (beat, look)]
    working = [threading.Thread(target=copy) for copy in copies]
    for thread in (*watching, *working):
        thread.start()
    for thread in working:
        thread.join()
    done.set()
    for thread in watching:
        thread.join()
    return max(took)


@needs
@pytest.mark.parametrize("count", [1, 8])
def test_copies_never_starve_the_heartbeat(slow: Path, tmp_path: Path, count: int) -> None:
    """A beat waits for one piece of each copy at most; careless copies let it wait for all."""
    disk = tmp_path / "disk.img"
    disk.write_bytes(os.urandom((SOURCE_MIB << 20) // count))

    def ours(number: int) -> None:
        target = slow / f"images/ours-{number}.qcow2"
        qemu_img.convert(disk, "raw", target, "qcow2", RATE_BYTES_S // SCALE, lambda _: None)

    def plain(number: int) -> None:
        target = slow / f"images/plain-{number}.qcow2"
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, target)
        qemu_img.sync(target)

    gentle, careless = (
        longest_beat_s(slow, [functools.partial(copy, number) for number in range(count)])
        for copy in (ours, plain)
    )
    print(f"{count} copies: longest beat {gentle:.2f} s, of careless ones {careless:.2f} s")
    assert 2 * gentle < careless
