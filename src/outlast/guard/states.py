"""The guard's states, what moves them, and what its shell is told to do.

Rules:
1. What NEXT does not name does not happen: such a move is a broken invariant.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from outlast.model import GuardState


class Cause(Enum):
    OPENED = "opened"
    EXPIRED = "expired"  # the deadline passed without a confirmation
    ORDERED = "ordered"  # a close request
    EMPTIED = "emptied"  # the subtree was verified empty
    STUCK = "stuck"  # something would not die in time
    UNQUIET = "unquiet"  # killed, but its writes may still wait for the storage


NEXT: Mapping[GuardState, Mapping[Cause, GuardState]] = {
    GuardState.IDLE: {Cause.OPENED: GuardState.OPEN},
    GuardState.OPEN: {Cause.EXPIRED: GuardState.CLOSING, Cause.ORDERED: GuardState.CLOSING},
    GuardState.CLOSING: {
        Cause.EMPTIED: GuardState.CLOSED,
        Cause.STUCK: GuardState.RESETTING,
        Cause.UNQUIET: GuardState.RESETTING,
    },
    GuardState.CLOSED: {Cause.OPENED: GuardState.OPEN, Cause.UNQUIET: GuardState.RESETTING},
    GuardState.RESETTING: {},  # only a boot ends it
}


class Duty(Enum):
    """What the shell must do after a step, in this order; all may be repeated without harm."""

    FREEZE = "freeze"  # the whole subtree
    KILL = "kill"  # every process in it
    THAW = "thaw"
    SAVE = "save"  # memory() to the state file, before any reply leaves
    RESET = "reset"  # the host, by the configured way
    PET = "pet"  # the watchdog
