"""Disks of VMs on real hosts: snapshots, backups, moves to another storage; and agents and hosts
that die meanwhile."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from evidence import BACK_S, Story, command
from manager_there import logged_in

sys.path.insert(0, str(Path(__file__).parents[2] / "hypervisor"))
from tiny_guest import write_disk

import outlast
from outlast.rack.lab import KERNEL, POOL, Lab

pytestmark = pytest.mark.rack
SIZE = 8 << 20
VAULT = "/var/lib/outlast/vault"  # on each host's own disk


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts, and a VM `web` with a qcow2 disk that is not started yet."""
    with Lab(tmp_path_factory.mktemp("disks")) as lab:
        lab.begin(hosts=2, leashed=True)
        disk = lab.pool_dir / "images/web.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, str(SIZE)], check=True)
        words = ["--kernel", f"{POOL}/images/{KERNEL}", "--cmdline", "ms=100", "--memory", "16MiB"]
        words += ["--disk", "images/web.qcow2", "--use-existing", "--serial-log", "logs/web.log"]
        lab.outlast(lab.hosts[0], "vm", "create", "web", *words)
        yield lab


def leased(lab: Lab) -> str:
    return lab.statuses()["web"].host


def test_the_whole_life_of_a_snapshot_and_a_backup(lab: Lab) -> None:
    a, b = lab.hosts
    lab.outlast(a, "vm", "start", "web")
    here = lab.where("web")
    there = b if here == a else a
    said = lab.outlast(there, "vm", "snapshot", "create", "web", "before")  # handed on
    assert "as after a power cut" in said
    said = lab.outlast(here, "vm", "backup", "web", vault(lab, here), "--keep", "2")
    assert said.startswith(f"web is backed up in {VAULT}/web-")
    lab.outlast(here, "vm", "kill", "web")
    story = Story(lab)
    said = lab.outlast(there, "vm", "snapshot", "revert", "web", "before")  # any host may: it lends
    assert said == "snapshot before of web is what its disks hold now\n"
    told = story.wait("disk-work", about="web")
    assert f"{there} works on the disks of web" in told["disk-work"][0]
    disk = lab.pool_dir / "images/web.qcow2"
    checked = subprocess.run(["qemu-img", "check", "-q", disk], check=False)
    assert checked.returncode in {0, 3}  # 3: clusters that nothing uses, of a QEMU that was killed
    lab.outlast(a, "vm", "start", "web")
    lab.outlast(a, "vm", "kill", "web")
    (folder,) = kept(lab, here)
    lab.outlast(here, "vm", "restore", f"{VAULT}/{folder}", "--as", "again")
    assert lab.statuses()["again"].state == "stopped"


def test_linked_clones_of_an_image_run_and_keep_their_template(lab: Lab) -> None:
    a, b = lab.hosts
    write_disk(lab.pool_dir / "tiny.img")
    lab.outlast(a, "image", "import", "tiny", f"{POOL}/tiny.img")
    lab.outlast(b, "template", "create", "tiny", "--image", "tiny", "--memory", "16MiB")
    said = lab.outlast(b, "template", "deploy", "tiny", "clone-[1-2]", "--start", timeout_s=90)
    assert len(said.splitlines()) == 2
    lab.wait(lambda: bool(lab.where("clone-1") and lab.where("clone-2")), BACK_S, "they do not run")
    here = lab.where("clone-1")
    assert "is kept" in lab.outlast(here, "vm", "snapshot", "create", "clone-1", "one")
    stays = command(lab, a, "template", "remove", "tiny")
    assert "clone-1 and clone-2 are linked clones of it" in stays.stderr
    for vm in ("clone-1", "clone-2"):
        lab.outlast(a, "vm", "delete", vm, "--force", "--with-disks")
    lab.outlast(a, "template", "remove", "tiny")


def test_a_running_vm_becomes_a_template_through_a_manager(lab: Lab, tmp_path: Path) -> None:
    """And what is made of that boots; a backup goes the same way, and a foreign domain is seen."""
    a, b = lab.hosts
    write_disk(lab.pool_dir / "images/gold.raw")
    words = ["--memory", "16MiB", "--disk", "images/gold.raw", "--use-existing"]
    lab.outlast(a, "vm", "create", "gold", *words)
    lab.outlast(a, "vm", "start", "gold")
    lab.wait(lambda: bool(lab.where("gold")), BACK_S, "it does not start")
    with logged_in(lab, a, tmp_path) as anna:
        said = anna("template", "create", "golden", "--from", "gold", "--limit", "none")
        assert "golden" in said and lab.statuses()["gold"].state == "running"
        anna("template", "deploy", "golden", "made", "--no-cloud-init", "--start")
        lab.wait(lambda: bool(lab.where("made")), BACK_S, "what is made of it does not start")
        assert "tick" in heard(lab, lab.where("made"), "made"), "it does not boot"
        vault(lab, lab.where("gold"))
        assert f"gold is backed up in {VAULT}" in anna("vm", "backup", "gold", VAULT)
        assert json.loads(anna("--json", "vm", "adopt", "--host", b)) == []
    for vm in ("made", "gold"):
        lab.outlast(a, "vm", "delete", vm, "--force", "--with-disks")
    lab.outlast(a, "template", "remove", "golden")


def heard(lab: Lab, host: str, vm: str) -> str:
    """What a VM says on its console, until it has said that it runs."""
    words = [sys.executable, "-m", "outlast.cli.main", "vm", "console", vm]
    source = str(Path(outlast.__file__).resolve().parent.parent)
    line = lab.rack.popen(
        host, words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONPATH": source}
    )
    said, until = b"", time.monotonic() + BACK_S
    assert line.stdout is not None
    while b"tick" not in said and time.monotonic() < until:
        if select.select([line.stdout], [], [], 1)[0]:
            said += os.read(line.stdout.fileno(), 4096)
    line.kill()
    line.communicate()
    return said.decode(errors="replace")


def test_an_agent_that_dies_over_a_disk_leaves_no_writer_and_no_lease(lab: Lab) -> None:
    """The VM is wanted meanwhile; it starts when, and only when, the work is certainly over."""
    a, b = lab.hosts
    before, disk = kept(lab, a), lab.pool_dir / "images/web.qcow2"
    pattern = ["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 6M", str(disk)]
    subprocess.run(pattern, check=True, capture_output=True)
    slow = ["outlast.cli.main", "vm", "backup", "web", vault(lab, a), "--limit", "64KiB"]
    backup = lab.rack.popen(
        a, [sys.executable, "-m", *slow], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    lab.wait(lambda: leased(lab) == a, BACK_S, "the lease of web is not held")
    lab.wait(lambda: copying(lab, a) > 0, BACK_S, "nothing is being copied")
    lab.client(b).start("web")
    words = f"{a} works on its disks (a backup); it starts after that"
    lab.wait(
        lambda: lab.statuses()["web"].sentence == words, BACK_S, "it does not say why it waits"
    )
    assert lab.where("web") == ""
    os.kill(lab.rack.service_pid(a, "outlast-agent"), signal.SIGKILL)
    lab.wait(lambda: lab.where("web") != "", BACK_S, "web does not start after that")
    assert copying(lab, a) == 0
    backup.kill()
    backup.wait()
    lab.wait_running(["web"])
    assert kept(lab, a) == before


def test_a_disk_moves_while_its_vm_writes_and_whatever_dies_it_is_whole(lab: Lab) -> None:
    first, second = lab.pool_dir / "images/diary.raw", lab.pool_dir / "second/diary.raw"
    second.parent.mkdir()
    lab.outlast(lab.hosts[0], "storage", "add", "second", "dir", "--path", f"{POOL}/second")
    lab.create(["diary"])
    lab.wait_running(["diary"])
    here, pid = lab.processes()["diary"][0]
    move = ("vm", "move-disk", "diary", "--to")
    lab.wait(
        lambda: command(lab, here, *move, "second").returncode == 0, BACK_S, "it does not move"
    )
    assert lab.processes()["diary"] == [(here, pid)], "it was not the same QEMU all the time"
    assert not first.exists() and lab.verdict("diary", second).sound
    wrote = lab.verdict("diary", second).acknowledged

    begin_to_move(lab, here, first)
    os.kill(lab.rack.service_pid(here, "outlast-agent"), signal.SIGKILL)
    lab.wait(lambda: not first.exists(), BACK_S, "what is left of the move is not cleaned up")
    lab.wait(lambda: lab.verdict("diary", second).acknowledged > wrote, BACK_S, "it does not write")
    assert lab.processes()["diary"] == [(here, pid)], "it was not the same QEMU all the time"

    lab.wait_members(lab.hosts)
    begin_to_move(lab, here, first)
    lab.rack.power(here, "off")
    lab.wait(lambda: lab.where("diary") not in {"", here}, 60, "nobody takes it over")
    lab.wait(lambda: not first.exists(), BACK_S, "what is left of the move is not cleaned up")
    assert lab.verdict("diary", second).sound
    lab.rack.power(here, "on")
    lab.wait_members(lab.hosts)


def begin_to_move(lab: Lab, host: str, target: Path) -> None:
    """The disk of `diary` is on its way back to the pool's own storage when this returns."""
    slow = ["vm", "move-disk", "diary", "--to", "pool", "--limit", "256KiB"]
    words = [sys.executable, "-m", "outlast.cli.main", *slow]
    lab.rack.popen(host, words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    lab.wait(
        lambda: target.exists() and target.stat().st_blocks > 0, BACK_S, "nothing is being copied"
    )


def vault(lab: Lab, host: str) -> str:
    lab.rack.exec(host, ["mkdir", "-p", VAULT])
    return VAULT


def kept(lab: Lab, host: str) -> list[str]:
    """Whole backups in a host's vault."""
    return lab.rack.exec(host, ["ls", VAULT]).stdout.split()


def copying(lab: Lab, host: str) -> int:
    """How many programs copy disks in a host."""
    count = 0
    for pid in lab.rack.pids(host):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        count += line[0].endswith(b"qemu-img") and b"convert" in line
    return count
