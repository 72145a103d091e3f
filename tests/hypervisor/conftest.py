"""Fixtures of the room `hypervisor`: one private libvirtd for all tests, guests that boot."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from driver_kit import Ground
from private_libvirtd import PrivateLibvirtd, why_not
from tiny_guest import write_disk

from outlast.hypervisor.libvirt_driver import LibvirtDriver, LibvirtOptions


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


@pytest.fixture
def driver(libvirtd: PrivateLibvirtd) -> Iterator[LibvirtDriver]:
    """For it; what a test left running ends."""
    made = LibvirtDriver(libvirtd.uri, LibvirtOptions(root=libvirtd.root))
    yield made
    for vm in made.list():
        made.kill(vm.name)
    made.close()


@pytest.fixture
def ground(driver: LibvirtDriver, tmp_path: Path) -> Ground:
    made = Ground(driver, tmp_path, write_disk)
    driver.subscribe(made.events.append)
    return made
