"""A disk moves while its VM runs, and the VM's real QEMU is killed: at bytes of the copy, and at
each step of the change-over. Then its host starts it again, and the file that the record names has
every write that QEMU had acknowledged."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny_guest import write_disk

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))
from memory_service import MemoryService

from outlast.agent.disk_moves import DiskMoves
from outlast.agent.wishes import Wishes
from outlast.equipment import Repository
from outlast.hypervisor.libvirt_driver import LibvirtDriver
from outlast.model import Desired, Disk, VmRecord, VmSpec
from outlast.mounts import registry
from outlast.pool.facts import Answering
from outlast.wire.disks import DiskMoveWish

pytestmark = pytest.mark.rack
MIB = 1 << 20
SIZE, MARKED = 48 * MIB, 16 * MIB  # what lies after MARKED is never written by the guest
LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Killing:
    """Where QEMU dies: before this call of the port, or once so much of the copy is written."""

    call: str = ""
    copied: int = 0


class Watched:
    """The port to disks of running VMs; at one point QEMU is killed."""

    def __init__(self, driver: LibvirtDriver, killing: Killing) -> None:
        self._driver, self._killing = driver, killing
        self.killed = False

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._driver.disks, name)

        def called(*args: Any) -> Any:
            if name == self._killing.call and not self.killed:
                self._kill()
            return call(*args)

        return called

    def mirrored(self, name: str, path: str) -> Any:
        now = self._driver.disks.mirrored(name, path)
        if now is not None and 0 < self._killing.copied <= now.done_bytes and not self.killed:
            self._kill()
        return now

    def _kill(self) -> None:
        self.killed = True
        self._driver.kill("web")


class Stage:
    """Host a runs `web` with a real QEMU; its disk shall go from the pool to `fast`."""

    def __init__(self, folder: Path, driver: LibvirtDriver) -> None:
        (folder / "pool/images").mkdir(parents=True)
        (folder / "fast").mkdir()
        self.old, self.new = folder / "pool/images/web.raw", folder / "fast/web.raw"
        write_disk(self.old, writes=True, size=SIZE)
        self.mark = os.urandom(MIB) * ((SIZE - MARKED) // MIB)
        with self.old.open("r+b") as disk:
            disk.seek(MARKED)
            disk.write(self.mark)
        self.driver, self.service = driver, MemoryService(folder / "pool", obedient=False)
        fast = Repository("fast", "dir", path=str(folder / "fast"))
        registry.add(self.service.register, fast, folder / "pool")
        self.service.answering["fast"] = Answering(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        spec = VmSpec("web", str(uuid.uuid4()), 8, 1, (Disk(str(self.old)),))
        assert self.service.write_vm(0, VmRecord(spec, Desired.RUNNING)).ok
        self.service.hold("web", 1)
        self.start()

    def start(self) -> None:
        self.driver.start(self.record.spec)
        self.service.run("web")

    @property
    def record(self) -> VmRecord:
        held = self.service.read_vm("web")
        assert held is not None
        return held.value

    @property
    def named(self) -> Path:
        return Path(self.record.spec.disks[0].path)

    def move(self, disks: Any, rate_bytes_s: int) -> str:
        """How it ended."""
        self.service.disks = disks
        moves = DiskMoves(self.service, Wishes(self.service, sleep=lambda _: None))
        moves.begin("web", DiskMoveWish(to="fast", rate_bytes_s=rate_bytes_s))
        wait(lambda: moves.status("web").state != "running")
        self.service.disks = self.driver.disks  # type: ignore[assignment]
        self.moves = moves
        return moves.status("web").state

    def blocks(self) -> int:
        """How many the guest has written, by the disk; whole, and one after the other."""
        data = self.named.read_bytes()
        assert data[MARKED:] == self.mark, "what was there before the move is lost"
        there = [any(data[at : at + 512]) for at in range(128 << 10, MARKED, 128 << 10)]
        count = there.index(False)
        assert not any(there[count:]), "a block in between is lost"
        return count


def wait(happened: Callable[[], object]) -> None:
    until = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("killing", "rate", "moved"),
    [
        (Killing(copied=20 * MIB), 16 * MIB, False),
        (Killing(copied=SIZE), 0, False),
        (Killing("pivot"), 0, False),
        (Killing("go_on"), 0, True),  # the record names the new file already
    ],
    ids=["half", "level", "pivot", "go-on"],
)
def test_a_qemu_that_is_killed_meanwhile_leaves_one_disk_with_every_write(
    driver: LibvirtDriver, tmp_path: Path, killing: Killing, rate: int, moved: bool
) -> None:
    stage = Stage(tmp_path, driver)
    wait(lambda: stage.blocks() >= 2)
    watched = Watched(driver, killing)
    assert stage.move(watched, rate) == "failed" and watched.killed
    assert stage.named == (stage.new if moved else stage.old)
    wrote = stage.blocks()
    assert wrote >= 2
    stage.service.local.clear()
    stage.start()  # as its host does
    stage.moves.look()
    assert stage.record.disk_move is None
    assert [path for path in (stage.old, stage.new) if path.exists()] == [stage.named]
    if not moved:
        assert stage.move(driver.disks, 0) == "done"
    assert stage.named == stage.new and not stage.old.exists()
    assert driver.disks.files("web") == [str(stage.new)]
    driver.kill("web")
    assert stage.blocks() >= wrote
