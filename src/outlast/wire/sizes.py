"""Sizes as people write them: "8MiB", "2G". Pure.

Rules:
1. A size is a whole number and a unit; the unit is always said, for a forgotten one is a factor of
   a thousand or more.
2. K, M, G, T and KiB, MiB, GiB, TiB are powers of 1024; B is bytes. KB, MB, GB are refused: half
   of the world means 1000 by them.
"""

from __future__ import annotations

import re

from outlast.errors import InvalidInput

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
SIZE_MAX = 1 << 60
UNITS = {"B": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}
UNITS |= {f"{unit}iB": size for unit, size in list(UNITS.items()) if unit != "B"}
_HINT = "a whole number and a unit, like 512MiB or 20G"
_SIZE = re.compile(r"([0-9]{1,19}) ?([A-Za-z]{0,3})\Z")


def is_size(text: str) -> bool:
    """True for what begins like a size, so that a path is not taken for one."""
    return bool(_SIZE.match(text)) and text[-1:].isalpha()


def parse_size(text: str) -> int:
    """Bytes of a size.

    Raises InvalidInput that says what is wrong with it.
    """
    match = _SIZE.match(text)
    if match is None:
        raise InvalidInput(f"{text[:40]!r} is not a size", hint=_HINT)
    number, unit = int(match[1]), match[2]
    if not unit:
        raise InvalidInput(f"the size {text!r} has no unit", hint=_HINT)
    if unit not in UNITS:
        binary = unit[0].upper() + "iB"
        hint = f"write {number}{binary}" if binary in UNITS else _HINT
        raise InvalidInput(f"the size {text!r} has an unknown unit '{unit}'", hint=hint)
    size = number * UNITS[unit]
    if not 0 < size <= SIZE_MAX:
        raise InvalidInput(f"the size {text!r} is out of range", hint=_HINT)
    return size


def size_text(size_bytes: int) -> str:
    """The shortest exact way to write a size: 2 GiB, 1536 MiB."""
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size_bytes >= factor and size_bytes % factor == 0:
            return f"{size_bytes // factor} {unit}"
    return f"{size_bytes} B"
