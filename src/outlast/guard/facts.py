"""What the guard's core is told and what it keeps: plain values, and the reading of requests.

Rules of this file:
1. Pure: values in, values or InvalidInput out.
2. A request comes from a socket: nothing in it is believed before it was checked here.
3. An instant is a pair of clock readings; time passed between two is the larger difference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from outlast.errors import InvalidInput
from outlast.model import NO_TERM, GuardState

S = 1_000_000_000
VM_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
STORES_MAX = 64
_TERM = re.compile(r"[0-9a-f]{32}")
_YEARS_NS = 1 << 62  # larger numbers in a request are garbage

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Reading:
    """One instant on the two clocks of rule 2."""

    boot_ns: int
    raw_ns: int

    def since(self, start: Reading) -> int:
        return max(self.boot_ns - start.boot_ns, self.raw_ns - start.raw_ns)

    def earlier(self, ns: int) -> Reading:
        return Reading(self.boot_ns - ns, self.raw_ns - ns)

    def min(self, other: Reading) -> Reading:
        return Reading(min(self.boot_ns, other.boot_ns), min(self.raw_ns, other.raw_ns))


@dataclass(frozen=True, slots=True)
class GuardTiming:
    """F, K and S in ns; W as asked for, in seconds."""

    fence_ns: int = 0
    kill_ns: int = 0
    margin_ns: int = 0
    watchdog_s: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the shell saw just before the step.

    populated: a process may live in the subtree (not knowing counts as yes).
    vms: the VMs that have one (needed for requests only).
    watchdog_s: time-out read back from the armed device, 0 without one.
    watchdog_problem: why there is none although the pool requires one, or why it cannot be used.
    reset: what would really reset this host now: "watchdog", "sysrq" or "none".
    """

    populated: bool
    vms: frozenset[str] = frozenset()
    watchdog_s: int = 0
    watchdog_problem: str = ""
    reset: str = "none"


@dataclass(frozen=True, slots=True)
class Memory:
    """All the guard must remember over its own restart."""

    state: GuardState = GuardState.IDLE
    term: str = NO_TERM
    start: Reading = Reading(0, 0)  # D is this + F
    beat: Reading = Reading(0, 0)  # start of the newest confirmed beat; older than `start` while
    # the others give this host more time
    timing: GuardTiming = GuardTiming()
    watchdog_s: int = 0  # read back from the device when the term opened
    reason: str = "no term was opened yet"
    closed_ns: int = 0  # CLOCK_BOOTTIME of CLOSED, 0 before
    closed_terms: tuple[str, ...] = ()
    reset_wanted: bool = False  # rule 10
    quiesced_possible: bool = True
    unsafe_reset: str = ""
    drains: bool = False  # the pulse that opened the term says when it has drained
    undrained: Reading | None = None  # rule 13: `start` of a closed term that has not drained
    stores: tuple[str, ...] = ()  # rule 14: not settled


def parse_open(request: Mapping[str, object]) -> tuple[str, Reading, GuardTiming]:
    """The fields of an open request.

    Raises InvalidInput naming the field that cannot be taken.
    """
    timing = GuardTiming(
        _number(request, "fence_ns", 1), _number(request, "kill_ns", 1),
        _number(request, "margin_ns", 0), _number(request, "watchdog_s", 0),
    )  # fmt: skip
    if timing.margin_ns >= timing.fence_ns:
        raise InvalidInput("margin_ns must be smaller than fence_ns")
    return read_term(request), read_start(request), timing


def read_stores(value: object) -> tuple[str, ...] | None:
    """None: that is no list of names."""
    if not isinstance(value, list | tuple) or len(value) > STORES_MAX:
        return None
    fine = all(isinstance(name, str) and VM_NAME.fullmatch(name) for name in value)
    return tuple(value) if fine else None


def read_term(request: Mapping[str, object]) -> str:
    term = request.get("term")
    if not isinstance(term, str) or not _TERM.fullmatch(term) or term == NO_TERM:
        raise InvalidInput("term must be 32 hex digits, not all of them 0")
    return term


def read_start(request: Mapping[str, object]) -> Reading:
    return Reading(_number(request, "start_boot_ns", 0), _number(request, "start_raw_ns", 0))


def _number(request: Mapping[str, object], name: str, least: int) -> int:
    value = request.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < _YEARS_NS:
        raise InvalidInput(f"{name} must be a whole number, at least {least}")
    return value


def watchdog_refusal(timing: GuardTiming, facts: Facts) -> str:
    """Why this host's watchdog does not fit these times; "" if it does."""
    if facts.watchdog_problem:
        return facts.watchdog_problem
    if facts.watchdog_s * S > timing.kill_ns:
        return (
            f"the watchdog fires after {facts.watchdog_s} s, later than the kill window "
            f"of {timing.kill_ns / S:g} s"
        )
    return ""
