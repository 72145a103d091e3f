"""Fixtures of the room `hypervisor`: one private libvirtd for all tests, guests that boot."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from private_libvirtd import PrivateLibvirtd, why_not


@pytest.fixture(scope="session")
def libvirtd() -> Iterator[PrivateLibvirtd]:
    """A libvirtd of its own; tests that crash it must leave it running."""
    if reason := why_not():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="olv-") as home:
        daemon = PrivateLibvirtd(Path(home))
        try:
            yield daemon
        finally:
            daemon.close()
