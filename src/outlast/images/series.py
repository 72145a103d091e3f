"""Names and addresses in series: web-[01-20], 10.0.0.[11-30]/24. Pure.

Rules:
1. One range at most; both ends are written with the same number of digits, or without leading
   zeros. The order is that of the numbers.
2. `--count N` says the same without brackets: web becomes web-1 to web-N, all equally long.
"""

from __future__ import annotations

import re

from outlast.errors import InvalidInput

COUNT_MAX = 500
_RANGE = re.compile(r"\[([0-9]{1,6})-([0-9]{1,6})\]")
_HINT = "like web-[01-20]"


def series(text: str) -> list[str]:
    """All that a text with a range stands for; a text without one stands for itself.

    Raises InvalidInput.
    """
    ranges = _RANGE.findall(text)
    rest = _RANGE.sub("", text)
    if "[" in rest or "]" in rest or len(ranges) > 1:
        raise InvalidInput(f"{text[:60]!r} is no series", hint=_HINT)
    if not ranges:
        return [text]
    first, last = ranges[0]
    low, high = int(first), int(last)
    padded = first.startswith("0") and len(first) > 1
    if (padded and len(first) != len(last)) or (
        not padded and last.startswith("0") and last != "0"
    ):
        raise InvalidInput(f"{text[:60]!r}: both ends need as many digits", hint=_HINT)
    if not low <= high:
        raise InvalidInput(f"{text[:60]!r} ends before it begins", hint=_HINT)
    if high - low >= COUNT_MAX:
        raise InvalidInput(f"{text[:60]!r} stands for more than {COUNT_MAX}")
    width = len(first) if padded else 0
    return [_RANGE.sub(f"{number:0{width}d}", text) for number in range(low, high + 1)]


def counted(name: str, count: int) -> list[str]:
    """The names of so many VMs. Raises InvalidInput."""
    if not 1 <= count <= COUNT_MAX:
        raise InvalidInput(f"{count} VMs at once are not made", hint=f"1 to {COUNT_MAX}")
    if "[" in name:
        names = series(name)
        if len(names) != count:
            raise InvalidInput(f"{name} stands for {len(names)} names, not {count}")
        return names
    if count == 1:
        return [name]
    width = len(str(count))
    return series(f"{name}-[{1:0{width}d}-{count}]" if width > 1 else f"{name}-[1-{count}]")


def matched(text: str, count: int, what: str) -> list[str]:
    """One value for each of so many VMs; "" gives none to all. Raises InvalidInput."""
    if not text:
        return [""] * count
    found = series(text)
    if len(found) != count:
        raise InvalidInput(f"{what}: {text} stands for {len(found)}, there are {count} VMs")
    return found
