"""A bench of the guard's kit without processes or clocks, around the guard's real core."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from guard_kit import MS, Reply

from outlast.guard.core import GuardCore
from outlast.guard.facts import Facts, Reading
from outlast.guard.requests import answer
from outlast.guard.states import Duty
from outlast.model import GuardState


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
