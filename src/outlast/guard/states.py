"""The guard's states, what moves them, what its shell is told to do; and its rules.

What NEXT does not name does not happen: such a move is a broken invariant. On top of it:

 1. D, the deadline, is (start of the newest confirmed beat) + F. It is clamped to now + F and
    never moves backwards, except that a close moves it to now.
 2. Elapsed time is the larger of CLOCK_BOOTTIME and CLOCK_MONOTONIC_RAW: one clock may be slewed,
    the other does not count suspend, and the victim must never be the one who is late.
 3. A term that closed never opens again. All closed terms of this boot are remembered.
 4. A confirmation counts only for the open term and only while D is ahead.
 5. A VM is admitted only while OPEN and now < D - margin. An admission lives until it is used,
    released, the term closes, or 30 s passed. Entering asks the same questions again. An admission
    for a copy that comes from another host lets no VM start from its disk, and the reverse.
 6. Closed is a state, not an edge: while not OPEN the subtree stays frozen and whatever is found
    in it is killed, again and again.
 7. CLOSED is said only when the subtree was verified empty; OPEN only on an empty subtree.
 8. The watchdog is petted only if now + W <= D + K, or if the term is not open and the subtree is
    verified empty; never while RESETTING. W is the time-out read back from the device plus a
    fifth, because devices fire late (10.0 s set: up to 11.8 s seen), but at most K.
 9. Not empty at D + K - slack: RESETTING.
10. Closing while the storage is sick (the deadline passed, or a close says so) and a VM ran later
    than K before the last confirmed beat: RESETTING after the kill attempt, because a killed QEMU's
    queued write may land whenever the storage answers again. Where nothing can reset the host (a
    lab), `unsafe_reset` says so; after a close that asked for it `quiesced_possible` is false.
11. An extension, given by all other hosts while nobody has storage, moves D as a confirmed beat
    does, but is none: nothing starts on it, and rule 10 looks back to the last real beat.
12. The timing of an open term may change while D, by the new one, is ahead and the watchdog fits.
13. A term that closed in order, with a VM that ran so lately, is undrained until the pulse says
    that the storage has answered for X since. Not said by the D it had, + K - slack: RESETTING,
    as in 10; and rule 8 looks at that D. No term opens before.
14. The pulse knows the pool's own storage only. An admission names the other storages that the VM
    writes to; each stays unsettled until nothing is in the subtree and the agent says that what was
    gone then has settled there. As long as one is, rule 10 takes it for a VM that ran, and rule 13
    for what never drained.
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
