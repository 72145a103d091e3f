"""Both guards pass the kit: the core in memory, and the real process with real VMs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "contract"))
from guard_kit import GuardKit, MemoryGuard
from guard_process import ProcessGuard, why_not

LAUNCH_S = 0.4  # twice what an idle machine of this time takes to start a guard
PACE_MAX = 10


class TestMemoryGuard(GuardKit):
    @pytest.fixture
    def bench(self) -> MemoryGuard:
        return MemoryGuard()


@pytest.mark.skipif(bool(why_not()), reason=why_not())
class TestProcessGuard(GuardKit):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[ProcessGuard]:
        began = time.monotonic()
        bench = ProcessGuard(tmp_path)
        # what takes a machine so long to start is started, answered and killed late there, too
        bench.pace = min(PACE_MAX, 1 + int((time.monotonic() - began) / LAUNCH_S))
        yield bench
        bench.clean()
