"""Each test of this folder has its own place for this host's locks."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from copying_pool import Shop


@pytest.fixture(autouse=True)
def alone(own_run: None) -> None:
    pass


@pytest.fixture
def pool_dir(tmp_path: Path) -> Path:
    root = tmp_path / "pool"
    (root / "images").mkdir(parents=True)
    return root


@pytest.fixture
def shop() -> Iterator[Shop]:
    """In memory, where there is such a place: a killed process loses nothing that it wrote."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        pool_dir = Path(folder) / "pool"
        (pool_dir / "images").mkdir(parents=True)
        made = Shop(pool_dir, Path(folder))
        threading.Thread(target=made.web.serve_forever, args=(0.02,), daemon=True).start()
        yield made
        made.web.shutdown()
        made.web.server_close()
