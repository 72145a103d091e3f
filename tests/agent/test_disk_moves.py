"""A disk goes to another storage; whenever its agent or its host dies, one file has every write."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memory_disks import MirroringDisks
from memory_service import MemoryService

from outlast.agent.disk_moves import BUSY, DiskMoves
from outlast.agent.wishes import Wishes
from outlast.equipment import Repository
from outlast.errors import Conflict, InvalidInput, NotFound, OutlastError, StorageTrouble
from outlast.model import Desired, Disk, DiskMove, VmRecord, VmSpec
from outlast.mounts import registry
from outlast.pool.facts import Answering
from outlast.storage.register import Swap
from outlast.wire.disks import DiskMoveStatus, DiskMoveWish

NOW = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
SIZE = 1 << 16


class Killed(BaseException):
    """The agent's process is gone: nothing it would still do happens."""


class Fuse:
    """Counts instants, and at one of them ends the agent."""

    def __init__(self, at: int, disks: MirroringDisks) -> None:
        self.left, self._disks = at, disks

    def instant(self) -> None:
        self._disks.guest_writes()
        self.left -= 1
        if self.left < 0:
            raise Killed

    def around(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def acted(*args: Any, **more: Any) -> Any:
            self.instant()
            done = act(*args, **more)
            self.instant()
            return done

        return acted


class Dying:
    """The port to disks, with an instant before and after each call."""

    def __init__(self, disks: MirroringDisks, fuse: Fuse) -> None:
        self._disks, self._fuse = disks, fuse

    def __getattr__(self, name: str) -> Any:
        return self._fuse.around(getattr(self._disks, name))


class Stage:
    """Host a runs `web`, or nobody does; its disk shall go from the pool to `fast`."""

    def __init__(self, folder: Path, *, runs: bool) -> None:
        (folder / "pool/images").mkdir(parents=True)
        (folder / "fast").mkdir()
        self.service = MemoryService(folder / "pool")
        self.old, self.new = folder / "pool/images/web.raw", folder / "fast/web.raw"
        self.old.write_bytes(bytes(range(256)) * (SIZE // 256))
        wish = Desired.RUNNING if runs else Desired.STOPPED
        spec = VmSpec("web", "uuid", 64, 1, (Disk(str(self.old)),))
        self.service.write_vm(0, VmRecord(spec, wish))
        fast = Repository("fast", "dir", path=str(folder / "fast"))
        registry.add(self.service.register, fast, folder / "pool")
        self.service.answering["fast"] = Answering(NOW)
        self.disks = MirroringDisks("web", [str(self.old)])
        self.disks.dead = not runs
        self.service.disks = self.disks

    @property
    def record(self) -> VmRecord:
        held = self.service.read_vm("web")
        assert held is not None
        return held.value

    @property
    def named(self) -> Path:
        return Path(self.record.spec.disks[0].path)

    def moves(self) -> DiskMoves:
        return DiskMoves(self.service, Wishes(self.service, sleep=lambda _: None))

    def ended(self, moves: DiskMoves) -> DiskMoveStatus:
        until = time.monotonic() + 20
        while moves.status("web").state == "running":
            assert time.monotonic() < until, moves.status("web")
            time.sleep(0.005)
        return moves.status("web")

    def sound(self) -> None:
        """One disk, with every write; nothing else is left."""
        assert self.record.disk_move is None
        assert [p for p in (self.old, self.new) if p.exists()] == [self.named]
        assert self.named.read_bytes() == self.disks.written
        assert not self.disks.held and not self.disks.mirrors
        assert not self.service.busy


@pytest.fixture(params=[True, False], ids=["running", "stopped"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    return Stage(tmp_path, runs=request.param)


@pytest.fixture
def running(tmp_path: Path) -> Stage:
    return Stage(tmp_path, runs=True)


def test_a_disk_goes_and_comes_back(stage: Stage) -> None:
    moves = stage.moves()
    moves.begin("web", DiskMoveWish(to="fast", rate_bytes_s=0))
    done = stage.ended(moves)
    assert (done.state, done.path, done.sentence) == (
        "done", str(stage.new), "web.raw is in the storage fast now"
    )  # fmt: skip
    assert stage.record.spec.disks[0].repository == "fast"
    assert stage.service.written in ([], [("fast",)])
    assert bool(stage.service.written) is not stage.disks.dead, "the guard knows of it"
    stage.sound()
    moves.begin("web", DiskMoveWish(to="", rate_bytes_s=0))
    assert stage.ended(moves).state == "done"
    assert stage.record.spec.disks[0] == Disk(str(stage.old))
    stage.sound()


def kill_at(stage: Stage, instant: int) -> bool:
    """Run a move whose agent dies at this instant; False when it ended before."""
    fuse = Fuse(instant, stage.disks)
    service: Any = stage.service
    service.disks = Dying(stage.disks, fuse)
    write: Callable[[int, VmRecord], Swap] = service.write_vm
    service.write_vm = fuse.around(write)
    moves = stage.moves()
    moves.begin("web", DiskMoveWish(to="fast", rate_bytes_s=0))
    died = stage.ended(moves).sentence.startswith("a bug: Killed")
    until = time.monotonic() + 5
    while any(t.name == "move of a disk web" for t in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.001)
    service.write_vm, service.disks = write, stage.disks
    service.busy.clear()
    return died


@pytest.fixture
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    yield


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
def test_an_agent_that_dies_at_any_instant_leaves_one_truth(tmp_path: Path, runs: bool) -> None:
    """At each: had the whole host died, what the record names has every write. And the next agent
    goes on from there, and settles it."""
    instants = 0
    while True:
        stage = Stage(tmp_path / str(instants), runs=runs)
        if not kill_at(stage, instants):
            break
        instants += 1
        assert stage.named.read_bytes() == stage.disks.written, f"lost at instant {instants}"
        if not runs:  # the core frees what work without an agent held
            stage.service.leases.clear()
        stage.moves().look()
        stage.sound()
    assert stage.named == stage.new
    assert instants > (20 if runs else 5)


@pytest.mark.usefixtures("_quiet")
def test_a_vm_that_ended_meanwhile_is_settled_by_the_master(running: Stage) -> None:
    assert kill_at(running, 9)
    assert running.record.disk_move is not None
    running.disks.dead, running.disks.held = True, False  # its QEMU ended
    running.disks.mirrors.clear()
    Wishes(running.service).stop("web")
    running.service.leases.clear()
    running.moves().look()
    running.sound()


def test_a_storage_that_does_not_say_what_it_wrote_keeps_the_vm_held(running: Stage) -> None:
    """QEMU has changed over; whether the record has, nobody knows. So nothing is written."""
    service: Any = running.service
    write, pivot = service.write_vm, running.disks.pivot

    def silent(expected: int, record: VmRecord) -> Swap:
        raise StorageTrouble("it hangs")

    def then_silent(name: str, path: str, target: str) -> None:
        pivot(name, path, target)
        service.write_vm = silent

    running.disks.pivot = then_silent  # type: ignore[method-assign]
    moves = running.moves()
    moves.begin("web", DiskMoveWish(to="fast", rate_bytes_s=0))
    assert running.ended(moves).sentence == "it hangs"
    moves.look()
    assert running.disks.held and running.named == running.old
    assert running.old.read_bytes() == running.new.read_bytes()
    service.write_vm = write
    moves.look()
    assert running.named == running.new
    running.sound()


def test_a_copy_that_breaks_off_leaves_the_disk_where_it_was(running: Stage) -> None:
    running.disks.breaks = "no room"
    moves = running.moves()
    moves.begin("web", DiskMoveWish(to="fast"))
    assert "broke off" in running.ended(moves).sentence
    assert running.named == running.old
    running.sound()


def test_a_move_is_given_up_by_wish(running: Stage) -> None:
    running.disks.holds = True
    moves = running.moves()
    moves.begin("web", DiskMoveWish(to="fast"))
    with pytest.raises(Conflict, match="already"):
        moves.begin("web", DiskMoveWish(to="fast"))
    moves.give_up("web")
    assert running.ended(moves).sentence == "the move of a disk of web was broken off by wish"
    assert running.named == running.old
    running.sound()


def test_what_is_at_work_is_not_settled(running: Stage) -> None:
    held = running.service.read_vm("web")
    assert held is not None
    move = DiskMove(str(running.old), str(running.new), "fast")
    Wishes(running.service).change("web", lambda r: replace(r, disk_move=move), "", "")
    with running.service.occupied(BUSY, "web"):
        running.moves().look()
        assert running.record.disk_move == move
    running.moves().look()
    running.sound()


@pytest.mark.parametrize(
    ("prepare", "wish", "kind", "words"),
    [
        (None, DiskMoveWish(to="none"), InvalidInput, "no storage 'none'"),
        (None, DiskMoveWish(to="fast", disk=2), InvalidInput, "has 1 disks"),
        (None, DiskMoveWish(to=""), Conflict, "is there already"),
        ("file", DiskMoveWish(to="fast"), Conflict, "there is a file"),
        ("away", DiskMoveWish(to="fast"), StorageTrouble, "is away: it hangs"),
        ("move", DiskMoveWish(to="fast"), Conflict, "about to move to another host"),
    ],
)
def test_what_cannot_move_says_why(
    running: Stage, prepare: str | None, wish: DiskMoveWish, kind: type[OutlastError], words: str
) -> None:
    if prepare == "file":
        running.new.touch()
    elif prepare == "away":
        running.service.answering["fast"] = Answering(NOW, "it hangs")
    elif prepare == "move":
        running.service.refuses, running.service.obedient = "", False
        Wishes(running.service).migrate("web", "b")
    with pytest.raises(kind, match=words):
        running.moves().begin("web", wish)
    with pytest.raises(NotFound):
        running.moves().status("web")
