"""A whole pool for each file of tests: three hosts, six real VMs, a ledger at the end.

Whatever a test did, the disks must prove that no VM ever had two writers and lost nothing.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from evidence import Story, settle, unsound
from healing import restore

from outlast.errors import OutlastError
from outlast.rack.lab import Lab

VMS = [f"vm{n}" for n in range(1, 7)]


def begin(lab: Lab, vms: list[str]) -> None:
    began = time.monotonic()
    lab.begin(hosts=3, leashed=True)
    lab.create(vms)
    lab.wait_running(vms)
    settle(lab, vms)
    print(f"pool of {len(vms)} VMs up in {time.monotonic() - began:.1f} s")


@pytest.fixture(scope="module")
def pool(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Three hosts that are members, six VMs that run.

    ROOM_MIB in a module: the pool's storage has no more room than that.
    """
    folder = request.getfixturevalue("tmp_path_factory").mktemp("whole")
    with small_disk(folder / "pool", getattr(request.module, "ROOM_MIB", 0)), Lab(folder) as lab:
        begin(lab, VMS)
        yield lab


@contextlib.contextmanager
def small_disk(path: Path, size_mib: int) -> Iterator[None]:
    """A file system of this size at this place; 0: none."""
    if size_mib:
        path.mkdir()
        size = f"size={size_mib}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "outlast-test", path], check=True)
    try:
        yield
    finally:
        if size_mib:
            subprocess.run(["umount", path], check=True)


@pytest.fixture
def lab(pool: Lab) -> Iterator[Lab]:
    """The pool, well before and after each test, and judged."""
    story = Story(pool)
    yield pool
    tell(story)
    restore(pool)
    assert not unsound(pool)


def tell(story: Story) -> None:
    """The timeline of a test; pytest shows it when the test failed."""
    with contextlib.suppress(OutlastError):
        for entry in story.entries():
            at = entry.wall_s - story.since_wall_s
            print(f"{at:7.2f} {entry.host} {entry.code:14} {entry.sentence}")
