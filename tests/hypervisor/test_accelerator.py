"""KVM is chosen when it was seen to work, and never because of a device node."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from outlast.errors import HypervisorTrouble, InvalidInput
from outlast.hypervisor import accelerator
from outlast.hypervisor.accelerator import choose, probe

QEMU = shutil.which("qemu-system-x86_64") or ""
needs_qemu = pytest.mark.skipif(not QEMU, reason="needs qemu-system-x86_64")


def wrapper(folder: Path, kvm_does: str) -> str:
    """A QEMU whose -accel kvm does something else; under tcg it is the real one."""
    path = folder / "qemu"
    path.write_text(
        f'#!/bin/sh\necho "$2" >> {folder}/calls\n'
        f'[ "$2" = kvm ] && {{ {kvm_does}; }}\nexec {QEMU} "$@"\n'
    )
    path.chmod(0o755)
    return str(path)


def as_tcg(rest: str = "") -> str:
    return f'{rest} shift 2; exec {QEMU} -accel tcg "$@"'


@needs_qemu
def test_a_kvm_that_boots_is_chosen(tmp_path: Path) -> None:
    found = probe(wrapper(tmp_path, as_tcg()), device=Path("/dev/null"))
    assert found.name == "kvm"
    assert "boots in" in found.why


@needs_qemu
@pytest.mark.parametrize(
    ("kvm_does", "why"),
    [
        ("exec sleep 60", "does not boot within"),
        ("echo 'failed to initialize kvm' >&2; exit 1", "failed to initialize kvm"),
        ("exit 99", "exit status 99"),  # the right code without the sign of life
        (as_tcg("sleep 4;"), "does not boot within"),
    ],
)
def test_a_kvm_that_does_not_boot_is_not(tmp_path: Path, kvm_does: str, why: str) -> None:
    found = probe(wrapper(tmp_path, kvm_does), device=Path("/dev/null"))
    assert found.name == "tcg"
    assert why in found.why
    assert (tmp_path / "calls").read_text().split() == ["tcg", "kvm", "kvm"]


@needs_qemu
def test_no_device_needs_no_trial(tmp_path: Path) -> None:
    found = probe(wrapper(tmp_path, "exit 1"), device=tmp_path / "kvm")
    assert found.name == "tcg"
    assert str(tmp_path / "kvm") in found.why
    assert (tmp_path / "calls").read_text().split() == ["tcg"]


@needs_qemu
def test_it_is_tried_once_per_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("one\n")
    monkeypatch.setattr(accelerator, "BOOT_ID", boot_id)
    cache = tmp_path / "accelerator.json"
    qemu = wrapper(tmp_path, "exit 1")
    calls = tmp_path / "calls"
    first = probe(qemu, cache, device=tmp_path / "kvm")
    assert probe(qemu, cache, device=tmp_path / "kvm") == first
    assert len(calls.read_text().split()) == 1
    boot_id.write_text("two\n")
    probe(qemu, cache, device=tmp_path / "kvm")
    assert len(calls.read_text().split()) == 2
    assert json.loads(cache.read_text())["boot_id"] == "two"
    for damage in ("", "[]", '{"boot_id": "two"}', "\0"):
        cache.write_text(damage)
        assert probe(qemu, cache, device=tmp_path / "kvm") == first


@pytest.mark.parametrize("emulator", ["/nowhere/qemu", "/bin/false"])
def test_a_qemu_that_does_not_work_is_an_error(emulator: str) -> None:
    with pytest.raises(HypervisorTrouble) as caught:
        probe(emulator)
    assert emulator in caught.value.hint


@needs_qemu
def test_wishes(tmp_path: Path) -> None:
    assert choose("tcg", "/nowhere").name == "tcg"
    assert choose("auto", QEMU, device=tmp_path / "kvm").name == "tcg"
    with pytest.raises(HypervisorTrouble, match="set to use KVM"):
        choose("kvm", QEMU, device=tmp_path / "kvm")
    with pytest.raises(InvalidInput, match="xen"):
        choose("xen", QEMU)
