"""Order and conditions of all tests.

Tests marked `rack` come last, so that cheap failures show first. They need root: a user's run says
that it skips them; CI, which is root, must never skip one. Those marked `patient` may take long.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PATIENCE_S = 3600
APART = ("rack", "patient", "alone")  # scripts/test.sh finds the files of each by `mark.NAME`


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for name in APART:
        for path in {item.path for item in items if item.get_closest_marker(name)}:
            if f"mark.{name}" not in path.read_text(encoding="utf-8"):
                raise pytest.UsageError(f"{path} has tests marked {name} and does not say so")
    items.sort(key=lambda item: item.get_closest_marker("rack") is not None)
    for item in items:
        if item.get_closest_marker("patient"):
            item.add_marker(pytest.mark.timeout(PATIENCE_S))
    if os.geteuid() == 0:
        return
    if os.environ.get("CI"):
        pytest.exit("CI must run as root: the rack's tests are the ones that matter", 1)
    needs_root = pytest.mark.skip(reason="needs root: make rack-test")
    for item in items:
        if item.get_closest_marker("rack"):
            item.add_marker(needs_root)


@pytest.fixture
def own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place of its own for this host's locks: copies that other tests make are not waited for."""
    monkeypatch.setenv("OUTLAST_RUN", str(tmp_path / "run"))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes small real file systems with these options."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        where = tmp_path / f"small{len(mounted)}"
        where.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "small", where]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("may not mount here")
        mounted.append(where)
        return where

    yield mount
    for where in mounted:
        subprocess.run(["umount", "-l", where], check=True)


@pytest.fixture
def fill() -> Callable[[Path], Path]:
    """Leaves no byte free on a file system; room is made by removing the file that it returns."""

    def filled(where: Path) -> Path:
        ballast = where / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        return ballast

    return filled
