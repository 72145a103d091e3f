"""Running VMs get the processors and the memory their record wishes, and no others do."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from memory_service import TERMS, MemoryService

from outlast.agent.growing import RETRY_MAX_NS, RETRY_NS, Growing, Size
from outlast.model import Lease, LocalVm, VmRecord, VmSpec, VmState
from outlast.pool.facts import Facts, Held
from outlast.settings import S


def wishing(facts: Facts, vcpus: int, most: int = 8) -> Facts:
    spec = VmSpec("web", "00000000-0000-4000-8000-0000000000aa", 64, vcpus, vcpus_max=most)
    return replace(facts, vms={"web": Held(2, VmRecord(spec), 0)})


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    """Host a runs `web` with two processors and holds its lease."""
    service = MemoryService(tmp_path)
    service.leases["web"] = Held(3, Lease("web", 1, TERMS[1], "start"), 0)
    service.local["web"] = LocalVm("web", VmState.RUNNING, vcpus=2, memory_mib=512)
    found = service.picture.facts
    assert found is not None
    return found


def test_it_gets_what_is_wished_and_not_more_than_it_can_have(facts: Facts) -> None:
    assert Growing().step(S, wishing(facts, 4)) == [("web", Size(4))]
    assert Growing().step(S, wishing(facts, 9)) == [("web", Size(8))]


def test_memory_grows_in_whole_steps(facts: Facts) -> None:
    def wished(mib: int) -> list[tuple[str, Size]]:
        spec = VmSpec("web", "00000000-0000-4000-8000-0000000000aa", mib, 2, memory_max_mib=1024)
        return Growing().step(S, replace(facts, vms={"web": Held(2, VmRecord(spec), 0)}))

    assert wished(512 + 256) == [("web", Size(0, 768))]
    assert wished(512 + 255) == [("web", Size(0, 640))]
    assert wished(2048) == [("web", Size(0, 1024))]
    assert wished(512 + 127) == wished(512) == wished(256) == []


@pytest.mark.parametrize("vcpus", [1, 2])
def test_it_never_shrinks(facts: Facts, vcpus: int) -> None:
    assert Growing().step(S, wishing(facts, vcpus)) == []


def test_only_what_was_made_to_grow_and_runs_here_by_right(facts: Facts) -> None:
    wished = wishing(facts, 4)
    held = {"web": Held(3, Lease("web", 2, TERMS[2], "start"), 0)}
    assert Growing().step(S, wishing(facts, 4, most=0)) == []
    assert Growing().step(S, replace(wished, leases=held)) == []
    for vm in (
        LocalVm("web", VmState.PAUSED, vcpus=2),
        LocalVm("web", VmState.RUNNING, vcpus=2, incoming="0" * 16),
        LocalVm("web", VmState.RUNNING),
    ):
        assert Growing().step(S, replace(wished, local={"web": vm})) == []


def test_what_does_not_work_is_tried_again_later_and_a_new_wish_at_once(facts: Facts) -> None:
    growing, wished = Growing(), wishing(facts, 4)
    tries = [at for at in range(0, 6 * RETRY_MAX_NS, S // 2) if growing.step(at, wished)]
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses[0] == RETRY_NS and pauses[-1] == RETRY_MAX_NS and pauses == sorted(pauses)
    assert growing.step(tries[-1] + S, wishing(facts, 5)) == [("web", Size(5))]
