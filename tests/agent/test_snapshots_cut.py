"""Snapshots that are broken off: no half one is seen, no disk is half way back, a second try works.

What QEMU writes is recorded once by its own blklogwrites driver, as sectors in their order, for
each disk. Then the disks are put as a power cut would leave them, after each sector that changed
something; from there the pool goes on.
"""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import MemoryService

from outlast.agent.snapshot_acts import FORGET, MAKE, REVERT
from outlast.agent.snapshots import Snapshots
from outlast.agent.wishes import Wishes
from outlast.errors import HypervisorTrouble, StorageTrouble
from outlast.images import qemu_img
from outlast.model import Disk, SnapshotAct, VmRecord, VmSpec
from outlast.storage.register import Outcome, Swap

SIZE, SECTOR = 8 << 20, 512
LOGGED = (
    "file.driver=blklogwrites,file.file.driver=file,file.file.filename={path},"
    "file.log.driver=file,file.log.filename={path}.log"
)
RECORDER = f"""#!/bin/sh
[ "$1" = snapshot ] || exec qemu-img "$@"
path=${{6##*filename=}}; : >"$path.log"
exec qemu-img snapshot -q --image-opts "$4" "$5" "driver=qcow2,{LOGGED.format(path="$path")}"
"""
Cut = tuple[bytes, bytes]  # what both disks hold


class Stage:
    """Host a and its stopped VM `web` with two disks. Of each: 1 stands in `old`, 2 is newer."""

    def __init__(self, folder: Path) -> None:
        (folder / "pool/images").mkdir(parents=True)
        self.service = MemoryService(folder / "pool")
        self.paths = [folder / f"pool/images/web{n}.qcow2" for n in ("", "-2")]
        for path in self.paths:
            qemu_img.create(path, SIZE)
            write(path, "-c", "write -P 1 0 512k", "-c", "write -P 1 6M 64k")
            qemu_img.snapshot("-c", "old", str(path))
            write(path, "-c", "write -P 2 0 256k", "-c", "write -P 2 4M 64k")
        spec = VmSpec("web", "u", 64, 1, tuple(Disk(str(p), "qcow2") for p in self.paths))
        self.service.write_vm(0, VmRecord(spec))
        self.snapshots = Snapshots(self.service, Wishes(self.service, sleep=lambda _: None))

    @property
    def record(self) -> VmRecord:
        held = self.service.read_vm("web")
        assert held is not None
        return held.value

    def put(self, cut: Cut, act: SnapshotAct | None) -> None:
        """As the host's death leaves it; the core has freed the lease."""
        for path, data in zip(self.paths, cut, strict=True):
            path.write_bytes(data)
        self.service.leases.clear()
        Wishes(self.service).change("web", lambda r: replace(r, snapshot_act=act), "", "")

    def seen(self) -> list[str]:
        listed = self.snapshots.all("web")
        assert all(one.whole for one in listed), "a half one is seen"
        return [one.name for one in listed]

    def newer(self) -> set[bool]:
        """Whether each disk holds what was written after `old`."""
        return {holds(path, 2, 0, "256k") and holds(path, 2, 4 << 20, "64k") for path in self.paths}

    def sound(self, codes: Sequence[int] = (0,)) -> None:
        """codes: qemu-img's; 3 = there is a cluster that nothing uses, which is room alone."""
        assert self.record.snapshot_act is None
        for path in self.paths:
            checked = subprocess.run(["qemu-img", "check", "-q", path], check=False)
            assert checked.returncode in codes
            assert holds(path, 1, 6 << 20, "64k")


def write(path: Path, *words: str) -> None:
    subprocess.run(["qemu-io", "-f", "qcow2", *words, path], check=True, capture_output=True)


def holds(path: Path, pattern: int, at: int, size: str) -> bool:
    words = ["qemu-io", "-f", "qcow2", "-c", f"read -P {pattern} {at} {size}", path]
    said = subprocess.run(words, check=False, capture_output=True, text=True).stdout
    assert "read" in said, said
    return "verification failed" not in said


def cuts(before: bytes, path: Path) -> Iterator[bytes]:
    """What a disk holds after each sector that its log changes, the whole log's end included."""
    log = path.with_name(f"{path.name}.log").read_bytes()
    _, _, entries, size = struct.unpack_from("<QQQL", log)
    disk, at = bytearray(before), size
    for _ in range(entries):
        sector, count, flags, _ = struct.unpack_from("<QQQQ", log, at)
        at += size
        if flags & 4:  # a discard has no data, and the file system may ignore it
            continue
        for number in range(count):
            piece, where = log[at : at + size], (sector + number) * size
            at += size
            disk.extend(bytes(max(0, where + size - len(disk))))
            if disk[where : where + size] != piece:
                disk[where : where + size] = piece
                yield bytes(disk)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def by_qemu_img(stage: Stage, act: SnapshotAct, patch: pytest.MonkeyPatch) -> None:
    program = stage.paths[0].parent / "recorder"
    program.write_text(RECORDER)
    program.chmod(0o755)
    with patch.context() as now:
        now.setenv("OUTLAST_QEMU_IMG", str(program))
        done(stage, act)


def done(stage: Stage, act: SnapshotAct) -> None:
    acts: dict[str, Callable[[], object]] = {
        MAKE: lambda: stage.snapshots.create("web", act.name, "no"),
        FORGET: lambda: stage.snapshots.remove("web", act.name),
        REVERT: lambda: stage.snapshots.revert("web", act.name),
    }
    acts[act.kind]()


def by_a_vms_qemu(stage: Stage, act: SnapshotAct, _patch: pytest.MonkeyPatch) -> None:
    """The transaction by which hypervisor/libvirt_disks.py has it made while a VM runs."""
    words = ["qemu-storage-daemon", "--chardev", "stdio,id=c", "--monitor", "chardev=c"]
    for number, path in enumerate(stage.paths):
        node = f"driver=qcow2,node-name=d{number},{LOGGED.format(path=path)}"
        path.with_name(f"{path.name}.log").touch()
        words += ["--blockdev", node]
    kind = "blockdev-snapshot-internal-sync"
    actions = [{"type": kind, "data": {"device": f"d{n}", "name": act.name}} for n in (0, 1)]
    asked = [
        {"execute": "qmp_capabilities"},
        {"execute": "transaction", "arguments": {"actions": actions}},
        {"execute": "quit"},
    ]
    said = subprocess.run(
        words, input="\n".join(map(json.dumps, asked)), capture_output=True, text=True, check=True
    ).stdout
    assert '"error"' not in said, said


@pytest.mark.parametrize(
    ("by", "act", "each"),
    [
        (by_qemu_img, SnapshotAct(MAKE, "new"), 1),
        (by_qemu_img, SnapshotAct(FORGET, "old"), 1),
        (by_qemu_img, SnapshotAct(REVERT, "old"), 1),
        (by_a_vms_qemu, SnapshotAct(MAKE, "new"), 4),  # it writes what qemu-img writes
    ],
    ids=["make", "forget", "revert", "make-live"],
)
def test_after_each_sector_nothing_is_half_and_a_second_try_works(
    stage: Stage, monkeypatch: pytest.MonkeyPatch,
    by: Callable[[Stage, SnapshotAct, pytest.MonkeyPatch], None], act: SnapshotAct, each: int,
) -> None:  # fmt: skip
    start = [path.read_bytes() for path in stage.paths]
    by(stage, act, monkeypatch)
    first, second = (list(cuts(b, p)) for b, p in zip(start, stage.paths, strict=True))
    assert len(first) > 4 and len(second) > 4
    after = {MAKE: ["new", "old"], FORGET: [], REVERT: ["old"]}[act.kind]
    # the second disk is not touched before the first one is done; the middle tells what is mixed
    some = [second[0], second[len(second) // 2], second[-2]]
    for cut in [*((one, start[1]) for one in first[::each]), *((first[-1], two) for two in some)]:
        stage.put(cut, act)
        assert sorted(stage.seen()) in ([*after], ["old"] if act.kind == MAKE else after)
        stage.snapshots.look()
        stage.sound()
        assert stage.newer() == {act.kind != REVERT}, "the disks are of two times"
        if act.kind == MAKE and sorted(stage.seen()) != after:
            done(stage, act)
        assert sorted(stage.seen()) == after
        stage.sound((0, 3))  # QEMU itself leaves one now and then


def test_what_was_broken_off_is_finished_before_anything_else(stage: Stage) -> None:
    """Nobody has looked yet, and the next wish comes."""
    one = str(stage.paths[0])
    qemu_img.snapshot("-c", "new", one)
    stage.put((stage.paths[0].read_bytes(), stage.paths[1].read_bytes()), SnapshotAct(MAKE, "new"))
    stage.snapshots.create("web", "new", "no")
    assert stage.seen() == ["new", "old"] or stage.seen() == ["old", "new"]
    qemu_img.snapshot("-a", "old", one)
    stage.put(tuple(p.read_bytes() for p in stage.paths), SnapshotAct(REVERT, "old"))  # type: ignore[arg-type]
    with stage.service.borrow("web", "a backup"):
        assert stage.newer() == {False}
    stage.sound()


def test_a_running_vms_half_snapshot_is_taken_back_by_its_qemu(stage: Stage) -> None:
    """Its agent died after asking for two to be forgotten, of which one was."""
    stage.service.obedient = False
    stage.service.hold("web", 1)
    stage.service.run("web")
    qemu_img.snapshot("-d", "old", str(stage.paths[0]))
    Wishes(stage.service).change(
        "web", lambda r: replace(r, snapshot_act=SnapshotAct(FORGET, "old")), "", ""
    )
    assert stage.seen() == []
    stage.snapshots.look()
    assert stage.service.disks.done == ["drop old"]
    assert stage.record.snapshot_act is None and stage.seen() == []


def test_one_that_qemu_refuses_leaves_nothing_behind(stage: Stage) -> None:
    stage.service.obedient = False
    stage.service.hold("web", 1)
    stage.service.run("web")

    def refuse(name: str, paths: list[str], snapshot: str) -> None:
        raise HypervisorTrouble("no room")

    stage.service.disks.snapshot = refuse  # type: ignore[assignment, method-assign]
    with pytest.raises(HypervisorTrouble, match="no room"):
        stage.snapshots.create("web", "new", "no")
    assert (stage.record.snapshot_act, stage.seen()) == (None, ["old"])


def test_a_storage_that_does_not_say_whether_it_is_forgotten_is_asked_again(stage: Stage) -> None:
    """The disks are back, the record is not written: going back twice does no harm."""
    service, write = stage.service, stage.service.write_vm

    def silent(expected: int, record: VmRecord) -> Swap:
        if record.snapshot_act is None:
            raise StorageTrouble("it hangs")
        return write(expected, record)

    service.write_vm = silent  # type: ignore[method-assign]
    with pytest.raises(StorageTrouble, match="it hangs"):
        stage.snapshots.revert("web", "old")
    service.leases.clear()
    service.write_vm = lambda e, r: Swap(Outcome.UNKNOWN, e)  # type: ignore[method-assign]
    stage.snapshots.look()
    assert stage.record.snapshot_act == SnapshotAct(REVERT, "old")
    service.leases.clear()
    service.write_vm = write  # type: ignore[method-assign]
    stage.snapshots.look()
    assert stage.newer() == {False}
    stage.sound()
