"""Keeps what was measured of beats over restarts of the agent and boots of its host.

Rules:
1. One small file, replaced whole: when a beat took longer than any before, else every KEEP_S.
2. A file that is damaged or cannot be written is no trouble: it is measured anew.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

from outlast.agent.margin import Margin

KEEP_S = 600.0


class MarginFile:
    def __init__(self, path: Path, margin: Margin) -> None:
        self._path, self._margin = path, margin
        self._longest_ns, self._kept_s = 0, 0.0
        with suppress(OSError, ValueError, TypeError, KeyError):
            margin.take_up(json.loads(path.read_bytes()), _now_ns(), time.time())

    def look(self) -> None:
        """Write it when it is worth it."""
        longest_ns, now_s = self._margin.measured().longest_ns, time.monotonic()
        if longest_ns <= self._longest_ns and now_s - self._kept_s < KEEP_S:
            return
        self._longest_ns, self._kept_s = longest_ns, now_s
        fresh = self._path.with_suffix(".new")
        with suppress(OSError):
            fresh.write_text(json.dumps(self._margin.kept(_now_ns(), time.time())))
            fresh.replace(self._path)


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
