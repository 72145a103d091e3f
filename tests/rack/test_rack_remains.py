"""A rack leaves nothing behind, however it ends; and no two racks get into each other's way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rack_bench import SOURCE, wait_for

from outlast.errors import Conflict, InvalidInput, Unreachable
from outlast.rack.cgroup import find_root
from outlast.rack.client import RackClient

pytestmark = pytest.mark.rack


def links(kind: str) -> set[str]:
    """Namespaces of a kind that some process lives in."""
    found = set()
    for path in Path("/proc").glob(f"[0-9]*/ns/{kind}"):
        try:
            found.add(str(path.readlink()))
        except OSError:
            continue
    return found


def remains(folder: Path) -> dict[str, object]:
    """Everything of the machine that a rack in `folder` could have left changed."""
    processes = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words:
            processes.add(words)
    return {
        "mounts": Path("/proc/self/mounts").read_text(),
        "cgroups": {p.name for p in find_root().iterdir() if p.is_dir()},
        "processes": processes,
        "namespaces": {kind: len(links(kind)) for kind in ("net", "mnt", "pid", "uts")},
        "names": {p.name for p in Path("/run/netns").glob("*")},
        "interfaces": set(os.listdir("/sys/class/net")),  # noqa: PTH208
        "root": {p.name for p in Path("/").iterdir()} | {p.name for p in Path("/srv").iterdir()},
    }


def nothing_left(folder: Path, before: dict[str, object]) -> None:
    wait_for("nothing is left", lambda: remains(folder) == before, 5)


@pytest.fixture
def fresh(tmp_path: Path) -> RackClient:
    return RackClient(tmp_path / "rack")


def test_down_leaves_nothing_and_up_finds_the_disks_again(
    standing: RackClient, fresh: RackClient
) -> None:
    before = remains(fresh.folder)
    fresh.up(hosts=2, leashed=True, libvirt=False)
    with pytest.raises(Conflict, match="already up"):
        fresh.up()
    with pytest.raises(Conflict, match="is up"):
        fresh.scrub()
    fresh.exec("a", ["sh", "-c", "echo kept > /etc/outlast/note; echo kept > /srv/pool/note"])
    assert standing.exec("a", ["ls", "/srv/pool/note"]).returncode != 0, "racks are apart"
    assert fresh.down()
    nothing_left(fresh.folder, before)
    assert not fresh.down(), "a second time there is nothing to do"
    with pytest.raises(Unreachable, match="no rack is up"):
        fresh.status()
    fresh.up(hosts=2, leashed=True, libvirt=False, storage="bind")
    assert fresh.exec("a", ["cat", "/etc/outlast/note", "/srv/pool/note"]).stdout == "kept\nkept\n"
    with pytest.raises(InvalidInput, match="no storage faults"):
        fresh.storage("stall", "a")
    fresh.down(purge=True)
    nothing_left(fresh.folder, before)
    assert {p.name for p in fresh.folder.iterdir()} <= {"lock", "rack.log", "storage.log"}


def test_a_killed_daemon_poisons_nothing(standing: RackClient, fresh: RackClient) -> None:
    before = remains(fresh.folder)
    status = fresh.up(hosts=2, leashed=True, libvirt=False)
    fresh.popen("a", ["sleep", "600"])
    fresh.freeze("b")
    os.kill(status["pid"], signal.SIGKILL)
    assert fresh._daemon is not None
    fresh._daemon.wait(5)
    wait_for("its hosts die with it", lambda: not (remains(fresh.folder)["processes"]), 5)
    assert not fresh.is_up()
    assert fresh.scrub()
    nothing_left(fresh.folder, before)
    fresh.up(hosts=2, leashed=True, libvirt=False)
    os.kill(fresh.status()["pid"], signal.SIGKILL)
    assert fresh._daemon is not None
    fresh._daemon.wait(5)
    fresh.up(
        hosts=1, leashed=True, libvirt=False, prefix="outlast-other"
    )  # scrubs the former prefix too
    assert fresh.exec("a", ["hostname"]).stdout == "a\n"
    fresh.down(purge=True)
    nothing_left(fresh.folder, before)


@pytest.mark.parametrize("after_s", [0.05, 0.25, 0.45])
def test_an_interrupted_up_leaves_nothing(fresh: RackClient, after_s: float) -> None:
    before = remains(fresh.folder)
    program = f"from outlast.rack.client import RackClient; RackClient({str(fresh.folder)!r}).up()"
    starter = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for("its daemon starts", (fresh.folder / "rack.log").exists)
    time.sleep(after_s)
    starter.send_signal(signal.SIGINT)
    assert starter.wait(20) != 0
    nothing_left(fresh.folder, before)


def test_a_starter_that_vanishes_takes_its_half_built_rack_along(fresh: RackClient) -> None:
    before = remains(fresh.folder)
    program = f"from outlast.rack.client import RackClient; RackClient({str(fresh.folder)!r}).up()"
    starter = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(SOURCE)}
    )
    wait_for("its daemon starts", (fresh.folder / "rack.log").exists)
    starter.kill()
    starter.wait()
    nothing_left(fresh.folder, before)


def test_a_prefix_belongs_to_one_rack(standing: RackClient, fresh: RackClient) -> None:
    with pytest.raises(Conflict, match="prefix"):
        fresh.up(hosts=1, leashed=True, libvirt=False, prefix=standing.status()["prefix"])
    assert standing.exec("a", ["hostname"]).stdout == "a\n"
    with pytest.raises(InvalidInput):
        fresh.up(hosts=9, leashed=True9)
