"""Both guards pass the kit: the core in memory, and the real process with real VMs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "contract"))
from guard_kit import GuardKit, MemoryGuard
from guard_process import ProcessGuard, why_not


class TestMemoryGuard(GuardKit):
    @pytest.fixture
    def bench(self) -> MemoryGuard:
        return MemoryGuard()


@pytest.mark.skipif(bool(why_not()), reason=why_not())
class TestProcessGuard(GuardKit):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[ProcessGuard]:
        bench = ProcessGuard(tmp_path)
        yield bench
        bench.clean()
