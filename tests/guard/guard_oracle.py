"""A second, stupid opinion on the guard: the rules of core.py, checked from outside."""

from __future__ import annotations

import sys
from pathlib import Path

from outlast.guard.facts import Reading
from outlast.guard.states import Duty
from outlast.model import GuardState

sys.path.insert(0, str(Path(__file__).parent.parent / "contract"))
from guard_kit import MS
from memory_guard import MemoryGuard

F, K, MARGIN, W_S = 4000 * MS, 3000 * MS, 500 * MS, 2
S = 1000 * MS


def passed_ns(start: Reading, now: Reading) -> int:
    return max(now.boot_ns - start.boot_ns, now.raw_ns - start.raw_ns)


class Oracle:
    """Plays requests on a MemoryGuard and holds every answer and duty against the rules."""

    def __init__(self, *, reset: str, watchdog_s: int, immortal: bool, permille: int) -> None:
        self.guard = MemoryGuard(
            reset=reset, watchdog_s=watchdog_s, immortal=immortal, raw_permille=permille,
            tick_ns=50 * MS,
        )  # fmt: skip
        self.term = 0
        self.starts: list[Reading] = []  # of acknowledged beats of the newest term
        self.closed_at: Reading | None = None  # of the newest term
        self.closed: set[str] = set()
        self.seen = 0
        self.drains = False
        self.alive_ns = -1  # when a VM was last seen alive
        self.undrained: list[Reading] = []  # beats of a closed term that may have left writes

    def name(self, number: int) -> str:
        return f"{number:032x}"

    def left_ns(self, at: Reading | None = None) -> int:
        """To the deadline, by the largest acknowledged start, on the faster clock."""
        now = at or self.guard.reading()
        if self.closed_at:
            return -passed_ns(self.closed_at, now)
        return F - min(passed_ns(start, now) for start in self.starts)

    def request(self, op: str, **fields: object) -> bool:
        said = self.guard.ask(op, **fields)
        self.check()
        return said["ok"] is True

    def opening(self, number: int, age_ns: int) -> dict[str, object]:
        now = self.guard.reading()
        return {
            "term": self.name(number), "start_boot_ns": now.boot_ns - age_ns,
            "start_raw_ns": now.raw_ns - age_ns, "fence_ns": F, "kill_ns": K,
            "margin_ns": MARGIN, "watchdog_s": W_S,
        }  # fmt: skip

    def beat(self, op: str, number: int, age_ns: int, **more: object) -> None:
        now, fields = self.guard.reading(), {**self.opening(number, age_ns), **more}
        populated = bool(self.guard.inside)
        if not self.guard.ask(op, **fields)["ok"]:
            self.check()
            return
        fresh = number > self.term
        if fresh:
            assert op == "open", "a term was confirmed before it was opened"
            assert not populated, "a term opened on processes of another"
            assert not self.undrained, "a term opened while writes of another may wait"
            self.drains = bool(more.get("drains"))
            self.term, self.starts, self.closed_at = number, [], None
            self.seen = len(self.guard.duties)
        assert number == self.term
        assert self.name(number) not in self.closed, "a closed term came back"
        assert fresh or self.left_ns() > 0, "confirmed after the deadline"
        start, last = Reading(now.boot_ns - age_ns, now.raw_ns - age_ns).min(now), self.starts[-1:]
        if not last or (start.boot_ns > last[0].boot_ns and start.raw_ns > last[0].raw_ns):
            self.starts.append(start)  # a beat counts as newer only if both clocks say so
        assert self.guard.core.remaining_ns(now) == self.left_ns(), "deadline moved wrongly"
        assert self.left_ns() <= F, "the deadline is further away than F"
        self.check()

    def start(self, vm: str) -> None:
        running = bool(self.guard.inside.get(vm))
        if self.guard.start(vm)["ok"]:
            assert self.term and self.left_ns() > MARGIN, "a start after D - margin"
            assert not running
        self.check()

    def close(self, *, sick: bool) -> None:
        was_open = self.guard.core.state is GuardState.OPEN and self.left_ns() > 0
        ran = self.guard.inside or (self.starts and self.alive_ns > self.starts[-1].boot_ns)
        ok = self.request("close", term=self.name(self.term), reason="x", reset_if_running=sick)
        assert ok or not self.term
        if was_open:
            self.closed_at = self.guard.reading()
            self.undrained = list(self.starts) if ran and self.drains else []

    def drain(self, number: int) -> None:
        closed = self.guard.core.state is GuardState.CLOSED and number == self.term
        assert self.request("drained", term=self.name(number)) is closed
        if closed:
            self.undrained = []

    def _undrained_ns(self, now: Reading) -> int:
        """To D + K of that term."""
        return F + K - min(passed_ns(start, now) for start in self.undrained)

    def check(self) -> None:
        state = self.guard.core.state
        if state is not GuardState.IDLE and state is not GuardState.OPEN:
            self.closed.add(self.name(self.term))
        if state is GuardState.OPEN:
            assert self.left_ns() > 0, "open past the deadline"
        if state is GuardState.CLOSED and not self.guard.immortal:
            assert self.guard.core.memory().closed_ns
        if self.guard.inside:
            self.alive_ns = self.guard.reading().boot_ns
        if self.undrained and self._undrained_ns(self.guard.reading()) <= 0:
            assert self.guard.reset == "none" or state is GuardState.RESETTING, "never drained"
        for done in self.guard.duties[self.seen :]:
            if done.duty is not Duty.PET or not self.term:
                continue
            quiet = done.state is not GuardState.OPEN and not done.populated
            if quiet and self.undrained:
                quiet = self._undrained_ns(done.when) >= self.guard.watchdog_s * S
            assert done.state is not GuardState.RESETTING
            late_ns = self.guard.watchdog_s * S
            assert quiet or self.left_ns(done.when) + K >= late_ns, "petted too late"
        self.seen = len(self.guard.duties)
        if state is not GuardState.OPEN and self.guard.inside:
            assert self.guard.immortal, "not open, and something lives on after a step"
            if self.term and -self.left_ns() >= K and self.guard.reset != "none":
                # an intruder after the end is frozen and nobody pets, but it is no cause to reset
                assert state in (GuardState.RESETTING, GuardState.CLOSED), "lives past D + K"
                pets = self.guard.core.may_pet(self.guard.reading(), self.guard.facts())
                assert not pets or not self.guard.watchdog_s
