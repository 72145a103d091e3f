"""Tells the copies of this host what share of their rate its beats leave them (images/share.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from outlast.images.pace import tell_share
from outlast.images.share import Share, judged
from outlast.settings import Timing

LOOK_S = 0.5


class CopyBrake:
    """snapshot: the pulse's newest word."""

    def __init__(
        self, snapshot: Callable[[], Mapping[str, Any] | None], now_ns: Callable[[], int],
        timing: Callable[[], Timing], tell: Callable[[Share], None] = tell_share,
    ) -> None:  # fmt: skip
        self._snapshot, self._now_ns, self._timing, self._tell = snapshot, now_ns, timing, tell
        self._share = Share()

    def look(self) -> None:
        said = self._snapshot() or {}
        hosts = len((said.get("view") or {}).get("members") or ())
        sample, now_ns = said.get("sample") or {}, self._now_ns()
        self._share = judged(self._share, sample, now_ns, self._timing(), hosts)
        self._tell(self._share)
