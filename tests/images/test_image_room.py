"""Imports into a storage that has no room for them, or does not say how much it has."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import image_files as make
import pytest

from outlast.errors import StorageTrouble
from outlast.images import qemu_img
from outlast.images.library import Library

FAST = 0
Mount = Callable[[str], Path]


def test_a_full_disk_is_told_and_nothing_is_left(small: Mount, tmp_path: Path) -> None:
    storage = small("size=8m")
    disk = tmp_path / "big.img"
    disk.write_bytes(os.urandom(12 << 20))
    (storage / "images").mkdir()
    with pytest.raises(StorageTrouble, match="12 MiB are needed, there is room for 7 MiB"):
        Library(storage).take("big", str(disk), rate_bytes_s=FAST)
    target = storage / "x.qcow2"
    with pytest.raises(StorageTrouble, match="the storage is full"):
        qemu_img.convert(disk, "raw", target, "qcow2", 0, lambda _: None)
    target.unlink()
    assert make.hidden(storage) == []
    disk.write_bytes(os.urandom(1 << 20))
    assert Library(storage).take("fits", str(disk), rate_bytes_s=FAST).name == "fits"


def test_a_storage_that_says_nothing_of_its_room_gets_nothing_large(
    small: Mount, tmp_path: Path
) -> None:
    """Like Ceph without a manager: all numbers are 0, which is not "full"."""
    silent = small("size=0")
    (silent / "images").mkdir()
    with pytest.raises(StorageTrouble, match="does not say how much room") as refused:
        Library(silent).take("any", str(make.raw(tmp_path / "disk.img")), rate_bytes_s=FAST)
    assert "mgr" in refused.value.hint
    assert (Library(silent).all(), make.hidden(silent)) == ([], [])
