"""Hardware of new VMs: where its state lies, what is refused, what goes with the VM."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import MemoryService

from outlast.agent.wishes import Wishes
from outlast.errors import Conflict
from outlast.model import VmSpec
from outlast.wire.hardware import HardwareWish
from outlast.wire.shapes import BadField, VmChange, VmCreate, VmDelete, make


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    (tmp_path / "images").mkdir()
    return MemoryService(tmp_path)


def create(service: MemoryService, hardware: dict[str, object], **more: object) -> VmSpec:
    wish = make(VmCreate, name="web", memory="512MiB", hardware=hardware, **more)
    Wishes(service).create(wish)
    held = service.read_vm("web")
    assert held is not None
    return held.value.spec


def test_what_a_vm_must_find_again_is_on_the_pools_storage(
    service: MemoryService, tmp_path: Path
) -> None:
    spec = create(service, {"firmware": "uefi-secure", "tpm": True, "watchdog": "restart",
                            "cpu": "passthrough"})  # fmt: skip
    assert (spec.machine, spec.watchdog, spec.cpu) == ("q35", "restart", "passthrough")
    place = tmp_path / "firmware" / f"web-{spec.uuid}"
    assert (spec.nvram, spec.tpm_state) == (f"{place}.fd", f"{place}.tpm")
    assert place.parent.stat().st_mode & 0o777 == 0o700
    Path(spec.nvram).write_bytes(b"variables")
    (Path(spec.tpm_state) / "tpm2").mkdir(parents=True)
    Wishes(service).delete("web", VmDelete(with_disks=True))
    assert list(place.parent.iterdir()) == []


def test_a_new_vm_like_another_one_has_its_hardware_at_places_of_its_own(
    service: MemoryService,
) -> None:
    told = {
        "firmware": "uefi", "tpm": True, "watchdog": "reset", "agent_channel": True,
        "graphics": "none", "vcpus_max": 4, "memory_max": "1GiB", "cpu": "passthrough",
    }  # fmt: skip
    first = create(service, told | {"devices": ["usb:046d:c52b"]}, preferred=["a"])
    like = HardwareWish.like(first)
    Wishes(service).create(make(VmCreate, name="next", memory="512MiB", hardware=like))
    held = service.read_vm("next")
    assert held is not None
    second = held.value.spec
    assert second.nvram != first.nvram and second.tpm_state != first.tpm_state
    own = replace(
        second, name=first.name, uuid=first.uuid, nvram=first.nvram, tpm_state=first.tpm_state,
        devices=first.devices,
    )  # fmt: skip
    assert own == first


def test_a_plain_vm_has_none_of_it(service: MemoryService, tmp_path: Path) -> None:
    spec = create(service, {})
    plain = VmSpec(spec.name, spec.uuid, 512, 1)
    assert replace(spec, disks=()) == plain
    assert not (tmp_path / "firmware").exists()


@pytest.mark.parametrize(
    ("hardware", "more", "words"),
    [
        ({"devices": ["pci:0000:03:00.0"]}, {}, "pin the VM"),
        ({"devices": ["tape:1"]}, {"preferred": ["a"]}, "tape:1 is no device"),
        ({"firmware": "uefi"}, {"kernel": "images/k"}, "not from a kernel"),
        ({"vcpus_max": 2}, {"vcpus": 4}, "more than the most"),
    ],
)
def test_what_is_refused(
    service: MemoryService, tmp_path: Path, hardware: dict[str, object],
    more: dict[str, object], words: str,
) -> None:  # fmt: skip
    (tmp_path / "images/k").touch()
    with pytest.raises(BadField, match=words):
        create(service, hardware, **more)
    assert service.read_vm("web") is None


@pytest.mark.parametrize(
    ("hardware", "words"),
    [({"tpm": True}, "has a TPM"), ({"devices": ["usb:046d:c52b"]}, "uses devices of its host")],
)
def test_what_pins_a_vm_keeps_it_from_moving(
    service: MemoryService, hardware: dict[str, object], words: str
) -> None:
    create(service, hardware, preferred=["a", "b"])
    wishes = Wishes(service)
    wishes.start("web")
    with pytest.raises(Conflict, match=words):
        wishes.migrate("web", "b")


def test_its_size_changes_within_what_it_was_made_for(service: MemoryService) -> None:
    create(service, {"vcpus_max": 4, "memory_max": "2GiB"})
    wishes = Wishes(service)
    wishes.place("web", make(VmChange, vcpus=3, memory="1GiB"))
    held = service.read_vm("web")
    assert held is not None
    assert (held.value.spec.vcpus, held.value.spec.memory_mib) == (3, 1024)
    with pytest.raises(BadField, match="can have 4 at most"):
        wishes.place("web", make(VmChange, vcpus=5))
    with pytest.raises(BadField, match="can have 2048 MiB at most"):
        wishes.place("web", make(VmChange, memory="3GiB"))
    with pytest.raises(BadField, match="whole MiB"):
        wishes.place("web", make(VmChange, memory=1_000_001))
