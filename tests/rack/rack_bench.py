"""What the rack's tests share besides their fixtures."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

PYTHON = [sys.executable, "-S", "-c"]
SOURCE = Path(__file__).parent.parent.parent / "src"


def wait_for(what: str, met: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Poll until `met()` is true; a test fails with `what` if it never is."""
    end = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < end, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)
