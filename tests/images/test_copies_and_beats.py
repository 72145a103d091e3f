"""A copy of the pool's own leaves room for heartbeats, on a real and slow disk.

The disk is a loop device whose writes the kernel holds to a rate; area and copy lie on one file
system. Rates are a sixtieth of a gigabit link's, and of the pool's own limit.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outlast.images import qemu_img
from outlast.images.pace import RATE_BYTES_S
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


def longest_beat_s(pool_dir: Path, copy: Callable[[], object]) -> float:
    """Of those a host makes while this is copied."""
    done, took = threading.Event(), [0.0]

    def beat() -> None:
        with HeartbeatFile(pool_dir / "hb", 1) as area:
            while not done.is_set():
                began = time.monotonic()
                area.write_block(os.urandom(4096))
                area.read_all()
                took.append(time.monotonic() - began)
                time.sleep(BEAT_S)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        copy()
    finally:
        done.set()
        beating.join()
    return max(took)


@needs
def test_a_copy_never_starves_the_heartbeat(
    slow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A beat waits for one piece of the copy at most; a careless copy lets it wait for all."""
    disk = tmp_path / "disk.img"
    disk.write_bytes(os.urandom(SOURCE_MIB << 20))

    def copy(rate_bytes_s: int) -> None:
        target = slow / f"images/{rate_bytes_s}.qcow2"
        qemu_img.convert(disk, "raw", target, "qcow2", rate_bytes_s, lambda _: None)

    gentle = longest_beat_s(slow, lambda: copy(RATE_BYTES_S // SCALE))
    monkeypatch.setattr(qemu_img, "takes_direct", lambda _path: False)
    careless = longest_beat_s(slow, lambda: copy(0))
    assert 2 * gentle < careless
