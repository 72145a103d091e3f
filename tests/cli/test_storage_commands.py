"""`outlast storage mount|add|list|remove`, `vm create --on`, `vm move-disk`: the command line down
to files and registers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Outlast
from memory_service import MemoryService

from outlast.agent.server import Server
from outlast.agent.server_thread import ServerThread
from outlast.images import qemu_img
from outlast.pool.facts import Answering
from outlast.storage.posix import PosixRegister

NOW = 1 << 60


@pytest.fixture
def fast(tmp_path: Path) -> Path:
    made = tmp_path / "fast"
    made.mkdir()
    return made


@pytest.fixture
def service(outlast: Outlast, pool: Path, fast: Path, tmp_path: Path) -> Iterator[MemoryService]:
    """A pool with the storage `fast`, which answers."""
    made = MemoryService(pool)
    made.register = PosixRegister(pool, "1")  # type: ignore[assignment]
    made.answering["fast"] = Answering(NOW)
    (tmp_path / "etc").mkdir(exist_ok=True)
    (tmp_path / "etc/host.json").write_text(json.dumps({"pool_dir": str(pool), "host": "a"}))
    thread = ServerThread(Server(made, tmp_path / "run/agent.sock"))
    thread.start()
    said = outlast("storage", "add", "fast", "dir", "--path", str(fast))
    assert said.code == 0, said.err
    yield made
    thread.stop()


def good(outlast: Outlast, *words: str) -> str:
    said = outlast(*words)
    assert said.code == 0, said.err
    return said.out


def test_a_mount_is_explained_before_it_is_made(outlast: Outlast) -> None:
    words = ("storage", "mount", "nfs", "nas:/export/pool", "/srv/pool", "--dry-run")
    said = good(outlast, *words)
    assert "# srv-pool.mount" in said and "Type=nfs" in said
    assert "# hard: soft gives a write up" in said and "no_root_squash" in said
    told = json.loads(good(outlast, "--json", *words, "--option", "vers=4.1"))
    assert "vers=4.1" in told["unit"] and told["path"] == "/srv/pool"
    refused = outlast(*words, "--option", "soft")
    assert (refused.code, "still carry out" in refused.err) == (2, True)
    assert outlast("storage", "mount", "dir", "/x", "/srv/pool").code == 2


def test_a_mount_without_systemd_says_so(outlast: Outlast) -> None:
    if Path("/run/systemd/system").is_dir() or not Path("/usr/sbin/mount.glusterfs").exists():
        pytest.skip("systemd runs on this machine, or it cannot mount GlusterFS")
    said = outlast("storage", "mount", "glusterfs", "a:/v", "/srv/never")
    assert (said.code, "no systemd runs" in said.err) == (5, True)
    assert not Path("/etc/systemd/system/srv-never.mount").exists()


def test_what_there_is_and_what_is_wrong_with_it(
    outlast: Outlast, service: MemoryService, fast: Path
) -> None:
    good(outlast, "storage", "add", "far", "nfs", "nas:/export/vms", "--option", "vers=4.1")
    lines = good(outlast, "storage", "list").splitlines()
    assert lines[0].endswith("nfs nas:/export/vms at /srv/far: nothing is mounted at /srv/far")
    assert lines[1].endswith(f"{fast}: there")
    (far, near) = json.loads(good(outlast, "--json", "storage", "list"))["storage"]
    assert (far["options"], near["trouble"]) == (["vers=4.1"], "")
    shown = good(outlast, "storage", "add", "x", "nfs", "nas:/x", "--dry-run")
    assert "lookupcache=positive" in shown and "/srv/x" not in good(outlast, "storage", "list")
    assert outlast("storage", "add", "pool", "dir").code == 2
    good(outlast, "storage", "remove", "far")
    assert outlast("storage", "remove", "far").code == 3


def test_an_agent_that_is_named_is_asked_instead_of_the_directory(
    outlast: Outlast, service: MemoryService, pool: Path, fast: Path, tmp_path: Path
) -> None:
    """By somebody who is on no host: the same commands, and the same answers."""
    (tmp_path / "etc/host.json").rename(tmp_path / "etc/gone.json")
    assert outlast("storage", "list").code == 3
    agent = ("--agent", f"unix:{tmp_path / 'run/agent.sock'}")

    def both(*words: str) -> object:
        """What both doors say, which is the same."""
        far = json.loads(good(outlast, *agent, "--json", *words))
        assert far == json.loads(good(outlast, "--json", *words, "--pool", str(pool)))
        return far

    good(outlast, *agent, "storage", "add", "far", "nfs", "nas:/x", "--option", "vers=4.1")
    rows = json.loads(good(outlast, *agent, "--json", "storage", "list"))["storage"]
    assert [(row["name"], row["path"]) for row in rows] == [
        ("far", "/srv/far"),
        ("fast", str(fast)),
    ]
    assert outlast(*agent, "storage", "add", "far", "nfs", "nas:/x").code == 4
    good(outlast, *agent, "storage", "remove", "far")
    assert both("storage", "list")
    assert outlast(*agent, "storage", "remove", "far").code == 3
    made = ("network", "create", "lan", "--uplink", "none0", "--vlan", "20", "--uplink-of", "b=e1")
    good(outlast, *agent, *made)
    assert outlast(*agent, *made).code == 4
    assert outlast(*agent, "network", "create", "lan", "--mtu", "1").code == 2
    for changed in (True, False):
        said = good(outlast, *agent, "--json", "network", "set", "lan", "--vlan", "30")
        assert json.loads(said)["changed"] is changed
    (lan,) = json.loads(good(outlast, *agent, "--json", "network", "list"))["networks"]
    assert (lan["uplink"], lan["uplinks_of"], lan["vlan"]) == ("none0", ["b=e1"], 30)
    good(outlast, *agent, "network", "remove", "lan")
    assert both("network", "list") == {"host": "", "networks": []}


def test_disks_are_made_there_and_the_storage_stays_with_them(
    outlast: Outlast, service: MemoryService, fast: Path
) -> None:
    good(outlast, "vm", "create", "db", "--memory", "64MiB", "--disk", "1MiB", "--on", "fast")
    assert (fast / "db.raw").stat().st_size == 1 << 20
    qemu_img.create(fast / "old.qcow2", 1 << 20)
    good(outlast, "vm", "create", "old", "--memory", "64MiB", "--use-existing",
         "--disk", str(fast / "old.qcow2"))  # fmt: skip
    for vm in ("db", "old"):
        held = service.read_vm(vm)
        assert held is not None and held.value.spec.disks[0].repository == "fast"
    kept = outlast("storage", "remove", "fast")
    assert (kept.code, "disks of db, old" in kept.err) == (4, True)
    for wrong in ("none", "x y"):
        said = outlast("vm", "create", "x", "--memory", "64MiB", "--disk", "1MiB", "--on", wrong)
        assert said.code == 2
    service.answering["fast"] = Answering(NOW, "it hangs")
    away = outlast("vm", "create", "x", "--memory", "64MiB", "--disk", "1MiB", "--on", "fast")
    assert (away.code, "fast is away: it hangs" in away.err) == (5, True)
    assert not (fast / "x.raw").exists()
    left = good(outlast, "vm", "delete", "db", "--with-disks")
    assert "is left: the storage fast is away" in left and (fast / "db.raw").exists()


def test_a_disk_moves_there_and_back(outlast: Outlast, service: MemoryService, fast: Path) -> None:
    good(outlast, "vm", "create", "web", "--memory", "64MiB", "--disk", "images/web.qcow2=1MiB")
    moved = good(outlast, "vm", "move-disk", "web", "--to", "fast")
    assert moved == "web.qcow2 is in the storage fast now\n" and (fast / "web.qcow2").exists()
    good(outlast, "vm", "snapshot", "create", "web", "one")
    kept = outlast("vm", "move-disk", "web", "--to", "pool")
    assert (kept.code, "has snapshots" in kept.err) == (4, True)
    good(outlast, "vm", "snapshot", "remove", "web", "one")
    told = json.loads(good(outlast, "--json", "vm", "move-disk", "web", "--to", "pool"))
    assert (told["state"], (fast / "web.qcow2").exists()) == ("done", False)
    assert outlast("vm", "move-disk", "web").code == 2
    assert outlast("vm", "move-disk", "none", "--to", "fast").code == 3


def test_whole_copies_are_made_there_and_what_was_killed_is_cleaned(
    outlast: Outlast, service: MemoryService, pool: Path, fast: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source.qcow2"
    qemu_img.create(source, 1 << 20)
    good(outlast, "image", "import", "tiny", str(source))
    good(outlast, "template", "create", "tiny", "--image", "tiny", "--memory", "64MiB")
    deploy = ("template", "deploy", "tiny", "app", "--on", "fast")
    linked = outlast(*deploy)
    assert (linked.code, "--full" in linked.err) == (2, True)
    good(outlast, *deploy, "--full")
    assert {path.name for path in fast.iterdir()} >= {"app.qcow2", "app-seed.iso"}
    subprocess.run(["qemu-img", "check", "-q", fast / "app.qcow2"], check=True)
    (tmp_path / "vault").mkdir()
    good(outlast, "vm", "backup", "app", str(tmp_path / "vault"))
    (saved,) = (tmp_path / "vault").iterdir()
    good(outlast, "vm", "restore", str(saved), "--as", "again", "--on", "fast")
    assert (fast / "again.qcow2").exists()
    dead = fast / ".new-gone.01234567"
    dead.mkdir()
    (dead / "owner.json").write_text('{"host": "x", "pid": 1, "life": "x"}')
    os.utime(dead / "owner.json", (0, 0))
    assert "left over" in good(outlast, "image", "clean", "--dry-run")
    good(outlast, "image", "clean")
    assert not dead.exists() and (fast / "app.qcow2").exists()


class Breaking:
    """Hands calls on to an agent's socket, and breaks the first long one off in the middle."""

    def __init__(self, path: Path, agent: Path) -> None:
        self.agent, self.broken = agent, 0
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            near, _ = self.listening.accept()
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(self.agent))
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
                passed += len(data)
                if passed > 5 << 20 and not self.broken:
                    self.broken = passed
                    source.shutdown(socket.SHUT_RDWR)
                    target.shutdown(socket.SHUT_RDWR)
            target.shutdown(socket.SHUT_WR)


def test_an_upload_goes_on_after_its_connection_broke(
    outlast: Outlast, service: MemoryService, pool: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    file = tmp_path / "disk.raw"
    file.write_bytes(os.urandom(8 << 20))
    between = Breaking(tmp_path / "between.sock", tmp_path / "run/agent.sock")
    monkeypatch.setattr("outlast.cli.uploading.PAUSE_S", 0.1)
    told = outlast("--agent", f"unix:{tmp_path / 'between.sock'}", "image", "upload", "big",
                   str(file))  # fmt: skip
    assert told.code == 0, told.err
    assert between.broken and "the connection broke; trying again" in told.err
    assert told.out == "big is imported\n"
    (image,) = json.loads(good(outlast, "--json", "image", "list"))["images"]
    assert (image["source"], image["kind"]) == ("an upload of big", "raw")
    assert image["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    again = outlast("image", "upload", "big", str(file))
    assert (again.code, "an image 'big' already" in again.err) == (4, True)
    assert outlast("image", "upload", "x", str(tmp_path / "none")).code == 3
    (tmp_path / "page").write_text("<html>no image</html>")
    assert outlast("image", "upload", "page", str(tmp_path / "page")).code == 5
