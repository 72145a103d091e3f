"""Refusals that only the manager knows; codes are those of outlast.errors."""

from __future__ import annotations

import math

from outlast.errors import Conflict, Refused


class NotLoggedIn(Refused):
    """Nobody stands behind a call."""

    status = 401


class TooOften(Refused):
    """Too many wrong guesses; `wait_s` until the next one."""

    status = 429

    def __init__(self, wait_s: float) -> None:
        self.wait_s = max(1, math.ceil(wait_s))
        super().__init__("too many wrong guesses", hint=f"wait {self.wait_s} s, then try once more")


class Changed(Conflict):
    """If-Match did not fit."""

    status = 412
