"""The guard's core against a second, stupid opinion: the rules of core.py, checked from outside."""

from __future__ import annotations

from itertools import product

import pytest
from guard_oracle import MARGIN, MS, W_S, F, K, Oracle, S
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from outlast.errors import BrokenInvariant
from outlast.guard.core import GuardCore
from outlast.guard.facts import Facts, Memory, Reading
from outlast.guard.state import Heritage, from_bytes, to_bytes
from outlast.guard.states import NEXT, Cause, Duty
from outlast.model import GuardState


class CoreMachine(RuleBasedStateMachine):
    """Random lives of a guard."""

    @initialize(
        reset=st.sampled_from(["none", "watchdog", "sysrq"]), watchdog_s=st.sampled_from([0, 2]),
        immortal=st.booleans(), permille=st.sampled_from([1000, 920, 1080, 1001]),
    )  # fmt: skip
    def begin(self, reset: str, watchdog_s: int, immortal: bool, permille: int) -> None:
        self.oracle = Oracle(
            reset=reset, watchdog_s=watchdog_s, immortal=immortal, permille=permille
        )

    @rule(ns=st.sampled_from([1, 10 * MS, 333 * MS, 1000 * MS, 2500 * MS, 3600 * MS]))
    def wait(self, ns: int) -> None:
        self.oracle.guard.wait(ns)
        self.oracle.check()

    @rule(
        age_ns=st.sampled_from([-(10**12), -1, 0, 400 * MS, 3900 * MS, 5000 * MS]),
        back=st.integers(0, 2),
        drains=st.booleans(),
    )
    def open(self, age_ns: int, back: int, drains: bool) -> None:
        self.oracle.beat("open", max(1, self.oracle.term + 1 - back), age_ns, drains=drains)

    @rule(back=st.sampled_from([0, 0, 1]))
    def drained(self, back: int) -> None:
        self.oracle.drain(max(1, self.oracle.term - back))

    @precondition(lambda self: self.oracle.term > 0)
    @rule(
        age_ns=st.sampled_from([-(10**12), 0, 400 * MS, 3900 * MS, 5000 * MS]),
        back=st.sampled_from([0, 0, 0, 1]),
    )
    def confirm(self, age_ns: int, back: int) -> None:
        self.oracle.beat("confirm", max(1, self.oracle.term - back), age_ns)

    @rule(vm=st.sampled_from(["a", "b"]))
    def admit_and_start(self, vm: str) -> None:
        self.oracle.request("admit", vm=vm)
        self.oracle.start(vm)

    @rule(vm=st.sampled_from(["a", "b"]))
    def admit(self, vm: str) -> None:
        self.oracle.request("admit", vm=vm)

    @rule(vm=st.sampled_from(["a", "b"]))
    def start(self, vm: str) -> None:
        self.oracle.start(vm)

    @rule(vm=st.sampled_from(["a", "b"]))
    def stops(self, vm: str) -> None:
        self.oracle.guard.inside.pop(vm, None)

    @rule(sick=st.booleans())
    def close(self, sick: bool) -> None:
        self.oracle.close(sick=sick)

    @rule()
    def intrude(self) -> None:
        if self.oracle.guard.core.state is not GuardState.OPEN:
            self.oracle.guard.intrude("c")
            self.oracle.guard.step()
            self.oracle.check()

    @rule()
    def restart(self) -> None:
        guard = self.oracle.guard
        left = Heritage("b", guard.core.memory(), guard.core.ran_ns)
        back = from_bytes(to_bytes(left))
        assert back == left
        guard.core = GuardCore(back.memory, back.ran_ns)
        guard.step()
        self.oracle.check()

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "oracle"):
            self.oracle.check()


TestCoreMachine = CoreMachine.TestCase
TestCoreMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_every_short_life() -> None:
    """All sequences of five acts, for a host that can be reset and one that cannot."""
    acts = ("wait", "late", "confirm", "start", "close", "sick", "open", "again")
    for reset, immortal in (("none", False), ("watchdog", True), ("watchdog", False)):
        for life in product(acts, repeat=4):
            oracle = Oracle(
                reset=reset, watchdog_s=W_S if reset == "watchdog" else 0, immortal=immortal,
                permille=1000,
            )  # fmt: skip
            oracle.guard.tick_ns = 900 * MS
            oracle.beat("open", 1, 0)
            for act in life:
                _act(oracle, act)


def _act(oracle: Oracle, act: str) -> None:
    match act:
        case "wait":
            oracle.guard.wait(1800 * MS)
        case "late":
            oracle.guard.wait(F + K)
        case "confirm":
            oracle.beat("confirm", oracle.term, 100 * MS)
        case "start":
            oracle.request("admit", vm="a")
            oracle.start("a")
        case "close" | "sick":
            oracle.close(sick=act == "sick")
        case "open":
            oracle.beat("open", oracle.term + 1, 0)
        case "again":
            oracle.beat("open", oracle.term, 0)
    oracle.check()


def test_the_table_has_every_state_and_only_a_boot_ends_resetting() -> None:
    assert set(NEXT) == set(GuardState)
    assert NEXT[GuardState.RESETTING] == {}
    assert [s for s in GuardState if GuardState.OPEN in NEXT[s].values()] == [
        GuardState.IDLE, GuardState.CLOSED,
    ]  # fmt: skip


@pytest.mark.parametrize("state", list(GuardState))
@pytest.mark.parametrize("cause", list(Cause))
def test_a_cause_that_is_not_in_the_table_is_refused(state: GuardState, cause: Cause) -> None:
    core = GuardCore(Memory(state=state))
    if cause in NEXT[state]:
        core._move(cause)
        assert core.state is NEXT[state][cause]
    else:
        with pytest.raises(BrokenInvariant):
            core._move(cause)


def _running(reset: str, watchdog_s: int = 0) -> Oracle:
    oracle = Oracle(reset=reset, watchdog_s=watchdog_s, immortal=False, permille=1000)
    oracle.beat("open", 1, 0)
    oracle.request("admit", vm="a")
    oracle.start("a")
    return oracle


def test_expiry_with_a_vm_resets_the_host_after_the_kill() -> None:
    guard = _running("watchdog", W_S).guard
    guard.wait(F)
    assert guard.inside == {}
    guard.wait(K // 4 + 50 * MS)
    assert guard.core.state is GuardState.RESETTING
    assert guard.duties[-1].duty is Duty.RESET


def test_expiry_without_a_vm_closes_quietly() -> None:
    oracle = Oracle(reset="watchdog", watchdog_s=W_S, immortal=False, permille=1000)
    oracle.beat("open", 1, 0)
    oracle.guard.wait(F)
    assert oracle.guard.core.state is GuardState.CLOSED
    assert oracle.guard.core.memory().quiesced_possible


def test_a_vm_that_ended_after_the_last_good_beat_still_counts() -> None:
    """Its last write may be queued in a storage that nobody has heard since."""
    oracle = _running("watchdog", W_S)
    oracle.guard.wait(1000 * MS)
    oracle.guard.inside.clear()
    oracle.guard.wait(F)
    assert oracle.guard.core.state is GuardState.RESETTING


@pytest.mark.parametrize("long_ago", [True, False])
def test_a_vm_that_ended_long_before_the_last_good_beat_does_not(long_ago: bool) -> None:
    """X of answering storage must lie between, and K is not shorter."""
    oracle = _running("watchdog", W_S)
    oracle.guard.inside.clear()
    oracle.guard.wait(K - 1000 * MS)
    oracle.beat("confirm", 1, 0)
    oracle.guard.wait(1200 * MS if long_ago else 800 * MS)
    oracle.beat("confirm", 1, 0)
    oracle.guard.wait(F)
    found = oracle.guard.core.state
    assert found is (GuardState.CLOSED if long_ago else GuardState.RESETTING)


def test_a_close_with_healthy_storage_resets_nobody() -> None:
    oracle = _running("watchdog", W_S)
    oracle.close(sick=False)
    oracle.guard.wait(50 * MS)
    assert oracle.guard.core.state is GuardState.CLOSED


def test_a_vm_that_ended_between_two_looks_ran_until_the_second() -> None:
    guard = GuardCore()
    guard.tick(Reading(0, 0), Facts(populated=True))
    guard.tick(Reading(7, 7), Facts(populated=False))
    assert guard.ran_ns == 7
    guard.tick(Reading(9, 9), Facts(populated=False))
    assert guard.ran_ns == 7


@pytest.mark.parametrize("reset", ["watchdog", "sysrq"])
def test_a_vm_that_does_not_die_resets_the_host_before_d_plus_k(reset: str) -> None:
    oracle = _running(reset, W_S)
    oracle.guard.immortal = True
    oracle.close(sick=False)
    oracle.guard.wait(K - K // 10 - 60 * MS)
    assert oracle.guard.core.state is GuardState.CLOSING
    oracle.guard.wait(60 * MS)
    assert oracle.guard.core.state is GuardState.RESETTING
    assert oracle.left_ns() > -K


def test_a_vm_that_does_not_die_where_nothing_can_reset_is_said_loudly() -> None:
    oracle = _running("none")
    oracle.guard.immortal = True
    oracle.close(sick=False)
    oracle.guard.wait(K)
    said = oracle.guard.ask("status")
    assert (said["state"], said["empty"], said["quiesced_possible"]) == ("closing", False, False)
    assert "would not die" in str(said["unsafe_reset"])


def test_the_watchdog_is_petted_until_the_deadline_and_no_longer() -> None:
    oracle = _running("watchdog", W_S)
    oracle.guard.immortal = True
    oracle.guard.wait(F + K)
    opened = oracle.starts[0].boot_ns
    pets = [d.when.boot_ns - opened for d in oracle.guard.duties if d.duty is Duty.PET]
    assert F - 50 * MS <= max(pets) <= F + K - W_S * S


def test_a_watchdog_slower_than_k_opens_nothing() -> None:
    oracle = Oracle(reset="watchdog", watchdog_s=4, immortal=False, permille=1000)
    oracle.beat("open", 1, 0)
    assert oracle.term == 0
    assert "later than the kill window" in str(
        oracle.guard.core.open(
            oracle.guard.reading(), oracle.guard.facts(),
            {"term": "1" * 32, "fence_ns": F, "kill_ns": K, "margin_ns": 0, "watchdog_s": 2,
             "start_boot_ns": 0, "start_raw_ns": 0},
        )["error"]
    )  # fmt: skip


def test_a_required_watchdog_that_is_missing_opens_nothing() -> None:
    core, now = GuardCore(), Reading(10 * S, 10 * S)
    said = core.open(
        now, Facts(False, watchdog_problem="no device"),
        {"term": "1" * 32, "fence_ns": F, "kill_ns": K, "margin_ns": 0, "watchdog_s": 2,
         "start_boot_ns": 10 * S, "start_raw_ns": 10 * S},
    )  # fmt: skip
    assert said == {"ok": False, "error": "no device"}
    assert core.state is GuardState.IDLE


def test_an_admission_ends_after_thirty_seconds() -> None:
    oracle = Oracle(reset="none", watchdog_s=0, immortal=False, permille=1000)
    oracle.beat("open", 1, 0)
    oracle.request("admit", vm="a")
    for _ in range(30):
        oracle.guard.wait(1000 * MS)
        oracle.beat("confirm", 1, 0)
    assert not oracle.guard.start("a")["ok"]


def test_an_admission_is_used_up() -> None:
    oracle = _running("none")
    oracle.guard.inside.clear()
    said = oracle.guard.start("a")
    assert (said["ok"], said["error"]) == (
        False,
        "a was not admitted to start here in the last 30 s",
    )


def test_an_admission_dies_with_its_term() -> None:
    oracle = Oracle(reset="none", watchdog_s=0, immortal=False, permille=1000)
    oracle.beat("open", 1, 0)
    oracle.request("admit", vm="a")
    oracle.close(sick=False)
    oracle.beat("open", 2, 0)
    assert oracle.guard.ask("status")["admitted"] == []
    assert not oracle.guard.start("a")["ok"]


def test_a_term_is_not_opened_by_an_old_beat() -> None:
    oracle = Oracle(reset="none", watchdog_s=0, immortal=False, permille=1000)
    oracle.beat("open", 1, F)
    assert (oracle.term, oracle.guard.core.state) == (0, GuardState.IDLE)


def test_a_save_stays_due_until_it_worked() -> None:
    core, now, facts = GuardCore(), Reading(10 * S, 10 * S), Facts(False)
    core.open(
        now, facts,
        {"term": "1" * 32, "fence_ns": F, "kill_ns": K, "margin_ns": 0, "watchdog_s": 2,
         "start_boot_ns": 10 * S, "start_raw_ns": 10 * S},
    )  # fmt: skip
    assert Duty.SAVE in core.tick(now, facts)
    assert Duty.SAVE in core.tick(now, facts)
    core.saved()
    assert Duty.SAVE not in core.tick(now, facts)


# ---- more time without a beat


def _extended(age_ns: int = 0) -> Oracle:
    """A term that others have given time, 1.5 s after its last beat."""
    oracle = _running("watchdog", W_S)
    oracle.guard.wait(1500 * MS)
    oracle.beat("extend", 1, age_ns)
    return oracle


def test_an_extension_moves_the_deadline_from_the_question_on() -> None:
    oracle = _extended(100 * MS)
    assert oracle.guard.core.remaining_ns(oracle.guard.reading()) == F - 100 * MS
    assert oracle.guard.ask("status")["extended"] is True
    oracle.beat("confirm", 1, 0)
    assert oracle.guard.ask("status")["extended"] is False


def test_nothing_starts_on_an_extension() -> None:
    oracle = _extended()
    oracle.guard.wait(F - 1500 * MS - MARGIN)
    assert oracle.guard.core.state is GuardState.OPEN
    said = oracle.guard.ask("admit", vm="db")
    assert "too near" in str(said["error"])


def test_after_an_extension_the_host_is_reset_for_what_ran_since_the_last_beat() -> None:
    oracle = _extended()
    oracle.guard.inside.clear()  # it ended by itself, its writes may be queued
    oracle.guard.wait(500 * MS)
    oracle.beat("extend", 1, 0)
    oracle.guard.wait(F)
    assert oracle.guard.core.state is GuardState.RESETTING


def test_an_extension_opens_nothing_and_revives_nothing() -> None:
    oracle = Oracle(reset="watchdog", watchdog_s=W_S, immortal=False, permille=1000)
    oracle.beat("extend", 1, 0)
    assert oracle.guard.core.state is GuardState.IDLE
    oracle = _extended()
    oracle.guard.wait(F)
    oracle.beat("extend", 1, 0)
    assert oracle.guard.core.state is not GuardState.OPEN
