"""An agent that begins before its pool's storage: it has it mounted, and waits."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from outlast.agent.__main__ import REMOUNT_EVERY, wait_for_settings
from outlast.errors import StorageTrouble
from outlast.mounts.options import choose
from outlast.mounts.systemd import Mounts
from outlast.mounts.unit import unit_name, unit_text
from outlast.settings import preset
from outlast.storage.format import pool_to
from outlast.storage.layout import new_settings
from outlast.storage.memory import MemoryRegister

SETTINGS = new_settings("prod", preset("standard"))


def test_what_a_boot_could_not_mount_is_tried_again_until_it_is_there() -> None:
    register, tries = MemoryRegister(), []

    def remount() -> bool:
        tries.append(1)
        if len(tries) == 2:
            raise StorageTrouble("systemd says no")
        if len(tries) == 3:
            assert register.swap("pool", 0, pool_to(SETTINGS)).ok
        return True

    assert wait_for_settings(register, threading.Event(), remount, pause_s=0) == SETTINGS
    assert len(tries) == 3, f"not again after {REMOUNT_EVERY} looks"


def test_it_is_asked_to_stop_meanwhile() -> None:
    stopped = threading.Event()

    def remount() -> bool:
        stopped.set()
        return True

    assert wait_for_settings(MemoryRegister(), stopped, remount) is None


@pytest.mark.parametrize(("path", "wanted"), [("/srv/pool", True), ("/srv/pool/prod", True),
                                              ("/srv/pools", False), ("/srv", False)])  # fmt: skip
def test_only_what_carries_the_path_is_mounted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, wanted: bool
) -> None:
    mounts, asked = Mounts(tmp_path, tmp_path), []
    monkeypatch.setattr(mounts, "_systemctl", lambda *words: asked.append(words))
    (tmp_path / "proc/self").mkdir(parents=True)
    table = tmp_path / "proc/self/mountinfo"
    table.write_text("41 40 8:1 / / rw - ext4 /dev/sda1 rw\n")
    unit = unit_text(choose("nfs", "nas:/export"), "/srv/pool", "pool")
    (tmp_path / unit_name("/srv/pool")).write_text(unit)
    assert mounts.again(path) is wanted
    assert asked == [("start", "--no-block", "srv-pool.mount")] * wanted
    table.write_text("42 41 0:50 / /srv/pool rw - nfs4 nas:/export rw\n")
    assert not mounts.again(path), "it is mounted"
