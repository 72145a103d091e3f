"""Snapshots and copies of running VMs, with a real QEMU."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from pathlib import Path

import pytest
from driver_kit import until
from private_libvirtd import PrivateLibvirtd
from tiny_guest import write_disk

from outlast.errors import Conflict, HypervisorTrouble, NotFound
from outlast.hypervisor.libvirt_driver import LibvirtDriver, LibvirtOptions
from outlast.model import Disk, VmSpec

pytestmark = pytest.mark.rack


def running(driver: LibvirtDriver, folder: Path, *, mib: int = 0) -> VmSpec:
    """A VM that writes to its first disk, qcow2, and has a raw one."""
    raw, first, second = folder / "raw", folder / "web.qcow2", folder / "web-seed.iso"
    write_disk(raw, writes=True, size=64 << 20)
    base = ["qemu-img", "convert", "-O", "qcow2", raw, folder / "base.qcow2"]
    subprocess.run(base, check=True)
    over = ["-b", "base.qcow2", "-F", "qcow2", first]  # a linked clone
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *over], check=True)
    second.write_bytes(os.urandom(1 << 16) * (mib << 4 or 1))
    disks = (Disk(str(first), "qcow2"), Disk(str(second), "raw"))
    spec = VmSpec("web", str(uuid.uuid4()), 8, 1, disks)
    driver.start(spec)
    return spec


def info(path: object) -> dict[str, object]:
    said = subprocess.run(
        ["qemu-img", "info", "-U", "--output", "json", str(path)], check=True, capture_output=True
    ).stdout
    return json.loads(said)


def names(path: object) -> list[str]:
    return [one["name"] for one in info(path).get("snapshots", [])]  # type: ignore[attr-defined]


def sound(disk: str) -> bool:
    """Killed while it writes, QEMU may leave clusters that nothing uses (3): no harm."""
    return subprocess.run(["qemu-img", "check", disk], capture_output=True).returncode in {0, 3}


def test_a_running_vms_disk_is_kept_and_forgotten(driver: LibvirtDriver, tmp_path: Path) -> None:
    disk = running(driver, tmp_path).disks[0].path
    driver.disks.snapshot("web", [disk], "before")
    driver.disks.snapshot("web", [disk], "after")
    until(lambda: names(disk) == ["before", "after"])
    with pytest.raises(HypervisorTrouble, match=r"before.*exists"):
        driver.disks.snapshot("web", [disk], "before")
    driver.disks.drop_snapshot("web", [disk], "before")
    driver.disks.drop_snapshot("web", [disk], "before")
    assert names(disk) == ["after"]
    with pytest.raises(HypervisorTrouble, match="does not have the disk"):
        driver.disks.snapshot("web", [disk, "/no/such"], "x")
    with pytest.raises(NotFound):
        driver.disks.snapshot("none", [disk], "x")
    assert driver.disks.freeze("web") is False  # nobody inside answers
    driver.disks.thaw("web")
    driver.kill("web")
    assert sound(disk)


def test_a_running_vm_is_copied_while_it_writes(driver: LibvirtDriver, tmp_path: Path) -> None:
    first, second = (disk.path for disk in running(driver, tmp_path).disks)
    copies = {first: str(tmp_path / "c0.qcow2"), second: str(tmp_path / "c1.qcow2")}
    copy = driver.disks.backup("web", copies, 0)
    assert copy.wait(30)
    assert copy.trouble == ""
    for path in copies.values():
        subprocess.run(["qemu-img", "check", path], check=True, capture_output=True)
    said = subprocess.run(
        ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", second, copies[second]],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "identical" in said
    copied = info(copies[first])
    assert (copied["virtual-size"], "backing-filename" in copied) == (64 << 20, False)
    raw, whole = tmp_path / "raw", copies[first]  # what it lies over is in the copy as well
    head = ["qemu-io", "-f", "qcow2", "-c", "read -v 0 512", whole]
    said = subprocess.run(head, check=True, capture_output=True, text=True).stdout
    assert raw.read_bytes()[:8].hex(" ") in said


def test_a_copy_keeps_to_its_limit_is_given_up_and_ends_with_its_vm(
    driver: LibvirtDriver, tmp_path: Path
) -> None:
    disk = running(driver, tmp_path, mib=768).disks[1].path  # more than goes before the limit
    copy = driver.disks.backup("web", {disk: str(tmp_path / "slow.qcow2")}, 4 << 20)
    assert not copy.wait(1.5)
    until(lambda: copy.progress().done_bytes > 0)
    assert copy.progress().total_bytes == 768 << 20
    assert copy.progress().done_bytes < 700 << 20
    with pytest.raises(Conflict, match="are being copied"):
        driver.disks.backup("web", {disk: str(tmp_path / "third.qcow2")}, 0)
    copy.abort()
    assert copy.wait(60)
    assert copy.trouble == "it was given up"
    (tmp_path / "slow.qcow2").unlink(missing_ok=True)
    again = driver.disks.backup("web", {disk: str(tmp_path / "again.qcow2")}, 1 << 20)
    driver.kill("web")
    assert again.wait(20)
    assert "went away" in again.trouble


def test_the_next_process_ends_the_copy_of_a_dead_one(
    driver: LibvirtDriver, libvirtd: PrivateLibvirtd, tmp_path: Path
) -> None:
    """QEMU goes on with a copy whose agent has died, into a folder that nobody looks into."""
    disk = running(driver, tmp_path, mib=768).disks[1].path
    hidden = tmp_path / ".new-web"
    hidden.mkdir()
    dead = driver.disks.backup("web", {disk: str(hidden / "slow.qcow2")}, 1 << 20)
    heir = LibvirtDriver(libvirtd.uri, LibvirtOptions(root=libvirtd.root))
    try:
        copy = heir.disks.backup("web", {disk: str(tmp_path / "seen.qcow2")}, 1 << 20)
        assert dead.wait(20) and not copy.wait(0)
        third = LibvirtDriver(libvirtd.uri, LibvirtOptions(root=libvirtd.root))
        with pytest.raises(Conflict, match=r"copied to .*seen.qcow2 already"):
            third.disks.backup("web", {disk: str(tmp_path / "third.qcow2")}, 0)
        third.close()
        slow = copy.progress().done_bytes
        heir.disks.limit("web", 0)
        until(lambda: copy.wait(0) or copy.progress().done_bytes > slow + (64 << 20))
    finally:
        heir.close()


def test_a_running_vms_disk_goes_into_another_file(driver: LibvirtDriver, tmp_path: Path) -> None:
    disk = running(driver, tmp_path).disks[0].path
    disks, target = driver.disks, str(tmp_path / "elsewhere.qcow2")
    empty(target)
    disks.mirror("web", disk, target, "qcow2", 0)
    until(lambda: bool((now := disks.mirrored("web", disk)) and now.level))
    with pytest.raises(HypervisorTrouble, match="still"):
        disks.pivot("web", disk, target)
    disks.hold("web")
    until(lambda: bool((now := disks.mirrored("web", disk)) and now.level))
    disks.pivot("web", disk, target)
    assert target in disks.files("web") and disk not in disks.files("web")
    same = ["qemu-img", "compare", "-U", disk, target]
    assert "identical" in subprocess.run(same, check=True, capture_output=True, text=True).stdout
    before = Path(target).read_bytes()
    Path(disk).unlink()
    disks.go_on("web")
    disks.go_on("web")
    until(lambda: Path(target).read_bytes() != before)
    assert disks.mirrored("web", target) is None
    driver.kill("web")
    assert sound(target)


def test_a_mirror_keeps_to_its_limit_and_can_be_given_up(
    driver: LibvirtDriver, tmp_path: Path
) -> None:
    disk, target = running(driver, tmp_path, mib=256).disks[1].path, str(tmp_path / "slow")
    Path(target).write_bytes(b"")
    os.truncate(target, 256 << 20)
    driver.disks.mirror("web", disk, target, "raw", 4 << 20)
    until(lambda: bool((now := driver.disks.mirrored("web", disk)) and now.done_bytes))
    driver.disks.limit("web", 64 << 10)
    now = driver.disks.mirrored("web", disk)
    assert now is not None and not now.level and now.done_bytes < 128 << 20
    assert now.total_bytes == 256 << 20
    driver.disks.give_up("web", disk)
    driver.disks.give_up("web", disk)
    assert driver.disks.mirrored("web", disk) is None
    assert disk in driver.disks.files("web")
    driver.disks.mirror("web", disk, target, "raw", 1 << 20)
    driver.disks.limit("web", 0)
    until(lambda: bool((now := driver.disks.mirrored("web", disk)) and now.level))
    with pytest.raises(NotFound):
        driver.disks.mirrored("none", disk)


def empty(path: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
