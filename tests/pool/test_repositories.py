"""VMs with disks in a repository: taken only where it answers, let go of only after it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from build import NOW, SETTINGS, Story, record, spec, story, term

from outlast.model import Desired, Disk, Lease, LocalVm, Order, OrderBook, VmState
from outlast.pool.core import PoolCore
from outlast.pool.decision import Decision
from outlast.pool.facts import Answering, Held
from outlast.settings import S

HERE = Answering(NOW + S)
AWAY = Answering(NOW - S, "it has not answered for 9 s")
DISK = Disk("/srv/fast/web.raw", repository="fast")


def held(desired: Desired = Desired.RUNNING) -> Story:
    """Host a of two holds the lease of `web`, whose disk is in the repository `fast`."""
    wish = replace(record(desired=desired), spec=replace(spec("web"), disks=(DISK,)))
    return story(hosts=2).wants(wish).leased("web", 1)


def step(
    core: PoolCore, told: Story, now_ns: int, repositories: Mapping[str, Answering]
) -> Decision:
    return core.step(now_ns, replace(told.facts, repositories=repositories))


def codes(decision: Decision) -> list[str]:
    return [note.code for note in decision.notes]


def test_nothing_starts_while_the_storage_is_away_or_not_known() -> None:
    core = PoolCore(SETTINGS)
    for repositories in ({}, {"fast": AWAY}, {"other": HERE}):
        waits = step(core, held(), NOW + S, repositories)
        assert not waits.starts
        assert not [swap for swap in waits.swaps if swap.name == "lease/web"]
    assert [s.vm for s in step(core, held(), NOW + 2 * S, {"fast": HERE}).starts] == ["web"]


def test_a_vm_that_ended_keeps_its_lease_until_the_storage_answered_after_that() -> None:
    """Its QEMU was killed: what it wrote last may wait in this host's kernel."""
    core, gone_ns = PoolCore(SETTINGS), NOW + 9 * S
    step(core, held().runs("web"), NOW + S, {"fast": HERE})
    stopped = held(Desired.STOPPED)
    for repositories in ({"fast": AWAY}, {"fast": Answering(gone_ns - 1)}):
        waits = step(core, stopped, gone_ns, repositories)
        assert not [swap for swap in waits.swaps if swap.name == "lease/web"]
    assert "lease-waits" in codes(PoolCore(SETTINGS).step(gone_ns, stopped.facts))
    answered = {"fast": Answering(gone_ns)}
    step(core, stopped, gone_ns + S, answered)  # tells that it stopped
    step(core, stopped.sampled(started_ns=gone_ns + 2 * S), gone_ns + 2 * S, answered)
    later_ns = gone_ns + 60 * S  # the pool's own storage has answered for long enough as well
    freed = step(core, stopped.sampled(started_ns=later_ns), later_ns, answered)
    (swap,) = [swap for swap in freed.swaps if swap.name == "lease/web"]
    assert isinstance(swap.value, Lease) and not swap.value.held


def test_it_is_told_once_why_a_lease_waits() -> None:
    core = PoolCore(SETTINGS)
    told = [step(core, held(), NOW + n * S, {"fast": AWAY}) for n in range(1, 4)]
    assert sum(codes(decision).count("lease-waits") for decision in told) == 1


def test_a_lease_that_was_just_taken_does_not_wait_for_another_answer() -> None:
    core, free = PoolCore(SETTINGS), held().leased("web", 0, version=4)
    order = Order("start", "web", 1, 4, "it is wanted")
    book = OrderBook(1, 1, 1, term(1), (order,))
    free = replace(free, facts=replace(free.facts, books={1: Held(1, book, NOW)}))
    (taken,) = [s for s in step(core, free, NOW + S, {"fast": HERE}).swaps if "lease" in s.name]
    assert taken.expected == 4
    mine = held().leased("web", 1, version=5)
    assert step(core, mine, NOW + 60 * S, {"fast": HERE}).starts, "nothing of it was ever here"


def test_an_order_is_refused_where_the_storage_is_away() -> None:
    core, free = PoolCore(SETTINGS), held().leased("web", 0, version=4)
    book = OrderBook(1, 1, 1, term(1), (Order("start", "web", 1, 4, "it is wanted"),))
    free = replace(free, facts=replace(free.facts, books={1: Held(1, book, NOW)}))
    for n in range(1, 10):
        decision = step(core, free, NOW + n * S, {"fast": AWAY})
        assert not [swap for swap in decision.swaps if swap.name == "lease/web"]
        if "order-refused" in codes(decision):
            return
    pytest.fail("it is not told")


def test_what_runs_is_left_alone_while_its_storage_is_away() -> None:
    paused = held().runs("web")
    local = {"web": LocalVm("web", VmState.PAUSED, "disk error")}
    facts = replace(paused.facts, local=local, repositories={"fast": AWAY})
    decision = PoolCore(SETTINGS).step(NOW + S, facts)
    assert not (decision.kills or decision.stops or decision.swaps)
