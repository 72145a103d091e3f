"""Both registers pass the conformance kit; what each promises besides."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from register_kit import Open, RegisterKit

from outlast.errors import InvalidInput, StorageTrouble
from outlast.storage.files import Files
from outlast.storage.format import version_text
from outlast.storage.memory import Fate, MemoryRegister, MemoryShelf
from outlast.storage.posix import PosixRegister
from outlast.storage.register import Outcome


class TestMemory(RegisterKit):
    @pytest.fixture
    def open_register(self) -> Open:
        shelf = MemoryShelf()
        return lambda _writer: MemoryRegister(shelf)


class TestPosix(RegisterKit):
    @pytest.fixture
    def open_register(self, root: Path) -> Open:
        return lambda writer: PosixRegister(root, writer)


class TestPosixCollecting(RegisterKit):
    """The same with a collector that removes as early as the rules allow."""

    @pytest.fixture
    def open_register(self, root: Path) -> Open:
        return lambda writer: PosixRegister(root, writer, keep=2, keep_age_s=0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    pool = tmp_path / "pool"
    (pool / "reg").mkdir(parents=True)
    (pool / "tmp").mkdir()
    return pool


def chain(register: PosixRegister, name: str, count: int) -> None:
    version, _ = register.read(name)
    for number in range(version, version + count):
        assert register.swap(name, number, {"n": number + 1}).ok


def versions(root: Path, name: str) -> list[int]:
    return sorted(int(path.name) for path in (root / "reg" / name).iterdir())


def test_memory_obeys_its_fate() -> None:
    shelf = MemoryShelf()
    fates = [Fate.REPLY_LOST, Fate.LATE, Fate.GONE, Fate.GONE]
    a, b = MemoryRegister(shelf, lambda _name: fates.pop(0)), MemoryRegister(shelf)
    assert a.swap("view", 0, {"n": 1}).outcome is Outcome.UNKNOWN
    assert b.read("view") == (1, {"n": 1})
    assert a.swap("view", 1, {"n": 2}).outcome is Outcome.UNKNOWN
    assert b.read("view") == (1, {"n": 1})
    assert shelf.execute_late() == 1
    assert b.read("view") == (2, {"n": 2})
    assert a.swap("view", 2, {"n": 3}).outcome is Outcome.UNKNOWN
    with pytest.raises(StorageTrouble):
        a.read("view")
    assert shelf.execute_late() == 0
    assert b.read("view") == (2, {"n": 2})


def test_temporaries_are_gone_and_a_spare_is_kept(root: Path) -> None:
    register = PosixRegister(root, "3")
    chain(register, "lease/web", 3)
    assert register.swap("lease/web", 0, {}).outcome is Outcome.CONFLICT
    assert [path.name for path in (root / "tmp" / "3").iterdir()] == ["spare"]


def test_left_overs_of_an_earlier_life_are_swept(root: Path) -> None:
    chain(PosixRegister(root, "3"), "view", 1)
    old, new = root / "tmp" / "3" / "old", root / "tmp" / "3" / "new"
    old.write_bytes(b"x")
    os.utime(old, (1_000_000, 1_000_000))
    new.write_bytes(b"x")
    chain(PosixRegister(root, "3"), "view", 1)
    assert new.exists()
    assert not old.exists()


def test_the_collector_keeps_the_newest_and_the_young(root: Path) -> None:
    chain(PosixRegister(root, "1"), "view", 30)
    assert versions(root, "view") == list(range(1, 31)), "all are younger than an hour"
    register = PosixRegister(root, "1", keep=8, keep_age_s=0)
    (root / "reg" / "view" / "README").write_text("foreign")
    assert register.collect("view") == 22
    assert (root / "reg" / "view" / "README").exists()
    (root / "reg" / "view" / "README").unlink()
    assert versions(root, "view") == list(range(23, 31))


def test_a_version_is_young_as_long_as_its_successor_is(root: Path) -> None:
    """A host may have expected the old one until a moment ago, and its link be under way."""
    register = PosixRegister(root, "1", keep=2, keep_age_s=3600)
    chain(register, "view", 1)
    os.utime(root / "reg" / "view" / version_text(1), (1_000_000, 1_000_000))
    chain(register, "view", 7)
    assert register.collect("view") == 0
    os.utime(root / "reg" / "view" / version_text(2), (1_000_000, 1_000_000))
    assert register.collect("view") == 1
    assert versions(root, "view") == list(range(2, 9))


def test_a_reader_that_slept_finds_its_way(root: Path) -> None:
    sleeper = PosixRegister(root, "1")
    chain(sleeper, "view", 2)
    busy = PosixRegister(root, "2", keep=2, keep_age_s=0)
    chain(busy, "view", 30)
    busy.collect("view")
    assert sleeper.swap("view", 2, {}).outcome is Outcome.CONFLICT
    assert sleeper.read("view") == (32, {"n": 32})


def test_a_link_onto_a_collected_number_is_not_believed(root: Path) -> None:
    """review F22: the name is free again, the link succeeds, and yet nothing was won."""
    for first in (0, 3):
        name = f"slot/{first + 1}"
        sleeper = PosixRegister(root, "1")
        chain(sleeper, name, first)
        busy = PosixRegister(root, "2", keep=2, keep_age_s=0)

        class LateLink(Files):
            def link(self, source: Path, target: Path, busy=busy, name=name) -> None:
                if busy is not None:
                    chain(busy, name, 10)
                    busy.collect(name)
                super().link(source, target)

        sleeper._files = LateLink()
        assert sleeper.swap(name, first, {"stale": True}).outcome is Outcome.CONFLICT
        assert PosixRegister(root, "4").read(name) == (first + 10, {"n": first + 10})


def test_a_recreated_predecessor_does_not_deceive(root: Path) -> None:
    """Two late links: the first brings the predecessor's number back, the second follows it."""
    sleeper = PosixRegister(root, "1")
    chain(sleeper, "view", 3)
    chain(PosixRegister(root, "2", keep=2, keep_age_s=0), "view", 12)
    PosixRegister(root, "2", keep=2, keep_age_s=0).collect("view")
    other = PosixRegister(root, "3")
    assert other.read("view")[0] == 15
    shutil.copy(root / "reg" / "view" / version_text(15), root / "reg" / "view" / version_text(3))
    text = (root / "reg" / "view" / version_text(3)).read_bytes()
    text = text.replace(b"view 15 ", b"view 3 ")
    (root / "reg" / "view" / version_text(3)).write_bytes(text)
    assert sleeper.swap("view", 3, {"stale": True}).outcome is Outcome.CONFLICT


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "swap"])
def test_a_damaged_newest_version_is_never_passed_over(root: Path, harm: str) -> None:
    register = PosixRegister(root, "1")
    chain(register, "lease/web", 3)
    newest = root / "reg" / "lease" / "web" / version_text(3)
    data = newest.read_bytes()
    newest.write_bytes({
        "flip": data[:-5] + bytes([data[-5] ^ 1]) + data[-4:], "cut": data[:-5], "empty": b"",
        "swap": (newest.parent / version_text(2)).read_bytes(),
    }[harm])  # fmt: skip
    for reader in (register, PosixRegister(root, "2")):
        with pytest.raises(StorageTrouble, match="version 3 of register lease/web is damaged"):
            reader.read("lease/web")
    with pytest.raises(StorageTrouble, match="damaged"):
        PosixRegister(root, "2").swap("lease/web", 3, {})
    assert versions(root, "lease/web") == [1, 2, 3]


def test_a_storage_that_went_backwards_is_noticed(root: Path) -> None:
    register = PosixRegister(root, "1")
    chain(register, "view", 3)
    shutil.copytree(root / "reg", root / "snapshot")
    chain(register, "view", 2)
    shutil.rmtree(root / "reg")
    (root / "snapshot").rename(root / "reg")
    for _ in range(2):
        with pytest.raises(StorageTrouble, match="went backwards"):
            register.read("view")
    with pytest.raises(StorageTrouble, match="went backwards"):
        PosixRegister(root, "1", seen=register.seen()).read("view")
    other = PosixRegister(root, "2")
    assert other.read("view") == (3, {"n": 3}), "who has seen no more cannot know"
    chain(other, "view", 2)
    for _ in range(2):
        with pytest.raises(StorageTrouble, match="is not the one that was read before"):
            register.read("view")
    chain(other, "view", 2)
    with pytest.raises(StorageTrouble, match="is not the one that was read before"):
        register.read("view")


def test_an_absent_storage_is_not_an_empty_pool(root: Path) -> None:
    fresh, known = PosixRegister(root, "1"), PosixRegister(root, "2")
    chain(known, "view", 1)
    root.rename(root.with_name("elsewhere"))
    root.mkdir()  # the bare mount point
    for register in (fresh, known):
        for call in (
            lambda r=register: r.read("view"),
            lambda r=register: r.names("vm"),
            lambda r=register: r.swap("view", 1, {}),
            lambda r=register: r.swap("vm/web", 0, {}),
        ):
            with pytest.raises(StorageTrouble) as caught:
                call()
            assert "mounted" in caught.value.hint
    assert list(root.iterdir()) == [], "nothing was made on the bare mount point"


def test_names_passes_over_what_is_foreign_or_was_never_written(root: Path) -> None:
    chain(PosixRegister(root, "1"), "vm/web", 1)
    (root / "reg" / "vm" / "lost+found").mkdir()
    (root / "reg" / "vm" / "begun").mkdir()
    (root / "reg" / "vm" / "note.txt").write_text("x")
    (root / "reg" / "vm" / "note").write_text("x")
    assert PosixRegister(root, "2").names("vm") == ["vm/web"]


def test_no_room_for_a_temporary_uses_the_spare(root: Path) -> None:
    class Full(Files):
        full = False

        def create(self, path: Path, data: bytes, mode: int = 0o600) -> None:
            if self.full:
                path.write_bytes(data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            super().create(path, data, mode)

    files = Full()
    register = PosixRegister(root, "1", files=files)
    chain(register, "lease/web", 1)
    files.full = True
    assert register.swap("lease/web", 1, {"n": 2}).ok
    assert PosixRegister(root, "2").read("lease/web") == (2, {"n": 2})
    with pytest.raises(StorageTrouble, match="full"):  # the spare is used up
        register.swap("lease/web", 2, {"n": 3})
    assert register.read("lease/web") == (2, {"n": 2})
    assert list((root / "tmp" / "1").iterdir()) == []
    files.full = False
    chain(register, "lease/web", 1)
    assert (root / "tmp" / "1" / "spare").stat().st_size == 64 * 1024


def test_bad_writers_are_refused(root: Path) -> None:
    for writer in ("", "../1", "a b", "ä"):
        with pytest.raises(InvalidInput):
            PosixRegister(root, writer)
