"""How the rows of a list lay when it was made, and how many lie elsewhere by now (pure).

Rule: the order of a list is a short text that its page's stream carries in its address; MARK
characters a row. A row that moves past others is one that has changed place, not all of those.
"""

from __future__ import annotations

import base64
import hashlib
from bisect import bisect_left
from collections.abc import Iterable

MARK = 4


def order_of(rows: Iterable[tuple[str, str]]) -> str:
    """rows: (pool id, name), from the first to the last."""
    return "".join(map(_mark, rows))


def changed(then: str, now: str) -> int:
    """How many rows lie elsewhere, came or went."""
    at = {mark: n for n, mark in enumerate(_marks(then))}
    fresh = _marks(now)
    known = [at[mark] for mark in fresh if mark in at]
    came, went = len(fresh) - len(known), len(at) - len(known)
    return len(known) - _longest_rise(known) + max(came, went)


def _mark(row: tuple[str, str]) -> str:
    short = hashlib.blake2b(" ".join(row).encode(), digest_size=MARK * 3 // 4)
    return base64.urlsafe_b64encode(short.digest()).decode()


def _marks(order: str) -> list[str]:
    return [order[n : n + MARK] for n in range(0, len(order), MARK)]


def _longest_rise(numbers: list[int]) -> int:
    """Of all ways to leave some out so that the rest ascends, the length of the longest."""
    ends: list[int] = []  # the least number that a rise of each length ends with
    for number in numbers:
        place = bisect_left(ends, number)
        ends[place : place + 1] = [number]
    return len(ends)
