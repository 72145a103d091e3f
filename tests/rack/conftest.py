"""One rack of three hosts for all rack tests; each test gets it healthy and with everything on."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

import pytest

from outlast.errors import OutlastError
from outlast.rack.client import RackClient


@pytest.fixture(scope="session", autouse=True)
def pycache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Racks of one run share their compiled Python files, with the tests if those keep them."""
    with pytest.MonkeyPatch.context() as patch:
        if not sys.pycache_prefix:
            patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("pycache")))
        yield


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RackClient]:
    """A rack that stays up for the whole run."""
    client = RackClient(tmp_path_factory.mktemp("rack"))
    start = time.monotonic()
    client.up(hosts=3, third=77, leashed=True)
    client.up_took_s = time.monotonic() - start  # type: ignore[attr-defined]
    yield client
    client.down(purge=True)


@pytest.fixture
def rack(standing: RackClient) -> Iterator[RackClient]:
    """The standing rack; whatever a test broke is healed after it."""
    yield standing
    standing.heal()
    standing.storage("heal")
    for name, host in standing.status()["hosts"].items():
        if host["power"] == "frozen":
            standing.thaw(name)
        if host["power"] == "off":
            standing.power(name, "on")
        with contextlib.suppress(OutlastError):
            standing.storage("heal", name)
