"""How sentences for people count and list: `1 VM moves`, `1,234 VMs move`, `a, b and c`. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def plural(count: int, one: str, many: str = "") -> str:
    """The number and what there is of it; many: where an s does not make it."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def listed(names: Sequence[str], most: int) -> str:
    """`a`, `a and b`, `a, b and 3 more`: so many are named."""
    told = [*names[:most], *([f"{len(names) - most:,} more"] if len(names) > most else [])]
    return " and ".join(filter(None, (", ".join(told[:-1]), *told[-1:])))
