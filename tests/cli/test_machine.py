"""What the command line finds out about this machine."""

from __future__ import annotations

from pathlib import Path

from outlast.cli.machine import libvirt_settings

GOOD = """user = "root"  # the guard speaks to root
cgroup_controllers = [ ]
security_driver = "none"
"""


def test_libvirt_that_lets_the_guard_see_every_vm_is_not_mentioned(tmp_path: Path) -> None:
    conf = tmp_path / "qemu.conf"
    conf.write_text(GOOD)
    assert libvirt_settings(conf) == []


def test_each_missing_setting_is_named_with_what_to_write(tmp_path: Path) -> None:
    conf = tmp_path / "qemu.conf"
    conf.write_text(GOOD.replace('user = "root"', '#user = "root"'))
    (line,) = libvirt_settings(conf)
    assert line.startswith('set user = "root" in ')


def test_no_libvirt_is_said_plainly(tmp_path: Path) -> None:
    (line,) = libvirt_settings(tmp_path / "nothing.conf")
    assert "is libvirt installed?" in line
