"""Work on disks that is asked for at one host is done by the one that holds the VM's lease."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from test_server import Host, hosts, person, pool

from outlast.errors import Conflict, NotFound, Refused, Unreachable
from outlast.wire.client import AgentClient
from outlast.wire.disk_client import DiskClient
from outlast.wire.disks import BackupWish, SnapshotWish
from outlast.wire.shapes import VmCreate, make

__all__ = ["hosts", "pool"]  # fixtures


def test_work_on_disks_is_handed_on_to_the_host_of_the_vm(
    hosts: dict[str, Host], tmp_path: Path, pool: Path, monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    a, b = hosts["a"], hosts["b"]
    a.client.create(make(VmCreate, name="web", memory="64MiB",
                         disks=[{"path": "images/web.qcow2", "size": "1M"}]))  # fmt: skip
    a.client.start("web")
    b.service.run("web")
    disks = DiskClient(a.client)
    assert disks.snapshot("web", SnapshotWish(name="one")).name == "one"
    assert b.service.disks.done == ["snapshot one"] and a.service.disks.done == []
    with pytest.raises(Conflict, match="'one' already"):
        disks.snapshot("web", SnapshotWish(name="one"))
    wish = BackupWish(folder=str(tmp_path_factory.mktemp("vault")))
    with pytest.raises(Conflict, match="'web' is on b"):
        disks.backup("web", wish, here=True)
    disks.backup("web", wish)
    until = time.monotonic() + 20
    while disks.backup_status("web").state == "running":
        assert time.monotonic() < until
        time.sleep(0.05)
    assert disks.backup_status("web").sentence.endswith("on b")
    disks.forget("web", "one")
    person(tmp_path, pool, "host", monkeypatch)
    stranger = DiskClient(AgentClient(b.url))
    with pytest.raises(Refused, match="may not POST"):
        stranger.revert("web", "one")

    hosts.pop("b").thread.stop()
    with pytest.raises(Unreachable, match="agent of b"):
        disks.snapshot("web", SnapshotWish(name="two"))


def test_what_was_done_while_it_stood_still_is_known_after_its_start(
    hosts: dict[str, Host], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also when it runs elsewhere by then, where nothing is known of it."""
    a, b = hosts["a"], hosts["b"]
    a.client.create(make(VmCreate, name="web", memory="64MiB",
                         disks=[{"path": "images/web.qcow2", "size": "1M"}]))  # fmt: skip
    disks = DiskClient(a.client)
    disks.backup("web", BackupWish(folder=str(tmp_path_factory.mktemp("vault"))))
    until = time.monotonic() + 30
    while disks.backup_status("web").state == "running":
        assert time.monotonic() < until
        time.sleep(0.05)
    a.client.start("web")
    b.service.run("web")
    assert disks.backup_status("web").sentence.endswith("on a")
    with pytest.raises(NotFound):
        DiskClient(b.client).backup_status("web")
