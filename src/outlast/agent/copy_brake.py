"""Has the copies of this host stand still while its beats are late.

Each host keeps to a rate, but so many hosts may copy at once that a shared storage has no room left
for heartbeats.

Rules:
1. A beat is late when it has been on its way for a quarter of the fence window: copies, those of
   all hosts together, are not to take the rest. Each host judges by its own beats; so all that
   share a storage which is too slow for them stand still, and go on with the next beat.
2. A host that has no beats yet has no VMs to lose: nothing is late there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from outlast.images.pace import tell_late

LATE_SHARE = 0.25  # of the fence window; people hear of it at a half (margin.py)
LOOK_S = 0.5


def is_late(sample: Mapping[str, Any], now_ns: int, fence_ns: int) -> bool:
    """sample: the pulse's newest good read (pure)."""
    started_ns = int(sample.get("started_ns") or 0)
    return started_ns > 0 and now_ns - started_ns > LATE_SHARE * fence_ns


class CopyBrake:
    """snapshot: the pulse's newest word."""

    def __init__(
        self, snapshot: Callable[[], Mapping[str, Any] | None], now_ns: Callable[[], int],
        fence_ns: int, tell: Callable[[bool], None] = tell_late,
    ) -> None:  # fmt: skip
        self._snapshot, self._now_ns, self._fence_ns, self._tell = snapshot, now_ns, fence_ns, tell

    def look(self) -> None:
        sample = (self._snapshot() or {}).get("sample") or {}
        self._tell(is_late(sample, self._now_ns(), self._fence_ns))
