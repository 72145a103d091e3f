"""The pool's list of storage repositories: what may be added, and when one goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from outlast.equipment import Repository
from outlast.errors import Conflict, InvalidInput, NotFound
from outlast.model import Disk, VmRecord, VmSpec
from outlast.mounts import registry
from outlast.storage.memory import MemoryRegister
from outlast.storage.records import vm_to

POOL = Path("/srv/pool")
FAST = Repository("fast", "nfs", "flash:/vms", options=("vers=4.1",))


@pytest.fixture
def register() -> MemoryRegister:
    made = MemoryRegister()
    registry.add(made, FAST, POOL)
    return made


def test_it_is_there_with_its_path(register: MemoryRegister) -> None:
    assert registry.repositories(register) == [replace(FAST, path="/srv/fast")]
    assert "vers=4.1" in registry.choice_of(registry.get(register, "fast")).text


@pytest.mark.parametrize(
    ("wished", "kind"),
    [
        (FAST, Conflict),
        (replace(FAST, name="x", path="/srv/fast/inner"), Conflict),
        (replace(FAST, name="x", path="/srv/pool"), InvalidInput),
        (replace(FAST, name="x", path="/srv"), InvalidInput),
        (replace(FAST, name="X y"), InvalidInput),
        (replace(FAST, name="x", options=("soft",)), InvalidInput),
        (replace(FAST, name="x", kind="dir"), InvalidInput),
    ],
)
def test_what_cannot_be_is_refused(
    register: MemoryRegister, wished: Repository, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        registry.add(register, wished, POOL)


def test_one_with_disks_stays_and_one_without_goes_and_may_come_again(
    register: MemoryRegister,
) -> None:
    disk = Disk("/srv/fast/web.qcow2", "qcow2", repository="fast")
    record = VmRecord(VmSpec("web", "u", 64, 1, (disk,)))
    register.swap("vm/web", 0, vm_to(record))
    with pytest.raises(Conflict, match="disks of web"):
        registry.remove(register, "fast")
    register.swap("vm/web", 1, vm_to(replace(record, deleted=True)))
    registry.remove(register, "fast")
    assert registry.repositories(register) == []
    for act in (registry.get, registry.remove):
        with pytest.raises(NotFound):
            act(register, "fast")
    registry.add(register, FAST, POOL)
    assert [r.name for r in registry.repositories(register)] == ["fast"]
