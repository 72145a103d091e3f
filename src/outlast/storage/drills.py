"""The register `drill`: the pool's newest fire drill, from the wish to its report. Pure.

One register, so one drill at a time: who wishes one, begins it or judges it has to win a swap.
"""

from __future__ import annotations

from dataclasses import dataclass

WISHED, BEGUN, ENDED, REFUSED = "wished", "begun", "ended", "refused"


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A VM that the drill ends, and where it is to run again."""

    vm: str
    host: str


@dataclass(frozen=True, slots=True)
class DrillRecord:
    """state: wished -> begun -> ended, or refused; only `wished` may still be carried out."""

    id: str  # 16 hex digits
    slot: int  # of the host that is to fail
    host: str
    kind: str  # power | network | storage | agent | vm
    vm: str = ""  # the canary that chose the host
    by: str = ""
    due: str = ""  # the appointment it was made for; "" = somebody wished it
    view: int = 0  # that it was judged by
    for_s: int = 0  # how long the host acts as if it failed
    foreseen: tuple[Foreseen, ...] = ()  # in the order of the starts
    earliest_s: float = 0.0  # from its beginning until all of them run
    latest_s: float = 0.0
    state: str = WISHED
    wished_s: float = 0.0  # wall clock, for people
    begun_s: float = 0.0
    matched: bool = False  # what happened is what was foreseen
    report: tuple[str, ...] = ()

    @property
    def open(self) -> bool:
        return self.state in (WISHED, BEGUN)
