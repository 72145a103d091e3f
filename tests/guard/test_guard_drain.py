"""Rule 13 of the guard's core: what a closed term may have left on its way to the storage."""

from __future__ import annotations

import pytest
from guard_oracle import MS, W_S, F, K, Oracle, S

from outlast.guard.states import Duty
from outlast.model import GuardState


def _closed_undrained(reset: str = "watchdog") -> Oracle:
    """A VM ran, and the term closed in order a moment after a confirmed beat."""
    oracle = Oracle(reset=reset, watchdog_s=W_S, immortal=False, permille=1000)
    oracle.beat("open", 1, 0, drains=True)
    oracle.request("admit", vm="a")
    oracle.start("a")
    oracle.guard.wait(1000 * MS)
    oracle.close(sick=False)
    oracle.guard.wait(50 * MS)
    assert oracle.guard.core.state is GuardState.CLOSED
    return oracle


@pytest.mark.parametrize("reset", ["watchdog", "sysrq"])
def test_what_has_not_drained_by_d_plus_k_resets_the_host(reset: str) -> None:
    guard = _closed_undrained(reset).guard
    guard.wait(F + K - K // 10 - 1200 * MS)
    assert guard.core.state is GuardState.CLOSED
    guard.wait(200 * MS)
    assert guard.core.state is GuardState.RESETTING
    assert guard.duties[-1].duty is Duty.RESET


def test_what_has_drained_resets_nobody_and_lets_the_next_term_begin() -> None:
    oracle = _closed_undrained()
    assert not oracle.request("open", **oracle.opening(2, 0))
    assert oracle.request("drained", term=oracle.name(1))
    oracle.guard.wait(2 * (F + K))
    assert oracle.guard.core.state is GuardState.CLOSED
    oracle.beat("open", 2, 0)
    assert oracle.guard.core.state is GuardState.OPEN


def test_the_watchdog_would_fire_in_time_for_what_has_not_drained() -> None:
    oracle = _closed_undrained("none")  # nothing is written to sysrq: only the device is left
    oracle.guard.wait(F + K)
    opened = oracle.starts[0].boot_ns
    pets = [d.when.boot_ns - opened for d in oracle.guard.duties if d.duty is Duty.PET]
    assert F - 50 * MS <= max(pets) <= F + K - W_S * S


# ---- rule 14


def _stored(reset: str = "watchdog") -> Oracle:
    """A VM with a disk on another storage ran, and is gone for long."""
    oracle = Oracle(reset=reset, watchdog_s=W_S, immortal=False, permille=1000)
    oracle.beat("open", 1, 0, drains=True)
    oracle.request("admit", vm="a", stores=["fast"])
    oracle.start("a")
    oracle.guard.wait(100 * MS)
    oracle.guard.inside.clear()
    for _ in range(5):
        oracle.guard.wait(K // 3)
        oracle.beat("confirm", 1, 0)
    return oracle


def _settled(oracle: Oracle, age_ns: int = 0) -> bool:
    since_ns = oracle.guard.reading().boot_ns - age_ns
    return oracle.request("settled", store="fast", since_ns=since_ns)


def test_a_storage_that_has_not_answered_since_keeps_a_term_from_draining() -> None:
    oracle = _stored()
    oracle.close(sick=False)
    oracle.guard.wait(50 * MS)
    assert oracle.guard.core.state is GuardState.CLOSED
    assert not oracle.request("drained", term=oracle.name(1))
    assert not oracle.request("open", **oracle.opening(2, 0))
    assert _settled(oracle)
    assert oracle.request("drained", term=oracle.name(1))
    oracle.beat("open", 2, 0)
    assert oracle.guard.core.state is GuardState.OPEN


def test_one_that_never_answers_resets_the_host() -> None:
    oracle = _stored()
    oracle.close(sick=False)
    oracle.guard.wait(F + K)
    assert oracle.guard.core.state is GuardState.RESETTING


def test_one_that_does_not_answer_at_the_deadline_resets_the_host() -> None:
    oracle = _stored()
    oracle.guard.wait(F + K // 2)
    assert oracle.guard.core.state is GuardState.RESETTING


def test_one_that_has_answered_meanwhile_resets_nobody() -> None:
    oracle = _stored()
    assert _settled(oracle)
    oracle.guard.wait(F + K)
    assert oracle.guard.core.state is GuardState.CLOSED


def test_an_answer_counts_only_after_the_last_vm_and_before_the_next() -> None:
    oracle = _stored()
    assert not _settled(oracle, 6 * K // 3), "it was asked before the VM was gone"
    oracle.request("admit", vm="b", stores=["fast", "slow"])
    assert not _settled(oracle), "b may come at any moment"
    oracle.start("b")
    assert not _settled(oracle), "b is here"
    assert oracle.guard.core.memory().stores == ("fast", "slow")


@pytest.mark.parametrize("stores", ["fast", [1], ["../x"], ["a"] * 65, {"a": 1}])
def test_what_is_no_list_of_storages_is_refused(stores: object) -> None:
    oracle = Oracle(reset="none", watchdog_s=W_S, immortal=False, permille=1000)
    oracle.beat("open", 1, 0)
    assert not oracle.request("admit", vm="a", stores=stores)
    assert not oracle.request("settled", store=["fast"], since_ns=True)
