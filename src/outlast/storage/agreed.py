"""A value that people set in a register, written for certain or refused."""

from __future__ import annotations

import time
from collections.abc import Mapping

from outlast.errors import Conflict
from outlast.storage.register import Outcome, Register

TRIES, PAUSE_S = 5, 0.1


def put(
    register: Register, name: str, version: int, value: Mapping[str, object], what: str, where: str
) -> None:
    """Write it over this version. An outcome that is not known is resolved by reading.

    what: of whom the value is; where: the command that shows it. Raises Conflict, StorageTrouble.
    """
    outcome = register.swap(name, version, value).outcome
    for _ in range(TRIES):
        if outcome is Outcome.OK or register.read(name)[1] == value:
            return
        if outcome is Outcome.CONFLICT:
            break
        time.sleep(PAUSE_S)
    raise Conflict(
        f"somebody else has just changed {what}, or the storage does not say what it wrote",
        hint=f"look with '{where}', then try again",
    )
