"""`outlast vm snapshot`, `backup`, `restore`, `export`: the command line down to the files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Outlast
from memory_service import MemoryService

from outlast.agent.server import Server
from outlast.agent.server_thread import ServerThread
from outlast.images import backups, qemu_img
from outlast.images.pace import CRAWL_BYTES_S, QemuCopy, tell_share
from outlast.images.share import Share
from outlast.storage.posix import PosixRegister
from outlast.wire.backups import BackupClient, RestoreWish
from outlast.wire.client import AgentClient

SIZE = 4 << 20
FIRST = QemuCopy(0, print).first_bytes_s  # copies that a VM's own QEMU makes begin slowly


def fill(disk: Path | str, pattern: int) -> None:
    command = ["qemu-io", "-f", "qcow2", "-c", f"write -P {pattern} 0 64k", str(disk)]
    subprocess.run(command, check=True, capture_output=True)


def holds(disk: Path | str, pattern: int) -> bool:
    command = ["qemu-io", "-f", "qcow2", "-c", f"read -P {pattern} 0 64k", str(disk)]
    said = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    return "verification failed" not in said


@pytest.fixture
def web(outlast: Outlast, pool: Path, tmp_path: Path) -> Iterator[MemoryService]:
    """A stopped VM `web` with two qcow2 disks and a seed; the first holds sevens."""
    service = MemoryService(pool)
    service.register = PosixRegister(pool, "1")  # type: ignore[assignment]
    thread = ServerThread(Server(service, tmp_path / "run/agent.sock"))
    thread.start()
    for name in ("web.qcow2", "web-2.qcow2"):
        qemu_img.create(pool / "images" / name, SIZE)
    (pool / "images/web-seed.iso").write_bytes(os.urandom(4096))
    fill(pool / "images/web.qcow2", 7)
    disks = [f"images/{name}" for name in ("web.qcow2", "web-2.qcow2", "web-seed.iso")]
    words = [word for disk in disks for word in ("--disk", disk)]
    words += ["--guest-agent", "--watchdog", "reset"]
    said = outlast("vm", "create", "web", "--memory", "64MiB", "--use-existing", *words)
    assert said.code == 0
    yield service
    thread.stop()


def snapshot(outlast: Outlast, *words: str) -> str:
    said = outlast("vm", "snapshot", *words)
    assert said.code == 0, said.err
    return said.out


def test_a_stopped_vm_goes_back_to_what_it_was(
    outlast: Outlast, pool: Path, web: MemoryService
) -> None:
    disk = pool / "images/web.qcow2"
    assert "has no snapshots" in snapshot(outlast, "list", "web")
    said = snapshot(outlast, "create", "web", "before")
    assert said == "snapshot before of web is kept; the VM is stopped, so it is complete\n"
    fill(disk, 8)
    assert outlast("vm", "snapshot", "create", "web", "before").code == 4
    snapshot(outlast, "create", "web", "after")
    names = [one["name"] for one in outlast("vm", "snapshot", "list", "web", "--json").json]
    assert names == ["after", "before"] or names == ["before", "after"]
    snapshot(outlast, "revert", "web", "before")
    assert holds(disk, 7)
    snapshot(outlast, "revert", "web", "after")
    assert holds(disk, 8)
    snapshot(outlast, "remove", "web", "before")
    assert "before" not in snapshot(outlast, "list", "web")
    assert outlast("vm", "snapshot", "remove", "web", "before").code == 3
    assert outlast("vm", "snapshot", "revert", "web", "before").code == 3
    assert not web.leases["web"].value.held
    subprocess.run(["qemu-img", "check", disk], check=True, capture_output=True)


def test_a_running_vm_is_asked_itself(outlast: Outlast, web: MemoryService) -> None:
    assert outlast("vm", "start", "web").code == 0
    assert "as after a power cut" in snapshot(outlast, "create", "web", "one")
    refused = outlast("vm", "snapshot", "create", "web", "two", "--quiesce", "yes")
    assert (refused.code, "no guest agent answers" in refused.err) == (4, True)
    web.disks.answers = True
    assert "were at rest" in snapshot(outlast, "create", "web", "two", "--quiesce", "yes")
    snapshot(outlast, "create", "web", "three", "--quiesce", "no")
    assert not web.disks.frozen
    refused = outlast("vm", "snapshot", "revert", "web", "one")
    assert (refused.code, "'web' shall run" in refused.err) == (4, True)
    snapshot(outlast, "remove", "web", "one")
    assert web.disks.done == ["snapshot one", "snapshot two frozen", "snapshot three", "drop one"]


def test_what_is_on_another_host_or_raw_is_refused(
    outlast: Outlast, pool: Path, web: MemoryService
) -> None:
    web.hold("web", 2)
    said = outlast("vm", "snapshot", "create", "web", "one")
    assert (said.code, "'web' is on b, which alone may touch its disks" in said.err) == (4, True)
    said = outlast("vm", "backup", "web", str(pool.parent))
    assert said.code == 4
    assert outlast("vm", "create", "old", "--memory", "64MiB", "--disk", "1MiB").code == 0
    said = outlast("vm", "snapshot", "create", "old", "one")
    assert (said.code, "only qcow2 disks keep snapshots" in said.err) == (4, True)
    assert outlast("vm", "snapshot", "create", "none", "one").code == 3
    assert outlast("vm", "snapshot", "create", "web", "No Name").code == 2
    assert outlast("vm", "snapshot", "create", "web", "x", "--quiesce", "maybe").code == 2


def test_a_snapshot_that_fails_on_the_second_disk_is_taken_back(
    outlast: Outlast, pool: Path, web: MemoryService
) -> None:
    (pool / "images/web-2.qcow2").write_bytes(b"QFI\xfbdamaged")
    said = outlast("vm", "snapshot", "create", "web", "one")
    assert said.code == 2
    assert "snapshots" not in qemu_img.info(pool / "images/web.qcow2", "qcow2")
    assert not web.leases.get("web") or not web.leases["web"].value.held


@pytest.mark.parametrize("runs", [False, True])
def test_a_vm_becomes_a_template_and_stays_as_it_is(
    outlast: Outlast, pool: Path, web: MemoryService, runs: bool
) -> None:
    """Running or stopped; its seed stays behind, and what it writes later."""
    if runs:
        assert outlast("vm", "start", "web").code == 0
    said = outlast("template", "create", "gold", "--from", "web", "--limit", "none")
    power_cut = ", as after a power cut (no guest agent answered)" if runs else ""
    assert said.out == (
        f"the template gold is made of web{power_cut}; use it: outlast template deploy gold NAME\n"
    )
    assert web.disks.done[:1] == ([f"backup {FIRST}"] if runs else [])
    assert bool(web.leases.get("web") and web.leases["web"].value.held) is runs
    folder = pool / "images/templates/gold"
    assert sorted(path.name for path in folder.iterdir()) == [
        "disk-0.qcow2", "disk-1.qcow2", "template.json",
    ]  # fmt: skip
    fill(pool / "images/web.qcow2", 8)
    assert holds(folder / "disk-0.qcow2", 7)
    assert outlast("template", "deploy", "gold", "two", "--pool", str(pool)).code == 0
    assert holds(pool / "images/two.qcow2", 7)
    again = outlast("template", "create", "gold", "--from", "web")
    assert (again.code, "there is a template 'gold' already" in again.err) == (4, True)


def test_a_template_that_needs_file_systems_at_rest_says_when_nobody_answers(
    outlast: Outlast, pool: Path, web: MemoryService
) -> None:
    assert outlast("vm", "start", "web").code == 0
    words = ("template", "create", "gold", "--from", "web", "--quiesce", "yes", "--limit", "none")
    said = outlast(*words)
    assert (said.code != 0, "no guest agent answers inside 'web'" in said.err) == (True, True)
    assert list((pool / "images/templates").iterdir()) == []
    web.disks.answers = True
    assert outlast(*words).out.startswith("the template gold is made of web; use it")
    assert (web.disks.done[0], web.disks.frozen) == (f"backup {FIRST} frozen", False)


def backed_up(outlast: Outlast, folder: Path, *words: str) -> Path:
    said = outlast("vm", "backup", "web", str(folder), "--limit", "none", *words)
    assert said.code == 0, said.err
    return Path(said.out.splitlines()[0].removeprefix("web is backed up in ").partition(" on ")[0])


@pytest.mark.parametrize("runs", [False, True])
def test_a_backup_comes_back_as_a_new_vm(
    outlast: Outlast, pool: Path, web: MemoryService, tmp_path: Path, runs: bool
) -> None:
    if runs:
        assert outlast("vm", "start", "web").code == 0
    vault = tmp_path / "vault"
    vault.mkdir()
    folder = backed_up(outlast, vault)
    assert sorted(p.name for p in folder.iterdir()) == [
        "disk-0.qcow2", "disk-1.qcow2", "disk-2.qcow2", "vm.json",
    ]  # fmt: skip
    saved = backups.read(folder)
    assert (saved.running, saved.quiesced, saved.by_host) == (runs, not runs, "a")
    at = ("--limit", "none")
    said = outlast("vm", "restore", str(folder), "--as", "web-again", *at)
    assert said.out.startswith("web-again is created from a backup of web; start it")
    held = web.read_vm("web-again")
    assert held is not None
    assert [Path(disk.path).name for disk in held.value.spec.disks] == [
        "web-again.qcow2", "web-again-2.qcow2", "web-again-seed.iso",
    ]  # fmt: skip
    seeds = [Path(one.spec.disks[2].path).read_bytes() for one in (saved.record, held.value)]
    assert seeds[0] == seeds[1]
    assert holds(held.value.spec.disks[0].path, 7)
    assert (held.value.spec.agent_channel, held.value.spec.watchdog) == (True, "reset")
    taken = outlast("vm", "restore", str(folder), *at)
    assert (taken.code, "exists already" in taken.err) == (4, True)
    assert "--as names the new VM" in outlast("vm", "restore", str(vault), *at).err
    assert outlast("vm", "restore", str(vault), "--as", "x", *at).code == 3
    (folder / "disk-1.qcow2").unlink()
    broken = outlast("vm", "restore", str(folder), "--as", "third", *at)
    assert (broken.code, "disk-1.qcow2 is missing" in broken.err) == (5, True)


def test_a_restore_that_is_given_up_leaves_nothing(
    outlast: Outlast, pool: Path, web: MemoryService, tmp_path: Path
) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    folder = str(backed_up(outlast, vault))
    backups = BackupClient(AgentClient(f"unix:{tmp_path}/run/agent.sock"))
    assert outlast("vm", "restore", "--cancel", "--as", "third").code == 3
    backups.restore("third", RestoreWish(folder=folder, rate_bytes_s=1024))
    assert outlast("vm", "restore", "--cancel", "--as", "third").out == "third is not made\n"
    until = time.monotonic() + 30
    while backups.restoring("third").state == "running":
        assert time.monotonic() < until
        time.sleep(0.02)
    assert "broken off by wish" in backups.restoring("third").sentence
    assert [path for path in (pool / "images").iterdir() if "third" in path.name] == []
    assert outlast("vm", "restore", folder, "--as", "third", "--limit", "none").code == 0


def test_older_backups_go_when_the_new_one_is_whole(
    outlast: Outlast, web: MemoryService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = tmp_path / "vault"
    (vault / "web-of-lies").mkdir(parents=True)
    now = [1_800_000_000.0]
    monkeypatch.setattr("outlast.images.backups.time.gmtime", lambda _: time.localtime(now[0]))
    made = []
    for _ in range(3):
        now[0] += 86400
        made.append(backed_up(outlast, vault, "--keep", "2"))
    assert sorted(vault.iterdir()) == sorted([*made[1:], vault / "web-of-lies"])


def test_a_full_vault_is_told_and_the_old_backups_stay(
    outlast: Outlast, pool: Path, web: MemoryService, small: object
) -> None:
    vault = small("size=3m")  # type: ignore[operator]
    folder = backed_up(outlast, vault)
    disk = pool / "images/web.qcow2"
    command = ["qemu-io", "-f", "qcow2", "-c", "write -P 9 0 4M", str(disk)]
    subprocess.run(command, check=True, capture_output=True)
    said = outlast("vm", "backup", "web", str(vault), "--keep", "1", "--limit", "none")
    assert (said.code, "are needed, there is room for" in said.err) == (5, True)
    assert list(vault.iterdir()) == [folder]


@pytest.mark.parametrize("where", ["/no/such/folder", "images"])
def test_a_place_that_is_none(outlast: Outlast, pool: Path, web: MemoryService, where: str) -> None:
    said = outlast("vm", "backup", "web", str(pool / where))
    assert said.code in {2, 3}
    assert "there is no folder" in said.err or "would be lost with it" in said.err


@pytest.mark.parametrize("by", ["ctrl-c", "--cancel"])
def test_a_backup_is_broken_off(
    outlast: Outlast, web: MemoryService, tmp_path: Path, by: str
) -> None:
    assert outlast("vm", "start", "web").code == 0
    web.disks.holds = True
    vault = tmp_path / "vault"
    vault.mkdir()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    words = [sys.executable, "-m", "outlast.cli.main", "vm", "backup", "web", str(vault)]
    program = subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True)
    seen = threading.Event()

    def read() -> None:
        assert program.stderr is not None
        for line in program.stderr:
            if "copying the disks of web while it runs 75 %" in line:
                seen.set()

    threading.Thread(target=read, daemon=True).start()
    assert seen.wait(20)
    again = outlast("vm", "backup", "web", str(vault))
    assert (again.code, "is under way already" in again.err) == (4, True)
    until = time.monotonic() + 30
    while web.disks.done[-1] != f"limit {CRAWL_BYTES_S}":  # while beats are late
        assert time.monotonic() < until
        tell_share(Share(0.0))
        time.sleep(0.02)
    if by == "ctrl-c":
        program.send_signal(signal.SIGINT)
        assert program.wait(60) == 130
    else:
        assert outlast("vm", "backup", "web", by).out == "the backup of web is broken off\n"
        assert program.wait(60) == 5
    until = time.monotonic() + 10
    while any(vault.iterdir()):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_an_export_is_a_file_for_others(
    outlast: Outlast, web: MemoryService, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    how = ("--format", "raw", "--limit", "none")
    said = outlast("vm", "export", "web", str(out / "web.img"), *how)
    assert said.code == 0, said.err
    assert sorted(p.name for p in out.iterdir()) == ["web-2.img", "web-3.img", "web.img"]
    assert (out / "web.img").read_bytes()[: 64 << 10] == b"\7" * (64 << 10)
    assert outlast("vm", "export", "web", str(out / "web.img")).code == 4
    assert outlast("vm", "export", "web", str(out / "x"), "--format", "vhd").code == 2


def test_a_description_that_leads_elsewhere_is_refused(
    outlast: Outlast, pool: Path, web: MemoryService, tmp_path: Path
) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    folder = backed_up(outlast, vault)
    about = json.loads((folder / "vm.json").read_text())
    about["disks"][0]["file"] = "../../../etc/shadow"
    (folder / "vm.json").write_text(json.dumps(about))
    said = outlast("vm", "restore", str(folder), "--as", "x")
    assert (said.code, "is damaged" in said.err) == (5, True)


def test_a_disk_that_leads_elsewhere_is_refused(
    outlast: Outlast, web: MemoryService, tmp_path: Path
) -> None:
    """Others may write where backups lie."""
    vault, secret = tmp_path / "vault", tmp_path / "secret"
    vault.mkdir()
    secret.write_bytes(b"of the host" * 500)
    folder = backed_up(outlast, vault)
    (folder / "disk-0.qcow2").unlink()
    over = ["-b", str(secret), "-F", "raw", str(folder / "disk-0.qcow2")]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *over], check=True)
    said = outlast("vm", "restore", str(folder), "--as", "x")
    assert (said.code, "only what changed against another image" in said.err) == (2, True)


def test_backups_by_themselves_are_set_shown_and_removed(
    outlast: Outlast, pool: Path, web: MemoryService, tmp_path: Path
) -> None:
    where = ("--pool", str(pool))
    words = ("vm", "schedule", "set", "web", "--to", "/mnt/backup", *where)
    said = outlast(*words, "--at", "03:00", "--keep", "3")
    assert said.out == "web: backed up every day at 03:00 to /mnt/backup, 3 are kept\n", said.err
    assert "at 03:00" in outlast("vm", "schedule", "list", *where).out
    assert outlast(*words, "--every", "6h").code == 0
    (one,) = json.loads(outlast("--json", "vm", "schedule", "list", *where).out)["schedules"]
    assert (one["at"], one["every_s"], one["keep"]) == ("", 6 * 3600, 7)
    for wrong in ((), ("--at", "03:00", "--every", "6h"), ("--at", "3"), ("--every", "1m")):
        assert outlast(*words, *wrong).code == 2
    assert outlast(*words, "--at", "03:00", "--quiesce", "maybe").code == 2
    missing = ("vm", "schedule", "set", "none", "--to", "/x", "--at", "03:00", *where)
    assert outlast(*missing).code == 3
    assert outlast("vm", "schedule", "remove", "web", *where).code == 0
    assert "nothing is backed up" in outlast("vm", "schedule", "list", *where).out
