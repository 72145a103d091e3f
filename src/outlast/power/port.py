"""The port to hosts' power switches. Pure.

Promises, whatever is behind it:
1. `fence` says OFF or ALREADY_OFF only when the switch itself said, after the command, that it is
   off: what ran on that machine before the call began has ended. Everything else is UNKNOWN
   with a reason: no answer, a wrong password, a switch that said "done" and "on".
2. It never switches on, never reboots, and acts on the machine with this uuid or not at all: a slot
   that was given to another machine meanwhile is not its switch.
3. Every call ends within its limit. A switch that lost its power with its host is UNKNOWN then; the
   caller goes on with what the storage proves, at the same time, and waits for nobody here.
4. UNKNOWN is not "still on": the machine may go off later. A caller that acts on the answer looks
   once more at the heartbeat: a block that changes after OFF means that the switch is another's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Outcome(Enum):
    """What a call to switch off came to."""

    OFF = "off"  # switched off now, and the switch says so
    ALREADY_OFF = "already-off"  # it was off before, and is
    UNKNOWN = "unknown"


class Power(Enum):
    """What a switch says of its machine."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Fenced:
    """The answer to `fence`; `reason` is a sentence without secrets."""

    outcome: Outcome
    reason: str
    took_ms: int = 0

    @property
    def proven(self) -> bool:
        """True: this machine's former life is over (P4)."""
        return self.outcome is not Outcome.UNKNOWN


@dataclass(frozen=True, slots=True)
class SwitchSaid:
    """The answer to `test`; `reason` says why it is UNKNOWN, "" otherwise."""

    power: Power
    reason: str = ""
    took_ms: int = 0


class PowerFence(Protocol):
    """All methods block, may be called from any thread, and never raise for what a switch does."""

    def fence(self, slot: int, uuid: str, limit_s: float) -> Fenced:
        """Switch the machine with this uuid off, which is the host in this slot."""

    def test(self, slot: int, uuid: str, limit_s: float) -> SwitchSaid:
        """Ask its switch whether it is on; changes nothing."""
