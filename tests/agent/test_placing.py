"""Wishes about placement: what no pool can meet is refused, what makes it unsafe is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import MemoryService, block

from outlast.agent.wishes import Wishes
from outlast.errors import PoolTrouble
from outlast.model import GroupWish, VmRecord
from outlast.pool.facts import Facts, Seen
from outlast.settings import S
from outlast.wire.shapes import BadField, GroupEntry, VmChange, VmCreate, make


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    (tmp_path / "images").mkdir()
    return MemoryService(tmp_path, obedient=False)


@pytest.fixture
def wishes(service: MemoryService) -> Wishes:
    return Wishes(service)


def create(wishes: Wishes, name: str, memory: str = "512MiB", **more: object) -> None:
    wishes.create(make(VmCreate, name=name, memory=memory, **more))


def record(service: MemoryService, name: str) -> VmRecord:
    held = service.read_vm(name)
    assert held is not None
    return held.value


def test_what_is_given_changes_and_the_rest_stays(wishes: Wishes, service: MemoryService) -> None:
    create(wishes, "web", placing={"priority": "low", "likes": ["b"]})
    assert (record(service, "web").priority, record(service, "web").likes) == ("low", ("b",))
    done = wishes.place("web", VmChange(start_order=2, groups=[GroupEntry(name="g", hard=False)]))
    assert done.changed
    after = record(service, "web")
    assert (after.priority, after.start_order, after.likes) == ("low", 2, ("b",))
    assert after.groups == (GroupWish("g", "apart", False),)
    assert not wishes.place("web", VmChange(start_order=2)).changed
    wishes.place("web", VmChange(likes=[], groups=[]))
    assert (record(service, "web").likes, record(service, "web").groups) == ((), ())


@pytest.mark.parametrize("field", ["preferred", "likes"])
def test_hosts_that_are_none(wishes: Wishes, service: MemoryService, field: str) -> None:
    create(wishes, "web")
    before = record(service, "web")
    with pytest.raises(BadField, match=f"{field}: there is no host 'zeus'"):
        wishes.place("web", VmChange.model_validate({field: ["zeus"]}))
    assert record(service, "web") == before


def test_a_group_that_no_pool_can_meet(wishes: Wishes, service: MemoryService) -> None:
    for n in range(3):
        create(wishes, f"vm{n}", placing={"groups": [{"name": "g"}]})
    with pytest.raises(BadField, match="4 VMs cannot be apart on 3 hosts") as caught:
        create(wishes, "vm3", placing={"groups": [{"name": "g"}]})
    assert caught.value.field == "groups"
    assert service.read_vm("vm3") is None
    with pytest.raises(BadField, match="together here and apart"):
        for n in range(2):
            both = [GroupEntry(name="g"), GroupEntry(name="g", kind="together")]
            wishes.place(f"vm{n}", VmChange(groups=both))


def test_a_vm_larger_than_any_host(wishes: Wishes, service: MemoryService) -> None:
    create(wishes, "unknown", "9000MiB")  # hosts have not said what they have
    service.slots = {n: replace(r, memory_mib=8192) for n, r in service.slots.items()}
    with pytest.raises(BadField, match="9000 MiB is more than any host has; a has 8192") as caught:
        create(wishes, "big", "9000MiB")
    assert caught.value.field == "memory"
    service.settings = replace(service.settings, memory_ratio=1.5)
    create(wishes, "big", "9000MiB")


def test_the_trouble_of_another_group_is_not_ours(wishes: Wishes, service: MemoryService) -> None:
    for n in range(3):
        create(wishes, f"vm{n}", placing={"groups": [{"name": "g"}]})
    create(wishes, "web")
    service.slots[3] = replace(service.slots[3], active=False)
    service.view = replace(service.view, members={  # type: ignore[type-var]
        n: m for n, m in service.view.members.items() if n != 3  # type: ignore[union-attr]
    })  # fmt: skip
    assert wishes.place("web", VmChange(priority="high")).changed


def tight(service: MemoryService) -> None:
    """Each host has room for one VM of 2000 MiB; one runs on b already."""
    service.seen = {n: Seen(block(n, free_mib=2000), S) for n in (2, 3)}


def test_a_start_that_leaves_no_reserve_is_told_or_refused(
    wishes: Wishes, service: MemoryService
) -> None:
    tight(service)
    create(wishes, "big", "4000MiB")
    said = wishes.start("big").sentence
    assert "careful: after this the pool does not survive the failure of a" in said
    assert "big does not fit" in said
    wishes.kill("big")
    service.settings = replace(service.settings, admission="refuse")
    with pytest.raises(PoolTrouble, match="refused: after this the pool does not survive"):
        wishes.start("big")
    assert not record(service, "big").wanted
    service.settings = replace(service.settings, admission="off")
    assert wishes.start("big").sentence == "big shall run"


def test_what_is_not_ha_takes_room_as_well(wishes: Wishes, service: MemoryService) -> None:
    tight(service)
    service.settings = replace(service.settings, admission="refuse")
    create(wishes, "ours", "1900MiB")
    assert wishes.start("ours").sentence == "ours shall run"
    service.hold("ours", 1)
    create(wishes, "plain", "1900MiB", ha=False, preferred=["b"])
    assert wishes.start("plain").sentence == "plain shall run", "c is left for ours"
    service.hold("plain", 2)
    service.seen[2] = Seen(block(2, free_mib=100), S)
    create(wishes, "more", "1900MiB", ha=False, preferred=["c"])
    with pytest.raises(PoolTrouble, match=r"the failure of a: .* ours does not fit"):
        wishes.start("more")


def test_best_effort_needs_no_reserve(wishes: Wishes, service: MemoryService) -> None:
    tight(service)
    service.settings = replace(service.settings, admission="refuse")
    create(wishes, "big", "4000MiB", placing={"priority": "best-effort"})
    assert wishes.start("big").sentence == "big shall run"
    create(wishes, "small", "100MiB")
    assert wishes.start("small").sentence == "small shall run", "it has a place anywhere"


def test_a_new_size_is_judged_like_a_start(wishes: Wishes, service: MemoryService) -> None:
    tight(service)
    create(wishes, "ours", "1900MiB")
    larger = make(VmChange, memory="3000MiB")
    assert "careful" not in wishes.place("ours", larger).sentence, "it does not run"
    wishes.place("ours", make(VmChange, memory="1900MiB"))
    wishes.start("ours")
    service.hold("ours", 1)
    said = wishes.place("ours", larger).sentence
    assert "careful: after this the pool does not survive the failure of a" in said
    service.settings = replace(service.settings, admission="refuse")
    wishes.place("ours", make(VmChange, memory="1800MiB"))
    with pytest.raises(PoolTrouble, match="ours does not fit"):
        wishes.place("ours", larger)
    assert record(service, "ours").spec.memory_mib == 1800, "nothing was changed"


class Behind(MemoryService):
    """A host that has not seen yet what another one created a moment ago."""

    def facts(self, now_ns: int) -> Facts:
        return replace(super().facts(now_ns), vms={})


def test_a_vm_that_another_host_has_just_created_starts(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    behind = Behind(tmp_path, obedient=False)
    behind.settings = replace(behind.settings, admission="refuse")
    wishes = Wishes(behind)
    create(wishes, "web")
    assert wishes.start("web").changed
    assert wishes.place("web", VmChange(memory=1 << 30)).changed
