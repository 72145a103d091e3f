"""A person says that a host is off: believed of a silent one, refused at any sign of life."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import TERMS, MemoryService

from outlast.agent.host_wishes import HostWishes
from outlast.errors import Conflict, NotFound, StorageTrouble
from outlast.pool.facts import Seen
from outlast.settings import S
from outlast.storage.register import Outcome


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    """Host a answers; b is silent."""
    made = MemoryService(tmp_path)
    made.seen[2] = replace(made.seen[2], still_ns=20 * S)
    made.links[2] = 20 * S
    return made


def test_a_silent_host_counts_as_off(service: MemoryService) -> None:
    done = HostWishes(service).confirm_off("b", "no power", "anna")
    assert done.changed and "within about 7 s" in done.sentence
    fence = service.fences[2].value
    assert (fence.term, fence.by, fence.how, fence.why) == (TERMS[2], "anna", "person", "no power")
    again = HostWishes(service).confirm_off("b", "", "anna")
    assert not again.changed and service.fences[2].version == 1


def test_what_was_said_of_an_earlier_life_is_replaced(service: MemoryService) -> None:
    HostWishes(service).confirm_off("b", "", "anna")
    held = service.fences[2]
    service.fences[2] = replace(held, value=replace(held.value, term="9" * 32))
    assert HostWishes(service).confirm_off("b", "", "anna").changed
    assert (service.fences[2].version, service.fences[2].value.term) == (2, TERMS[2])


def _heard(service: MemoryService) -> None:
    service.links[2] = S


def _writes(service: MemoryService) -> None:
    service.seen[2] = replace(service.seen[2], still_ns=2 * S)


def _unreadable(service: MemoryService) -> None:
    service.seen[2] = Seen(None, 20 * S)


@pytest.mark.parametrize(
    ("sign", "words"),
    [(_heard, "is heard"), (_writes, "writes to"), (_unreadable, "no readable heartbeat")],
)
def test_a_sign_of_life_refuses_it(
    service: MemoryService, sign: Callable[[MemoryService], None], words: str
) -> None:
    sign(service)
    with pytest.raises(Conflict, match=words):
        HostWishes(service).confirm_off("b", "", "anna")
    assert not service.fences


def test_nonsense_is_refused(service: MemoryService) -> None:
    with pytest.raises(Conflict, match="answers this very call"):
        HostWishes(service).confirm_off("a", "", "anna")
    with pytest.raises(NotFound):
        HostWishes(service).confirm_off("x", "", "anna")
    service.fence_fate = Outcome.UNKNOWN
    with pytest.raises(StorageTrouble, match="did not say"):
        HostWishes(service).confirm_off("b", "", "anna")
