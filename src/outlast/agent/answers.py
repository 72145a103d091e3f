"""The newest statuses that callers were given, so that the next one is what has changed (pure).

A whole status of 2,000 VMs is a megabyte; of a second later it differs in a few. Only callers that
ask for differences have their answers kept, the newest KEPT of them.
"""

from __future__ import annotations

import itertools
import secrets

from outlast.wire.difference import PoolNews, difference, whole
from outlast.wire.shapes import PoolStatus

KEPT = 8


class Answers:
    def __init__(self) -> None:
        self._epoch = secrets.token_hex(4)  # an agent that starts anew knows no older marks
        self._numbers = itertools.count(1)
        self._kept: dict[str, PoolNews] = {}

    def answer(self, status: PoolStatus, since: str) -> PoolNews:
        """since: mark of what the caller has; "" or one that is not known gets it whole."""
        mark = f"{self._epoch}-{next(self._numbers)}"
        now = PoolNews.model_construct(**(status.__dict__ | {"mark": mark}))
        before = self._kept.get(since)
        told = difference(before, now) if before else now
        # what did not change is kept once, not once for each answer
        self._kept[now.mark] = whole(before, told) if before else now
        while len(self._kept) > KEPT:
            self._kept.pop(next(iter(self._kept)))
        return told
