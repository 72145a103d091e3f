"""Each test of this folder has its own place for this host's locks."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def alone(own_run: None) -> None:
    pass


@pytest.fixture
def pool_dir(tmp_path: Path) -> Path:
    root = tmp_path / "pool"
    (root / "images").mkdir(parents=True)
    return root
