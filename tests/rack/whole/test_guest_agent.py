"""A real guest agent in a real Linux guest: its sign of life, a start order that waits for it, file
systems at rest for snapshots and backups, and thawed whatever becomes of who asked.

The guest writes all the time to an ext4 of its own (outlast/rack/guest/agent.sh). A file system
that was at rest needs no recovery of its journal; one that was not does. About 50 seconds.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from evidence import BACK_S, Story

import outlast
from outlast.errors import NotFound
from outlast.rack.guest import build
from outlast.rack.lab import POOL, Lab

pytestmark = pytest.mark.rack
VM, NEXT = "linux", "after"
DATA_MIB = 16
VAULT = "/var/lib/outlast/vault"  # on each host's own disk
# it says nothing on its serial console by itself; each freeze takes a second more
CMDLINE = "console=ttyS1 quiet noshell lines=0 hook=1"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts, the Linux guest and a VM that starts after it; none is started yet."""
    folder = tmp_path_factory.mktemp("agent")
    with ThreadPoolExecutor(1) as beside, Lab(folder / "rack") as lab:
        building = beside.submit(build.build_demo, folder, agent=True)
        lab.begin(hosts=2, leashed=True)
        try:
            guest = building.result()
        except NotFound as missing:
            pytest.skip(f"{missing.sentence} ({missing.hint})")
        images = lab.pool_dir / "images"
        for file in (guest.kernel, guest.initrd):
            shutil.copy(file, images)
        run("truncate", "-s", f"{DATA_MIB}M", folder / "data.raw")
        run("mkfs.ext4", "-q", "-F", folder / "data.raw")
        run("qemu-img", "convert", "-O", "qcow2", folder / "data.raw", images / "data.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", images / "signed.qcow2", "4M")
        words = ["--kernel", guest.kernel.name, "--initrd", guest.initrd.name]
        words = [f"{POOL}/images/{w}" if w.startswith("sentinel") else w for w in words]
        words += ["--cmdline", CMDLINE, "--memory", "96MiB", "--serial-log", f"logs/{VM}.log"]
        words += ["--disk", "images/signed.qcow2", "--disk", "images/data.qcow2"]
        words += ["--use-existing", "--guest-agent", "--graphics", "none", "--ready", "agent"]
        lab.outlast(lab.hosts[0], "vm", "create", VM, *words)
        lab.create([NEXT], start=False)
        lab.outlast(lab.hosts[0], "vm", "set", NEXT, "--start-order", "1")
        yield lab


def test_its_sign_of_life_and_a_start_that_waits_for_it(lab: Lab) -> None:
    story = Story(lab)
    lab.outlast(lab.hosts[0], "vm", "start", VM, NEXT, "--no-wait")
    story.wait("start-waits", about="the agent in its system does not answer")
    assert not lab.where(NEXT)
    told = story.wait("vm-alive", about=VM, timeout_s=BACK_S)
    assert told["vm-alive"][0].endswith(": its guest agent answers")
    lab.wait(lambda: bool(lab.where(NEXT)), BACK_S, f"{NEXT} still waits")
    at_s = {(e.code, e.fields.get("vm")): e.wall_s for e in story.entries()}
    assert at_s["vm-starts", NEXT] > at_s["vm-alive", VM]
    print(told["vm-alive"][0])


def test_a_snapshot_with_file_systems_at_rest(lab: Lab, tmp_path: Path) -> None:
    disk, host, before = lab.pool_dir / "images/data.qcow2", lab.where(VM), hooks(lab)
    said = lab.outlast(host, "vm", "snapshot", "create", VM, "rest", "--quiesce", "yes")
    assert "at rest" in said
    assert hooks(lab) == [*before, "freeze", "thaw"]
    lab.outlast(host, "vm", "snapshot", "create", VM, "torn", "--quiesce", "no")
    assert hooks(lab) == [*before, "freeze", "thaw"], "it was asked although nobody wished that"
    assert at_rest(disk, tmp_path, "rest")
    assert not at_rest(disk, tmp_path, "torn"), "it was not writing at all"


def test_a_backup_with_file_systems_at_rest(lab: Lab, tmp_path: Path) -> None:
    host, before = lab.where(VM), hooks(lab)
    vault = vault_of(lab, host)
    lab.outlast(host, "vm", "backup", VM, VAULT, "--quiesce", "yes")
    assert hooks(lab) == [*before, "freeze", "thaw"]
    (made,) = vault.iterdir()
    assert at_rest(made / "disk-1.qcow2", tmp_path)


def test_a_backup_that_is_given_up_leaves_nothing_frozen(lab: Lab) -> None:
    host, before = lab.where(VM), hooks(lab)
    vault = vault_of(lab, host)
    kept = sorted(vault.iterdir())
    backup = begin(lab, host, "vm", "backup", VM, VAULT, "--quiesce", "yes", "--limit", "64KiB")
    lab.wait(lambda: hooks(lab) != before, BACK_S, "nothing is frozen")
    os.killpg(backup.pid, signal.SIGINT)  # Ctrl-C
    backup.wait(BACK_S)
    lab.wait(lambda: hooks(lab) == [*before, "freeze", "thaw"], BACK_S, "nothing is thawed")
    assert state(lab, host) == "thawed"
    lab.wait(lambda: sorted(vault.iterdir()) == kept, BACK_S, "something half made is left")


def test_an_agent_that_dies_over_a_frozen_guest_leaves_nothing_frozen(lab: Lab) -> None:
    host, before = lab.where(VM), hooks(lab)
    work = begin(lab, host, "vm", "snapshot", "create", VM, "late", "--quiesce", "yes")
    lab.wait(lambda: hooks(lab) != before, BACK_S, "nothing is frozen")
    os.kill(lab.rack.service_pid(host, "outlast-agent"), signal.SIGKILL)
    took_s = lab.wait(
        lambda: hooks(lab) == [*before, "freeze", "thaw"], BACK_S, "the next life thaws nothing"
    )
    print(f"thawed {took_s:.1f} s after its agent was killed")
    assert state(lab, host) == "thawed"
    work.wait(BACK_S)


def run(*argv: object) -> str:
    words = [str(word) for word in argv]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def begin(lab: Lab, host: str, *arguments: str) -> subprocess.Popen[bytes]:
    """An `outlast` command that goes on in a host."""
    words = [sys.executable, "-m", "outlast.cli.main", *arguments]
    env = {"PYTHONPATH": str(Path(outlast.__file__).resolve().parent.parent)}
    return lab.rack.popen(
        host, words, env=env, start_new_session=True, stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def hooks(lab: Lab) -> list[str]:
    """What the guest's agent was asked to do, by the guest's own words."""
    return re.findall(r"^HOOK (freeze|thaw) ", lab.log(VM), re.MULTILINE)


def state(lab: Lab, host: str) -> str:
    """What the guest's agent says of its file systems."""
    ask = '{"execute": "guest-fsfreeze-status"}'
    said = lab.rack.exec(host, ["virsh", "qemu-agent-command", VM, ask]).stdout
    return re.sub(r".*: *\"(\w+)\".*", r"\1", said.strip())


def at_rest(image: Path, folder: Path, snapshot: str = "") -> bool:
    """The file system in it needs no recovery."""
    raw = folder / "looked-at.raw"
    which = ["-l", f"snapshot.name={snapshot}"] if snapshot else []
    run("qemu-img", "convert", "-U", *which, "-O", "raw", image, raw)
    features = run("dumpe2fs", "-h", raw).partition("Filesystem features:")[2].partition("\n")[0]
    assert "has_journal" in features
    return "needs_recovery" not in features


def vault_of(lab: Lab, host: str) -> Path:
    """The folder for backups on a host's own disk, as this machine sees it."""
    lab.rack.exec(host, ["mkdir", "-p", VAULT])
    return next((lab.folder / host).rglob("vault"))
