"""A real agent server with an in-memory pool behind it, and the command line in front."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "agent"))

from command_line import Outlast, Said
from memory_service import MemoryService

from outlast.agent.server import Server
from outlast.agent.server_thread import ServerThread
from outlast.cli.main import run


@pytest.fixture
def outlast(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Outlast:
    """Run the command line in this process, on directories of its own."""
    for name in ("RUN", "ETC", "VAR"):
        monkeypatch.setenv(f"OUTLAST_{name}", str(tmp_path / name.lower()))
    monkeypatch.delenv("OUTLAST_AGENT", raising=False)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*args: str) -> Said:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            run(list(args))
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Said(int(ended.value.code or 0), out, err)

    return call


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    pool_dir = tmp_path / "memory-pool"
    (pool_dir / "images").mkdir(parents=True)
    return MemoryService(pool_dir)


@pytest.fixture
def agent(tmp_path: Path, service: MemoryService, outlast: Outlast) -> Iterator[MemoryService]:
    """An agent that listens where the command line looks by default."""
    thread = ServerThread(Server(service, tmp_path / "run/agent.sock"))
    thread.start()
    yield service
    thread.stop()


@pytest.fixture
def pool(outlast: Outlast, tmp_path: Path) -> Path:
    directory = tmp_path / "pool"
    directory.mkdir()
    assert outlast("pool", "init", str(directory), "--name", "lab1", "--lab").code == 0
    return directory
