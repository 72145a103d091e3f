"""A host leaves the pool, and is taken out of it for good."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import MemoryService

from outlast.agent.farewell import Farewell
from outlast.agent.host_wishes import HostWishes
from outlast.errors import Conflict, NotFound
from outlast.model import BlockState, GuardState


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    return MemoryService(tmp_path)


def test_a_member_is_not_removed(service: MemoryService) -> None:
    with pytest.raises(Conflict, match="b is a member") as refused:
        HostWishes(service).remove("b")
    assert "host remove b" in refused.value.hint
    with pytest.raises(NotFound):
        HostWishes(service).remove("x")


def test_a_host_that_left_is_removed_and_its_name_is_free(service: MemoryService) -> None:
    assert service.view is not None
    members = {slot: m for slot, m in service.view.members.items() if slot != 2}
    service.view = replace(service.view, members=members)
    service.slots[2] = replace(service.slots[2], maintenance="it leaves the pool", leave="boot")
    done = HostWishes(service).remove("b")
    assert done.changed and "no host of this pool any more" in done.sentence
    record = service.slots[2]
    assert (record.active, record.maintenance, record.leave) == (False, "", "")
    with pytest.raises(NotFound):
        HostWishes(service).remove("b")


def test_who_leaves_is_not_switched_off(service: MemoryService) -> None:
    done: list[str] = []
    farewell = Farewell("boot-of-a", lambda: done.append("leave"), lambda: done.append("off"))
    HostWishes(service).leave("a")
    (said,) = farewell.step(service.facts(0))
    assert said.sentence.startswith("a leaves the pool by wish")
    closed = replace(
        service.facts(0),
        block_state=BlockState.CLOSED,
        guard=replace(service.guard, state=GuardState.CLOSED),
    )
    for seq in range(5):
        farewell.step(replace(closed, sample=replace(closed.sample, seq=seq + 5)))
    assert done == ["leave"]


def test_the_wish_to_leave_ends_with_the_service(service: MemoryService) -> None:
    wishes = HostWishes(service)
    wishes.leave("a")
    wishes.serve("a", bring_back=False)
    assert service.slots[1].leave == ""
