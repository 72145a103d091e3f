"""A rack leaves nothing behind, however it ends; and no two racks get into each other's way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from rack_bench import SOURCE, wait_for

from outlast.errors import Conflict, InvalidInput, Unreachable
from outlast.rack.cgroup import find_root
from outlast.rack.client import RackClient
from outlast.rack.shelf import default_prefix

pytestmark = pytest.mark.rack


OTHER_PREFIX = "outlast-other"


def namespaces(pids: Iterable[int | str]) -> set[str]:
    """The namespaces that these processes live in, except those of this test itself."""
    found, own = set(), {str(p.readlink()) for p in Path("/proc/self/ns").iterdir()}
    for pid in pids:
        with contextlib.suppress(OSError):
            found |= {str(path.readlink()) for path in Path(f"/proc/{pid}/ns").iterdir()}
    return found - own


def everybody() -> list[str]:
    return [p.name for p in Path("/proc").glob("[0-9]*")]


def remains(folder: Path) -> set[str]:
    """Whatever of a rack in `folder` is on this machine, apart from the folder itself.

    A namespace lives on only in a process, a mount or an open file: all three are looked for.
    """
    found = set()
    prefixes = {default_prefix(folder), OTHER_PREFIX}
    for pid in everybody():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            groups = Path(f"/proc/{pid}/cgroup").read_text()
            if not Path(f"/proc/{pid}/exe").exists():
                continue  # a zombie that its parent has not reaped yet
            if str(folder).encode() in words or any(f"/{p}/" in groups for p in prefixes):
                found.add(f"process {pid} {words!r}")
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found |= {line for line in mounts if str(folder) in line}
    found |= {f"cgroup {p}" for p in prefixes if (find_root() / p).exists()}
    found |= {str(p) for p in Path("/run/netns").glob("*") if "rack" in p.name}
    found |= {p.name for p in Path("/sys/class/net").iterdir() if p.name[1:] in ("-m", "-s")}
    return found


def nothing_left(folder: Path) -> None:
    with contextlib.suppress(AssertionError):
        wait_for("nothing is left", lambda: not remains(folder), 15)
    assert remains(folder) == set()


@pytest.fixture
def fresh(tmp_path: Path) -> RackClient:
    return RackClient(tmp_path / "rack")


def test_down_leaves_nothing_and_up_finds_the_disks_again(
    standing: RackClient, fresh: RackClient
) -> None:
    fresh.up(hosts=2, leashed=True, libvirt=False)
    with pytest.raises(Conflict, match="already up"):
        fresh.up()
    with pytest.raises(Conflict, match="is up"):
        fresh.scrub()
    fresh.exec("a", ["sh", "-c", "echo kept > /etc/outlast/note; echo kept > /srv/pool/note"])
    assert standing.exec("a", ["ls", "/srv/pool/note"]).returncode != 0, "racks are apart"
    assert fresh.down()
    nothing_left(fresh.folder)
    assert not fresh.down(), "a second time there is nothing to do"
    with pytest.raises(Unreachable, match="no rack is up"):
        fresh.status()
    fresh.up(hosts=2, leashed=True, libvirt=False, storage="bind")
    assert fresh.exec("a", ["cat", "/etc/outlast/note", "/srv/pool/note"]).stdout == "kept\nkept\n"
    with pytest.raises(InvalidInput, match="no storage faults"):
        fresh.storage("stall", "a")
    fresh.down(purge=True)
    nothing_left(fresh.folder)
    assert {p.name for p in fresh.folder.iterdir()} <= {"lock", "rack.log", "storage.log"}


def test_a_killed_daemon_poisons_nothing(standing: RackClient, fresh: RackClient) -> None:
    status = fresh.up(hosts=2, leashed=True, libvirt=False)
    pids = [status["pid"], *fresh.pids("a"), *fresh.pids("b")]
    threads = [f"{pid}/task/{status['switch_thread']}" for pid in pids[:1]]
    worlds = namespaces([*pids, *threads])
    assert len(worlds) > 8
    assert remains(fresh.folder)
    sleeper = fresh.popen("a", ["sleep", "600"])
    wait_for("a sleeper", lambda: len(fresh.pids("a")) > 2)
    fresh.freeze("b")
    os.kill(status["pid"], signal.SIGKILL)
    assert fresh._daemon is not None
    fresh._daemon.wait(5)
    assert not fresh.is_up()
    assert fresh.scrub()
    assert sleeper.wait(5) != 0
    wait_for("no namespace is left", lambda: not worlds & namespaces(everybody()), 5)
    nothing_left(fresh.folder)
    fresh.up(hosts=2, leashed=True, libvirt=False)
    os.kill(fresh.status()["pid"], signal.SIGKILL)
    assert fresh._daemon is not None
    fresh._daemon.wait(5)
    fresh.up(
        hosts=1, leashed=True, libvirt=False, prefix=OTHER_PREFIX
    )  # scrubs the former prefix too
    assert fresh.exec("a", ["hostname"]).stdout == "a\n"
    fresh.down(purge=True)
    nothing_left(fresh.folder)


@pytest.mark.parametrize("after_s", [0.05, 0.25, 0.45])
def test_an_interrupted_up_leaves_nothing(fresh: RackClient, after_s: float) -> None:
    program = (
        "from outlast.rack.client import RackClient\n"
        f"RackClient({str(fresh.folder)!r}).up(); print('up', flush=True)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for("its daemon starts", (fresh.folder / "rack.log").exists)
    time.sleep(after_s)
    starter.send_signal(signal.SIGINT)
    said, _ = starter.communicate(timeout=20)
    if said:  # a quick machine: there was nothing left to interrupt
        fresh.down(purge=True)
    else:
        assert starter.returncode != 0
    nothing_left(fresh.folder)


def test_a_starter_that_vanishes_takes_its_half_built_rack_along(fresh: RackClient) -> None:
    program = f"from outlast.rack.client import RackClient; RackClient({str(fresh.folder)!r}).up()"
    starter = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(SOURCE)}
    )
    wait_for("its daemon starts", (fresh.folder / "rack.log").exists)
    starter.kill()
    starter.wait()
    nothing_left(fresh.folder)


def test_a_prefix_belongs_to_one_rack(standing: RackClient, fresh: RackClient) -> None:
    with pytest.raises(Conflict, match="prefix"):
        fresh.up(hosts=1, leashed=True, libvirt=False, prefix=standing.status()["prefix"])
    assert standing.exec("a", ["hostname"]).stdout == "a\n"
    with pytest.raises(InvalidInput):
        fresh.up(hosts=99)
