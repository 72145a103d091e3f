"""Disks that no VM names: which are found, and that nothing in use is ever deleted."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from outlast.errors import Conflict, NotFound
from outlast.images import orphans

LATER_S = 2 * orphans.YOUNG_S


class Place:
    """images/ of a pool and one repository; owners are what a test says."""

    def __init__(self, root: Path) -> None:
        self.images, self.fast = root / "images", root / "fast"
        for folder in (self.images, self.fast):
            folder.mkdir()
        self.owners: dict[Path, str] = {}
        self.folders = {"": self.images, "fast": self.fast}

    def disk(self, name: str, folder: Path | None = None, size: int = 4096) -> Path:
        path = (folder or self.images) / name
        path.write_bytes(bytes(size))
        return path

    def asked(self) -> Mapping[Path, str]:
        return dict(self.owners)

    def names(self, after_s: float = LATER_S) -> list[str]:
        found = orphans.found(self.folders, self.asked, time.time() + after_s)
        return [one.name for one in found]

    def remove(self, name: str) -> orphans.Orphan:
        return orphans.remove(self.folders, self.asked, name, time.time() + LATER_S)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_no_vm_names_is_found_the_largest_first(place: Place) -> None:
    mine = place.disk("web.raw")
    place.owners[mine] = "web"
    place.disk("old.raw")
    place.disk("older.qcow2", place.fast, 1 << 20)
    for other in ("notes.txt", ".half.raw.0123456789ab.part"):
        place.disk(other)
    (place.images / "library").mkdir()
    place.disk("library/base.raw")
    (place.images / "link.raw").symlink_to(mine)
    assert place.names() == ["fast:older.qcow2", "old.raw"]
    assert place.names(after_s=60) == [], "a VM may be in the making"
    place.folders["gone"] = place.images / "not-mounted"
    assert len(place.names()) == 2


def test_what_a_disk_lies_over_is_in_use(place: Place) -> None:
    base, middle, top = (place.images / f"{n}.qcow2" for n in ("base", "middle", "top"))
    for path, under in ((base, None), (middle, base), (top, middle)):
        over = ["-b", under.name, "-F", "qcow2"] if under else []
        size = [] if under else ["1M"]
        make = ["qemu-img", "create", "-q", "-f", "qcow2", *over, str(path), *size]
        subprocess.run(make, check=True)
    place.owners[top] = "web"
    assert place.names() == []
    place.owners.clear()
    assert set(place.names()) == {"base.qcow2", "middle.qcow2", "top.qcow2"}


def test_only_what_is_found_is_deleted(place: Place) -> None:
    mine, loose = place.disk("web.raw"), place.disk("old.raw", place.fast)
    place.owners[mine] = "web"
    for name in ("web.raw", "../web.raw", "old.raw", "fast:../old.raw", ""):
        with pytest.raises(NotFound):
            place.remove(name)
    assert place.remove("fast:old.raw").path == loose
    assert mine.exists() and not loose.exists() and not list(place.fast.iterdir())


def test_a_disk_that_a_vm_got_meanwhile_goes_back(place: Place) -> None:
    loose = place.disk("old.raw")
    answers = [{}, {loose: "new"}]
    with pytest.raises(Conflict, match="a disk of new"):
        orphans.remove(place.folders, lambda: answers.pop(0), "old.raw", time.time() + LATER_S)
    assert [path.name for path in place.images.iterdir()] == ["old.raw"]


def test_what_was_moved_aside_by_one_that_was_killed_is_found_again(place: Place) -> None:
    place.disk("old.raw.removed")
    assert place.names() == ["old.raw.removed"]
    place.disk("old.raw")
    with pytest.raises(Conflict, match="there already"):
        place.remove("old.raw")
    assert place.remove("old.raw.removed")
    assert place.names() == ["old.raw"]


def test_a_disk_that_qemu_holds_open_stays(place: Place) -> None:
    """Whoever runs it: a QEMU that no pool knows, too."""
    loose = place.disk("old.raw", size=1 << 20)
    drive = f"file={loose},format=raw,if=none,id=d"
    with subprocess.Popen(
        ["qemu-system-x86_64", "-accel", "tcg", "-m", "16", "-nodefaults", "-display", "none",
         "-S", "-drive", drive, "-device", "virtio-blk-pci,drive=d", "-qmp", "stdio"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as qemu:  # fmt: skip
        assert qemu.stdout is not None
        try:
            assert b"QMP" in qemu.stdout.readline(), "its disks are open by now"
            with pytest.raises(Conflict, match="in use by another program"):
                place.remove("old.raw")
        finally:
            qemu.kill()
    assert loose.exists()
