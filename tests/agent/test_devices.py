"""Disks of VMs in a pool without a shared file system."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_service import MemoryService

from outlast.agent import images
from outlast.agent.wishes import Wishes
from outlast.errors import Conflict, InvalidInput
from outlast.storage.etcd_access import Access, access_text
from outlast.wire.shapes import BadField, DiskWish, VmCreate, VmDelete, make


@pytest.fixture
def pool_dir(tmp_path: Path) -> Path:
    """A host's own directory of a pool on etcd."""
    root = tmp_path / "pool"
    (root / "images").mkdir(parents=True)
    access = Access(("http://127.0.0.1:1",), "", "lab")
    (root / "etcd.json").write_bytes(access_text(access))
    return root


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    file = tmp_path / "file"
    file.write_bytes(bytes(1 << 20))
    done = subprocess.run(
        ["losetup", "-f", "--show", file], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no loop devices here: {done.stderr}")
    yield done.stdout.strip()
    subprocess.run(["losetup", "-d", done.stdout.strip()], check=True)


def plan(pool_dir: Path, *paths: str, use_existing: bool = True) -> list[str]:
    wishes = [DiskWish(path=path) for path in paths]
    planned = images.plan(str(pool_dir), {}, "web", wishes, use_existing)
    assert not any(item.size_bytes for item in planned), "nothing is made"
    return [f"{item.disk.kind} {item.disk.path} {item.disk.format}" for item in planned]


def test_devices_and_rbd_are_taken(pool_dir: Path, device: str) -> None:
    assert plan(pool_dir, device, "rbd:vms/web-1") == [
        f"block {device} raw", "rbd rbd:vms/web-1 raw",
    ]  # fmt: skip
    with pytest.raises(BadField, match="named twice"):
        plan(pool_dir, device, device)
    with pytest.raises(Conflict, match="exists already"):
        plan(pool_dir, device, use_existing=False)


@pytest.mark.parametrize(
    "path",
    ["", "images/web.raw", "/srv/web.raw", "rbd:web", "rbd:a/b:conf=/etc/evil", "rbd:a/b/c",
     "rbd:/x", "/dev/../etc/passwd", "/dev/null", "/dev/no-such-device"],
)  # fmt: skip
def test_what_other_hosts_would_not_find_is_refused(pool_dir: Path, path: str) -> None:
    with pytest.raises(BadField):
        plan(pool_dir, path)


def test_nothing_is_made_there(pool_dir: Path, device: str) -> None:
    with pytest.raises(BadField, match="cannot be made here"):
        images.plan(str(pool_dir), {}, "web", [DiskWish(path=device, size=1 << 20)], True)


def test_a_device_that_this_host_uses_is_no_disk(pool_dir: Path, device: str) -> None:
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    place = pool_dir / "mounted"
    place.mkdir()
    if subprocess.run(["mount", device, place], check=False).returncode:
        pytest.skip("may not mount here")
    try:
        with pytest.raises(BadField, match="this host uses"):
            plan(pool_dir, device)
    finally:
        subprocess.run(["umount", place], check=True)


def test_files_of_the_firmware_have_no_place(pool_dir: Path) -> None:
    wishes = Wishes(MemoryService(pool_dir))
    wish = make(VmCreate, name="web", memory="64MiB", hardware={"firmware": "uefi"})
    with pytest.raises(InvalidInput, match="this pool shares none"):
        wishes.create(wish)


def test_deleting_a_vm_removes_no_device(pool_dir: Path, device: str) -> None:
    service = MemoryService(pool_dir)
    wishes = Wishes(service)
    wish = make(
        VmCreate, name="web", memory="64MiB", disks=[{"path": device}], use_existing=True
    )  # fmt: skip
    wishes.create(wish)
    said = wishes.delete("web", VmDelete(with_disks=True))
    assert Path(device).is_block_device()
    assert f"{device} is left: it is no file" in said.sentence
