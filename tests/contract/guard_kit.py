"""What every guard must do, as tests: subclass `GuardKit` and give it a bench.

The promises are those of outlast/guard/states.py (rules 1 to 14) as seen through the requests of
the socket. The kit knows only `GuardBench`; time may be real or pretended, and where it is real it
goes by the bench's `pace`. `MemoryGuard` is a bench without processes or clocks, around the guard's
real core: what a simulated host needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import pytest

from outlast.guard.core import GuardCore
from outlast.guard.facts import Facts, Reading
from outlast.guard.requests import answer
from outlast.guard.states import Duty
from outlast.model import GuardState

MS = 1_000_000
FENCE_NS, KILL_NS, MARGIN_NS = 800 * MS, 1000 * MS, 150 * MS
T1, T2, T3 = "1" * 32, "2" * 32, "3" * 32

Reply = dict[str, object]


class GuardBench(Protocol):
    """One host's guard and the processes that live or want to live under it."""

    @property
    def pace(self) -> int:
        """So many times longer is everything that has a length: terms, and wait()."""

    def ask(self, op: str, **fields: object) -> Reply: ...

    def reading(self) -> Reading: ...

    def wait(self, ns: int) -> None:
        """At the bench's pace."""

    def start(self, vm: str) -> Reply:
        """A process of this VM asks to enter, and runs if it may. Gives the reply."""

    def alive(self, vm: str) -> int:
        """How many processes of this VM are alive, wherever they are."""

    def intrude(self, vm: str) -> None:
        """A process appears in the cgroup of this VM without having asked."""

    def restart(self) -> None:
        """kill -9 of the guard, and a new one."""


class GuardKit:
    """Override the fixture `bench`: a guard in the state idle that nothing can reset."""

    @pytest.fixture
    def bench(self) -> GuardBench:
        raise NotImplementedError

    def test_nothing_starts_before_a_term_is_open(self, bench: GuardBench) -> None:
        assert bench.ask("status")["state"] == "idle"
        assert not bench.ask("admit", vm="web")["ok"]
        assert not bench.start("web")["ok"]
        assert bench.alive("web") == 0

    def test_an_admitted_vm_enters_once(self, bench: GuardBench) -> None:
        assert open_term(bench, T1)["ok"]
        assert not bench.start("web")["ok"]
        assert bench.ask("admit", vm="web")["ok"]
        assert bench.start("web")["ok"]
        assert bench.alive("web") == 1
        again = bench.start("web")
        assert not again["ok"]
        assert again["error"]
        assert bench.ask("status")["vms"] == {"web": {"populated": True}}

    def test_a_vm_that_runs_here_is_not_started_twice(self, bench: GuardBench) -> None:
        open_term(bench, T1)
        bench.ask("admit", vm="web")
        bench.start("web")
        bench.ask("admit", vm="web")
        assert not bench.start("web")["ok"]
        assert bench.alive("web") == 1

    def test_a_released_admission_is_gone(self, bench: GuardBench) -> None:
        open_term(bench, T1)
        bench.ask("admit", vm="web")
        assert bench.ask("release", vm="web")["ok"]
        assert not bench.start("web")["ok"]

    def test_confirmations_keep_a_vm_alive_and_silence_kills_it(self, bench: GuardBench) -> None:
        open_term(bench, T1)
        bench.ask("admit", vm="web")
        bench.start("web")
        for _ in range(3):
            bench.wait(FENCE_NS // 2)
            assert confirm(bench, T1)["ok"]
        assert bench.alive("web") == 1
        bench.wait(FENCE_NS + KILL_NS // 2)
        assert bench.alive("web") == 0
        said = bench.ask("status")
        assert (said["state"], said["empty"]) == ("closed", True)
        assert int(str(said["closed_ns"])) > 0
        assert said["unsafe_reset"], "killed with sick storage, and nothing can reset this host"

    def test_a_closed_term_never_comes_back(self, bench: GuardBench) -> None:
        open_term(bench, T1)
        bench.wait(FENCE_NS + FENCE_NS // 4)
        assert not confirm(bench, T1)["ok"]
        assert not open_term(bench, T1)["ok"]
        bench.restart()
        assert not confirm(bench, T1)["ok"]
        assert not open_term(bench, T1)["ok"]
        assert open_term(bench, T2)["ok"]

    def test_close_kills_at_once_and_is_final(self, bench: GuardBench) -> None:
        open_term(bench, T1)
        bench.ask("admit", vm="web")
        bench.start("web")
        bench.ask("admit", vm="db")
        assert bench.ask("close", term=T1, reason="excluded")["ok"]
        assert not bench.start("db")["ok"]
        bench.wait(FENCE_NS // 4)
        said = bench.ask("status")
        assert (said["state"], said["empty"], said["reason"]) == ("closed", True, "excluded")
        assert (said["quiesced_possible"], said["unsafe_reset"]) == (True, "")
        assert bench.alive("web") == 0
        assert bench.ask("close", term=T1, reason="again")["ok"]

    def test_a_term_that_may_have_left_writes_must_drain_before_the_next(
        self, bench: GuardBench
    ) -> None:
        open_term(bench, T1, drains=True)
        bench.ask("admit", vm="web")
        bench.start("web")
        assert not bench.ask("drained", term=T1)["ok"], "it is open"
        bench.ask("close", term=T1, reason="excluded")
        bench.wait(FENCE_NS // 4)
        bench.restart()
        assert bench.ask("status")["undrained"] is True
        assert not open_term(bench, T2)["ok"]
        assert not bench.ask("drained", term=T2)["ok"]
        assert bench.ask("drained", term=T1)["ok"]
        bench.restart()
        assert bench.ask("status")["undrained"] is False
        assert open_term(bench, T2)["ok"]

    def test_what_never_drained_is_told_where_nothing_can_reset(self, bench: GuardBench) -> None:
        open_term(bench, T1, drains=True)
        bench.ask("admit", vm="web")
        bench.start("web")
        bench.ask("close", term=T1, reason="excluded")
        bench.wait(FENCE_NS // 4)
        assert not bench.ask("status")["unsafe_reset"]
        bench.wait(FENCE_NS + KILL_NS)
        assert bench.ask("status")["unsafe_reset"]

    def test_a_storage_of_disks_is_remembered_until_it_has_answered(
        self, bench: GuardBench
    ) -> None:
        open_term(bench, T1, drains=True)
        bench.ask("admit", vm="web", stores=["fast"])
        bench.start("web")
        assert not bench.ask("settled", store="fast", since_ns=1 << 60)["ok"], "it is here"
        bench.ask("close", term=T1, reason="excluded")
        bench.wait(FENCE_NS // 4)
        bench.restart()
        assert bench.ask("status")["stores"] == ["fast"]
        assert not bench.ask("drained", term=T1)["ok"]
        assert not bench.ask("settled", store="fast", since_ns=1)["ok"], "asked long before"
        assert bench.ask("settled", store="fast", since_ns=1 << 60)["ok"]
        assert bench.ask("drained", term=T1)["ok"]

    def test_only_the_open_term_is_confirmed_or_closed(self, bench: GuardBench) -> None:
        open_term(bench, T1)
        assert not confirm(bench, T2)["ok"]
        assert not bench.ask("close", term=T2, reason="no")["ok"]
        assert not open_term(bench, T2)["ok"]
        assert bench.ask("status")["term"] == T1

    def test_a_close_with_sick_storage_is_never_called_quiet(self, bench: GuardBench) -> None:
        open_term(bench, T1)
        bench.ask("admit", vm="web")
        bench.start("web")
        bench.ask("close", term=T1, reason="storage hangs", reset_if_running=True)
        bench.wait(FENCE_NS // 4)
        said = bench.ask("status")
        assert (said["state"], said["quiesced_possible"]) == ("closed", False)
        assert said["unsafe_reset"]

    def test_without_vms_sick_storage_is_harmless(self, bench: GuardBench) -> None:
        open_term(bench, T1)
        bench.ask("close", term=T1, reason="storage hangs", reset_if_running=True)
        said = bench.ask("status")
        assert (said["state"], said["quiesced_possible"]) == ("closed", True)

    def test_closed_is_a_state_intruders_die(self, bench: GuardBench) -> None:
        open_term(bench, T1)
        bench.ask("close", term=T1, reason="leave")
        bench.intrude("web")
        bench.wait(FENCE_NS)
        assert bench.alive("web") == 0

    def test_no_start_within_the_margin(self, bench: GuardBench) -> None:
        open_term(bench, T1)
        bench.ask("admit", vm="web")
        bench.wait(FENCE_NS - MARGIN_NS + 10 * MS)
        assert not bench.ask("admit", vm="db")["ok"]
        assert not bench.start("web")["ok"]
        assert bench.alive("web") == 0

    def test_an_open_term_goes_on_with_another_timing(self, bench: GuardBench) -> None:
        open_term(bench, T1)
        bench.ask("admit", vm="web")
        bench.start("web")
        said = open_term(bench, T1, op="retime", fence_ns=2 * FENCE_NS)
        assert said["ok"] and int(str(said["remaining_ns"])) > FENCE_NS * bench.pace
        bench.wait(FENCE_NS)
        assert bench.alive("web") == 1
        assert not open_term(bench, T1, op="retime")["ok"], "its newest beat is too old"
        assert confirm(bench, T1)["ok"]
        assert not open_term(bench, T2, op="retime")["ok"], "another term"
        assert open_term(bench, T1, op="retime")["ok"]
        bench.restart()
        bench.wait(FENCE_NS + 100 * MS)
        assert bench.alive("web") == 0, "the shorter window does not count"
        assert not open_term(bench, T1, op="retime")["ok"], "a closed term"

    def test_an_extension_keeps_what_runs_and_starts_nothing(self, bench: GuardBench) -> None:
        open_term(bench, T1)
        bench.ask("admit", vm="web")
        bench.start("web")
        bench.wait(FENCE_NS - MARGIN_NS + 10 * MS)
        assert confirm(bench, T1, op="extend")["ok"]
        assert bench.ask("status")["extended"] is True
        assert not bench.ask("admit", vm="db")["ok"]
        bench.wait(FENCE_NS // 2)
        assert bench.alive("web") == 1
        bench.restart()
        assert bench.ask("status")["extended"] is True
        assert confirm(bench, T1)["ok"]
        assert bench.ask("admit", vm="db")["ok"]

    def test_the_future_is_clamped_and_the_past_ignored(self, bench: GuardBench) -> None:
        open_term(bench, T1)
        before = int(str(bench.ask("status")["deadline_ns"]))
        assert confirm(bench, T1, ahead_ns=-FENCE_NS // 2)["ok"]
        assert abs(int(str(bench.ask("status")["deadline_ns"])) - before) < MS
        far = confirm(bench, T1, ahead_ns=1000 * FENCE_NS)
        assert far["ok"]
        assert int(str(far["remaining_ns"])) <= FENCE_NS * bench.pace
        assert not open_term(bench, T2, ahead_ns=-2 * FENCE_NS)["ok"]

    def test_one_vm_is_killed_alone(self, bench: GuardBench) -> None:
        open_term(bench, T1)
        for vm in ("web", "db"):
            bench.ask("admit", vm=vm)
            bench.start(vm)
        said = bench.ask("kill", vm="web")
        assert (said["ok"], said["populated"]) == (True, False)
        assert (bench.alive("web"), bench.alive("db")) == (0, 1)
        confirm(bench, T1)
        bench.ask("admit", vm="web")
        assert bench.start("web")["ok"], "a killed VM can start again"

    def test_a_restarted_guard_goes_on_with_the_same_deadline(self, bench: GuardBench) -> None:
        open_term(bench, T1)
        bench.ask("admit", vm="web")
        bench.start("web")
        before = int(str(bench.ask("status")["deadline_ns"]))
        bench.restart()
        said = bench.ask("status")
        assert (said["state"], said["term"]) == ("open", T1)
        assert abs(int(str(said["deadline_ns"])) - before) < MS
        assert bench.alive("web") == 1
        bench.wait(FENCE_NS + KILL_NS // 2)
        assert bench.alive("web") == 0
        assert bench.ask("status")["state"] == "closed"

    @pytest.mark.parametrize(
        ("field", "value"),
        [("term", "short"), ("term", "0" * 32), ("term", None), ("fence_ns", -1), ("kill_ns", 0),
         ("fence_ns", "9"), ("margin_ns", FENCE_NS), ("fence_ns", True), ("start_boot_ns", 1 << 70),
         ("watchdog_s", 1.5)],
    )  # fmt: skip
    def test_an_open_that_makes_no_sense_is_refused(
        self, bench: GuardBench, field: str, value: object
    ) -> None:
        said = open_term(bench, T1, **{field: value})
        assert not said["ok"]
        assert said["error"]
        assert bench.ask("status")["state"] == "idle"

    @pytest.mark.parametrize("vm", ["", "../web", "a/b", "A", "x" * 64, "-a", None, 7, ["web"]])
    def test_a_name_that_is_none_is_refused(self, bench: GuardBench, vm: object) -> None:
        open_term(bench, T1)
        for op in ("admit", "kill", "enter"):
            assert not bench.ask(op, vm=vm)["ok"], op


def open_term(
    bench: GuardBench, term: str, /, *, ahead_ns: int = 0, op: str = "open", **changes: object
) -> Reply:
    lengths: Reply = {"fence_ns": FENCE_NS, "kill_ns": KILL_NS, "margin_ns": MARGIN_NS}
    fields = {"term": term, "watchdog_s": 1, **lengths, **_begun(bench, ahead_ns), **changes}
    paced = {name: _paced(bench, fields[name]) for name in lengths}
    return bench.ask(op, **fields | paced)


def confirm(bench: GuardBench, term: str, *, ahead_ns: int = 0, op: str = "confirm") -> Reply:
    return bench.ask(op, term=term, **_begun(bench, ahead_ns))


def _paced(bench: GuardBench, length_ns: object) -> object:
    """What is no length stays as it is."""
    return length_ns * bench.pace if type(length_ns) is int else length_ns


def _begun(bench: GuardBench, ahead_ns: int) -> Reply:
    now, ahead_ns = bench.reading(), ahead_ns * bench.pace
    return {"start_boot_ns": max(0, now.boot_ns + ahead_ns),
            "start_raw_ns": max(0, now.raw_ns + ahead_ns)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Done:
    """A duty, when it came, and how things stood just before it was done."""

    when: Reading
    duty: Duty
    state: GuardState
    populated: bool


@dataclass
class MemoryGuard:
    """A guard without processes: a VM is a count in `inside`, time is what wait() adds."""

    pace: ClassVar[int] = 1

    boot_ns: int = 1_000_000_000_000
    raw_ns: int = 999_000_000_000
    raw_permille: int = 1000  # rate of the raw clock
    watchdog_s: int = 0
    reset: str = "none"
    immortal: bool = False  # a kill does not help
    tick_ns: int = 5 * MS
    inside: dict[str, int] = field(default_factory=dict)
    duties: list[Done] = field(default_factory=list)
    core: GuardCore = field(default_factory=GuardCore)

    def reading(self) -> Reading:
        return Reading(self.boot_ns, self.raw_ns)

    def facts(self) -> Facts:
        here = frozenset(vm for vm, count in self.inside.items() if count)
        return Facts(bool(here), here, self.watchdog_s, "", self.reset)

    def wait(self, ns: int) -> None:
        while ns > 0:
            step_ns = min(ns, self.tick_ns)
            self.boot_ns += step_ns
            self.raw_ns += step_ns * self.raw_permille // 1000
            ns -= step_ns
            self.step()

    def step(self) -> None:
        for duty in self.core.tick(self.reading(), self.facts()):
            self.duties.append(Done(self.reading(), duty, self.core.state, bool(self.inside)))
            if duty is Duty.KILL and not self.immortal:
                self.inside.clear()
            if duty is Duty.SAVE:
                self.core.saved()

    def ask(self, op: str, **fields: object) -> Reply:
        self.step()
        reply = self._answer(op, fields)
        self.step()
        return reply

    def _answer(self, op: str, fields: Reply) -> Reply:
        vm = fields.get("vm")
        if op == "kill":
            if not isinstance(vm, str) or self.inside.pop(vm, None) is None:
                return {"ok": False, "error": "no such VM"}
            return {"ok": True, "populated": False}
        said = answer(self.core, self.reading(), self.facts(), op, fields)
        if op != "status":
            return said
        return {**said, "vms": {vm: {"populated": bool(n)} for vm, n in self.inside.items()}}

    def start(self, vm: str) -> Reply:
        reply = self.ask("enter", vm=vm)
        if reply["ok"]:
            self.inside[vm] = 1
        return reply

    def alive(self, vm: str) -> int:
        return self.inside.get(vm, 0)

    def intrude(self, vm: str) -> None:
        self.inside[vm] = self.inside.get(vm, 0) + 1

    def restart(self) -> None:
        self.core = GuardCore(self.core.memory(), self.core.ran_ns)
        self.step()
