"""Every trouble Outlast can name, in one tree.

Each error carries a sentence for people, a `hint` that says what to do next, an exit code for the
command line and an HTTP status for the API. Codes are stable: scripts may rely on them.

    OutlastError ........... 1  500
      InvalidInput ......... 2  422   a name, size or file that cannot be taken
      NotFound ............. 3  404   no such vm, host or pool
      Conflict ............. 4  409   it exists already, or somebody changed it meanwhile
      StorageTrouble ....... 5  503   the pool's storage is missing, full, read-only or damaged
      HypervisorTrouble .... 6  503   libvirt is absent or refused
      PoolTrouble .......... 7  503   this host is not (yet) a member, or no host has room
      TimedOut ............. 8  504   it did not happen in time; nothing was undone
      Unreachable .......... 9  502   no agent answered
      Refused .............. 10 403   the caller may not do this
"""

from __future__ import annotations


class OutlastError(Exception):
    """Base of all errors that a user may see."""

    exit_code = 1
    status = 500
    code = "internal"

    def __init__(self, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.hint = hint


class InvalidInput(OutlastError):
    exit_code, status, code = 2, 422, "invalid-input"


class NotFound(OutlastError):
    exit_code, status, code = 3, 404, "not-found"


class Conflict(OutlastError):
    exit_code, status, code = 4, 409, "conflict"


class StorageTrouble(OutlastError):
    exit_code, status, code = 5, 503, "storage-trouble"


class HypervisorTrouble(OutlastError):
    exit_code, status, code = 6, 503, "hypervisor-trouble"


class PoolTrouble(OutlastError):
    exit_code, status, code = 7, 503, "pool-trouble"


class TimedOut(OutlastError):
    exit_code, status, code = 8, 504, "timed-out"


class Unreachable(OutlastError):
    exit_code, status, code = 9, 502, "unreachable"


class Refused(OutlastError):
    exit_code, status, code = 10, 403, "refused"


class BrokenInvariant(Exception):
    """A safety property did not hold. Never caught: ends the process; the guard bounds the harm."""


ALL: tuple[type[OutlastError], ...] = (
    OutlastError,
    InvalidInput,
    NotFound,
    Conflict,
    StorageTrouble,
    HypervisorTrouble,
    PoolTrouble,
    TimedOut,
    Unreachable,
    Refused,
)


def by_code(code: str) -> type[OutlastError]:
    """The error class of a code as sent over the API; OutlastError for an unknown one."""
    return next((kind for kind in ALL if kind.code == code), OutlastError)
