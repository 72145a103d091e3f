"""How sentences for people count: `1 VM moves`, `1,234 VMs move`. Pure."""

from __future__ import annotations


def plural(count: int, one: str, many: str = "") -> str:
    """The number and what there is of it; many: where an s does not make it."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
