"""Wishes: what is written, what is refused, what is left on the disk."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import MemoryService

from outlast.agent.wishes import Wishes
from outlast.errors import Conflict, InvalidInput, NotFound, OutlastError, StorageTrouble, TimedOut
from outlast.images import qemu_img
from outlast.model import Desired, StopMode
from outlast.storage.memory import Fate
from outlast.wire.shapes import BadField, VmCreate, VmDelete, make


@pytest.fixture
def pool_dir(tmp_path: Path) -> Path:
    for name in ("images", "reg", "logs"):
        (tmp_path / name).mkdir()
    (tmp_path / "secret").write_text("x")
    return tmp_path


@pytest.fixture
def service(pool_dir: Path) -> MemoryService:
    return MemoryService(pool_dir)


class Hours:
    """A clock that goes on only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def wishes(service: MemoryService) -> Wishes:
    hours = Hours()
    return Wishes(service, clock=hours, sleep=hours.sleep)


def spec(**more: object) -> VmCreate:
    return make(VmCreate, **({"name": "web", "memory": "512MiB"} | more))


def images(pool_dir: Path) -> list[str]:
    return sorted(path.name for path in (pool_dir / "images").iterdir())


# ---- create


def test_create_writes_the_record_and_the_disks(
    wishes: Wishes, service: MemoryService, pool_dir: Path
) -> None:
    done = wishes.create(spec(vcpus=2, disks=[{"size": "1G"}, {"size": "8MiB"}], preferred=["b"]))
    assert (done.version, done.changed, done.sentence) == (1, True, "web is created")
    held = service.read_vm("web")
    assert held is not None
    record = held.value
    assert (record.spec.memory_mib, record.spec.vcpus, record.ha) == (512, 2, True)
    assert (record.desired, record.preferred) == (Desired.STOPPED, ("b",))
    assert [d.path for d in record.spec.disks] == [
        f"{pool_dir}/images/web.raw", f"{pool_dir}/images/web-2.raw",
    ]  # fmt: skip
    disk = (pool_dir / "images/web.raw").stat()
    assert (disk.st_size, disk.st_blocks, disk.st_mode & 0o777) == (1 << 30, 0, 0o600)
    assert len(record.spec.uuid) == 36
    assert images(pool_dir) == ["web-2.raw", "web.raw"]


def test_create_twice_is_a_conflict(wishes: Wishes, pool_dir: Path) -> None:
    wishes.create(spec(disks=[{"size": "1M"}]))
    with pytest.raises(Conflict, match="there is a VM 'web' already"):
        wishes.create(spec(disks=[{"path": "images/other.raw", "size": "1M"}]))
    assert images(pool_dir) == ["web.raw"]


def test_an_existing_file_is_never_taken_by_accident(
    wishes: Wishes, service: MemoryService, pool_dir: Path
) -> None:
    (pool_dir / "images/web.raw").write_bytes(b"precious")
    with pytest.raises(Conflict, match="exists already") as caught:
        wishes.create(spec(disks=[{"size": "1M"}]))
    assert "--use-existing" in caught.value.hint
    assert service.read_vm("web") is None
    wishes.create(spec(disks=[{"path": "images/web.raw"}], use_existing=True))
    assert (pool_dir / "images/web.raw").read_bytes() == b"precious"


def test_a_new_disk_whose_name_says_qcow2_is_qcow2(wishes: Wishes, pool_dir: Path) -> None:
    wishes.create(spec(disks=[{"path": "images/web.qcow2", "size": "3M"}]))
    assert qemu_img.info(pool_dir / "images/web.qcow2", "qcow2")["virtual-size"] == 3 << 20
    assert images(pool_dir) == ["web.qcow2"]


def test_nothing_is_half_made_when_the_second_disk_fails(
    wishes: Wishes, service: MemoryService, pool_dir: Path
) -> None:
    disks = [{"size": "1M"}, {"path": "images/huge.raw", "size": "1048576T"}]
    with pytest.raises(OutlastError, match="too large"):
        wishes.create(spec(disks=disks))
    assert images(pool_dir) == []
    assert service.read_vm("web") is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"name": "Web"}, "not a usable VM name"),
        ({"name": "../etc"}, "not a usable VM name"),
        ({"name": "-web"}, "not a usable VM name"),
        ({"name": "w" * 64}, "not a usable VM name"),
        ({"memory": 1 << 19}, "whole MiB"),
        ({"disks": [{"path": "/etc/passwd"}], "use_existing": True}, "not on the pool's storage"),
        ({"disks": [{"path": "../x.raw", "size": "1M"}]}, "not on the pool's storage"),
        ({"disks": [{"path": "secret"}], "use_existing": True}, "belongs to the pool itself"),
        ({"disks": [{"path": "images/../reg/x", "size": "1M"}]}, "belongs to the pool itself"),
        ({"disks": [{"path": "."}]}, "belongs to the pool itself"),
        ({"disks": [{"path": "images/none.raw"}]}, "there is no file"),
        ({"disks": [{"path": "nowhere/x.raw", "size": "1M"}]}, "there is no folder"),
        ({"disks": [{"path": "images"}], "use_existing": True}, "is no file"),
        ({"disks": [{"path": "images/a\nb", "size": "1M"}]}, "control characters"),
        ({"disks": [{"size": "1M"}, {"path": "images/web.raw", "size": "1M"}]}, "named twice"),
        ({"kernel": "images/vmlinuz"}, "there is no file"),
        ({"cmdline": "quiet"}, "need a kernel"),
        ({"serial_log": "nowhere/web.log"}, "there is no folder"),
        ({"preferred": ["mars"]}, "no host 'mars'"),
        ({"networks": ["br 0"]}, "no bridge name"),
    ],
)
def test_what_cannot_be_taken_is_refused_before_anything_is_made(
    wishes: Wishes, pool_dir: Path, more: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        wishes.create(spec(**more))
    assert images(pool_dir) == []


def test_a_symlink_out_of_the_pool_is_seen_through(wishes: Wishes, pool_dir: Path) -> None:
    (pool_dir / "images/link.raw").symlink_to("/etc/passwd")
    with pytest.raises(BadField, match="not on the pool's storage"):
        wishes.create(spec(disks=[{"path": "images/link.raw"}], use_existing=True))


def test_a_raw_disk_with_a_qcow2_header_is_not_believed(wishes: Wishes, pool_dir: Path) -> None:
    (pool_dir / "images/web.raw").write_bytes(b"QFI\xfb" + b"\0" * 600)
    with pytest.raises(BadField, match="is a qcow2 image"):
        wishes.create(spec(disks=[{"path": "images/web.raw"}], use_existing=True))


def test_a_disk_belongs_to_one_vm(wishes: Wishes, pool_dir: Path) -> None:
    wishes.create(spec(disks=[{"size": "1M"}]))
    with pytest.raises(Conflict, match="belongs to the VM 'web'"):
        wishes.create(spec(name="db", disks=[{"path": "images/web.raw"}], use_existing=True))


def test_a_full_storage_is_named_and_leaves_nothing(small: Callable[[str], Path]) -> None:
    where = small("size=1M,nr_inodes=4")
    (where / "images").mkdir()
    for n in range(2):  # the root and images are two inodes of the four
        (where / f"images/f{n}").touch()
    service = MemoryService(where)
    with pytest.raises(StorageTrouble, match="storage is full"):
        Wishes(service).create(spec(disks=[{"size": "1M"}]))
    assert images(where) == ["f0", "f1"]
    assert service.read_vm("web") is None


def test_a_read_only_storage_is_named(small: Callable[[str], Path]) -> None:
    where = small("size=1M")
    (where / "images").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", where], check=True)
    with pytest.raises(StorageTrouble, match="read-only"):
        Wishes(MemoryService(where)).create(spec(disks=[{"size": "1M"}]))


# ---- start, stop, kill


def test_start_stop_and_kill_are_wishes(wishes: Wishes, service: MemoryService) -> None:
    wishes.create(spec())
    assert wishes.start("web").sentence == "web shall run"
    assert "web" in service.local
    again = wishes.start("web")
    assert (again.changed, again.version) == (False, 2)
    assert wishes.stop("web").version == 3
    assert not wishes.stop("web").changed
    wishes.kill("web")
    held = service.read_vm("web")
    assert held is not None
    assert (held.value.desired, held.value.stop_mode) == (Desired.STOPPED, StopMode.KILL)
    wishes.stop("web")  # asking nicely after a kill does not take the kill back
    held = service.read_vm("web")
    assert held is not None and held.value.stop_mode is StopMode.KILL


def test_start_clears_held_down(wishes: Wishes, service: MemoryService) -> None:
    wishes.create(spec())
    held = service.read_vm("web")
    assert held is not None
    down = replace(held.value, desired=Desired.RUNNING, held_down="it died")
    service.write_vm(held.version, down)
    wishes.start("web")
    held = service.read_vm("web")
    assert held is not None and held.value.wanted


@pytest.mark.parametrize("act", ["start", "stop", "kill"])
def test_a_vm_that_is_not_there(wishes: Wishes, act: str) -> None:
    with pytest.raises(NotFound, match="no VM 'web'"):
        getattr(wishes, act)("web")
    with pytest.raises(InvalidInput):
        getattr(wishes, act)("We b")


def test_others_who_write_meanwhile_lose_nothing(wishes: Wishes, service: MemoryService) -> None:
    """Between our read and our write somebody clears ha; both changes stand in the end."""
    wishes.create(spec())
    real, once = service.write_vm, []

    def interfered(expected: int, record):  # type: ignore[no-untyped-def]
        if not once:
            once.append(1)
            held = service.read_vm("web")
            assert held is not None
            real(held.version, replace(held.value, ha=False))
        return real(expected, record)

    service.write_vm = interfered  # type: ignore[method-assign]
    wishes.start("web")
    held = service.read_vm("web")
    assert held is not None and held.value.wanted and not held.value.ha and held.version == 3


def test_a_lost_reply_is_found_out(wishes: Wishes, service: MemoryService) -> None:
    wishes.create(spec())
    fates = iter([Fate.DONE, Fate.REPLY_LOST])
    service.obedient, service.trouble = False, "its picture reads no register"
    service.register.fate = lambda _name: next(fates, Fate.DONE)
    assert wishes.start("web").version == 2


def test_an_unknown_outcome_is_told_as_such(
    wishes: Wishes, service: MemoryService, pool_dir: Path
) -> None:
    service.obedient = False
    fates = iter([Fate.DONE, Fate.LATE])
    service.register.fate = lambda _name: next(fates, Fate.DONE)
    with pytest.raises(StorageTrouble, match="did not say whether"):
        wishes.create(spec(disks=[{"size": "1M"}]))
    assert images(pool_dir) == ["web.raw"]  # the record may still arrive, and it does:
    service.register.shelf.execute_late()
    held = service.read_vm("web")
    assert held is not None and held.value.spec.disks


def test_a_certain_failure_leaves_no_disk(
    wishes: Wishes, service: MemoryService, pool_dir: Path
) -> None:
    def full(_expected: int, _record: object) -> None:
        raise StorageTrouble("the pool's storage is full")

    service.write_vm = full  # type: ignore[method-assign,assignment]
    with pytest.raises(StorageTrouble, match="full"):
        wishes.create(spec(disks=[{"size": "1M"}]))
    assert images(pool_dir) == []


# ---- delete


def test_delete_keeps_the_disks_unless_told(wishes: Wishes, pool_dir: Path) -> None:
    wishes.create(spec(disks=[{"size": "1M"}]))
    assert wishes.delete("web", VmDelete()).sentence == "web is deleted"
    assert images(pool_dir) == ["web.raw"]
    with pytest.raises(NotFound):
        wishes.delete("web", VmDelete())
    wishes.create(spec(disks=[{"path": "images/web.raw"}], use_existing=True))
    assert "and its disks" in wishes.delete("web", VmDelete(with_disks=True)).sentence
    assert images(pool_dir) == []


def test_create_over_a_tombstone_is_a_new_vm(wishes: Wishes, service: MemoryService) -> None:
    wishes.create(spec())
    first = service.read_vm("web")
    wishes.delete("web", VmDelete())
    assert wishes.create(spec(memory="1G")).version == 3
    second = service.read_vm("web")
    assert first is not None and second is not None
    assert first.value.spec.uuid != second.value.spec.uuid
    assert (second.value.deleted, second.value.desired) == (False, Desired.STOPPED)


def test_a_running_vm_is_deleted_only_by_force(
    wishes: Wishes, service: MemoryService, pool_dir: Path
) -> None:
    wishes.create(spec(disks=[{"size": "1M"}]))
    wishes.start("web")
    with pytest.raises(Conflict, match="a holds its lease"):
        wishes.delete("web", VmDelete(with_disks=True))
    assert images(pool_dir) == ["web.raw"]
    wishes.delete("web", VmDelete(force=True, with_disks=True))
    assert images(pool_dir) == [] and "web" not in service.local


def test_force_waits_for_the_end_and_gives_up_in_words(
    wishes: Wishes, service: MemoryService, pool_dir: Path
) -> None:
    wishes.create(spec(disks=[{"size": "1M"}]))
    wishes.start("web")
    service.obedient = False
    with pytest.raises(TimedOut, match="a holds its lease"):
        wishes.delete("web", VmDelete(force=True, with_disks=True))
    held = service.read_vm("web")
    assert held is not None and not held.value.deleted
    assert held.value.desired is Desired.STOPPED
    assert images(pool_dir) == ["web.raw"]


def test_a_disk_that_another_vm_uses_stays(wishes: Wishes, service: MemoryService) -> None:
    wishes.create(spec(disks=[{"size": "1M"}]))
    held = service.read_vm("web")
    assert held is not None
    twin = replace(held.value, spec=replace(held.value.spec, name="twin", uuid="t"))
    service.write_vm(0, twin)
    said = wishes.delete("web", VmDelete(with_disks=True)).sentence
    assert said.endswith("images/web.raw is left: twin uses it")
    assert Path(held.value.spec.disks[0].path).exists()
