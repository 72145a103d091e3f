"""Bad input and trouble with hosts, their hypervisors and single VMs, on real parts.

About 75 seconds.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
from evidence import T_DEAD_S, Lives, Story, boots, command, victims, wait_back

from outlast.errors import NotFound
from outlast.rack.lab import KERNEL, POOL, Lab

pytestmark = pytest.mark.rack


# ---- commands that are refused


def test_a_second_pool_in_the_same_directory(lab: Lab) -> None:
    said = command(lab, "b", "pool", "init", POOL, "--name", "other", "--lab")
    assert said.returncode == 4
    assert f"{POOL} already holds the pool 'demo'" in said.stderr
    assert "join it, or take another directory" in said.stderr


def test_a_host_that_joins_twice(lab: Lab) -> None:
    join = ("host", "join", POOL, "--name", "b", "--address", "10.90.0.2", "--no-wait")
    said = command(lab, "b", *join)
    assert said.returncode == 4
    assert "has already joined as host 'b', slot 2" in said.stderr

    lab.rack.exec("b", ["mv", "/etc/outlast/host.json", "/etc/outlast/aside"])
    try:
        said = command(lab, "b", *join)
        assert said.returncode == 4
        assert "host 'b' (slot 2) is alive: its block changes" in said.stderr
        taken = ("host", "join", POOL, "--name", "c", "--address", "10.90.0.2", "--no-wait")
        said = command(lab, "b", *taken)
        assert said.returncode == 4
        assert "this machine is already host 'b'" in said.stderr
    finally:
        lab.rack.exec("b", ["mv", "/etc/outlast/aside", "/etc/outlast/host.json"])


def test_a_clock_far_off_is_told_before_joining(lab: Lab) -> None:
    """The machine's clock is everybody's here, so the check itself is given another one."""
    program = (
        "import sys, time; from pathlib import Path; from outlast.cli.machine import check_clock\n"
        "from outlast.errors import OutlastError\n"
        "try: print(check_clock(Path('/srv/pool'), time.time() + float(sys.argv[1])))\n"
        "except OutlastError as error: print(error.sentence, '-', error.hint)\n"
    )
    python = [sys.executable, "-c", program]
    far = lab.rack.exec("a", [*python, "3600"]).stdout
    assert "clock is 3600 s ahead of the storage's" in far
    assert "time synchronisation" in far
    near = lab.rack.exec("a", [*python, "5"]).stdout
    assert abs(float(near) - 5) < 2
    assert not list((lab.pool_dir / "tmp").glob("clock-*"))


# ---- VMs that cannot start


def test_a_missing_image_holds_the_vm_down(lab: Lab) -> None:
    name = "bare"
    lab.create([name])
    lab.wait_running([name])
    lab.client().kill(name)
    lab.wait(lambda: lab.statuses()[name].state == "stopped", 15, f"{name} does not stop")
    image = lab.pool_dir / "images" / f"{name}.raw"
    aside = image.rename(image.with_suffix(".aside"))
    story = Story(lab)
    lab.client().start(name)
    lab.wait(lambda: lab.statuses()[name].state == "down", 15, f"{name} is not held down")
    status = lab.statuses()[name]
    assert f"{POOL}/images/{name}.raw is not there" in status.held_down
    assert status.held_down in status.sentence
    assert len(story.wait("held-down", about=name)["start-failed"]) == 1, "tried again in vain"

    aside.rename(image)
    lab.client().start(name)
    lab.wait_running([name])
    forget(lab, name)


def test_an_image_locked_by_a_foreign_process(lab: Lab) -> None:
    name = "locked"
    lab.create([name], start=False)
    drive = f"file={POOL}/images/{name}.raw,format=raw,if=virtio"
    argv = ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-drive", drive]
    story = Story(lab)
    foreign = lab.rack.popen("c", argv)
    try:
        lab.wait(lambda: _holds(lab, "c", drive), 10, "the foreign QEMU did not start")
        lab.client().start(name)
        story.wait("start-locked", about=name)
        time.sleep(1)
        assert lab.statuses()[name].state == "starting"
        assert lab.boots(name) == 0, "a QEMU without the lock ran its VM"
        assert "held-down" not in story.codes(), "a lock is waited for, whoever holds it"
        assert len(story.codes()["start-locked"]) == 1
    finally:
        for pid in lab.rack.pids("c"):
            if drive.encode() in _command_line(pid):
                os.kill(pid, signal.SIGKILL)
        foreign.wait(10)
    lab.wait_running([name], 15)
    forget(lab, name)


def _command_line(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _holds(lab: Lab, host: str, drive: str) -> bool:
    return any(
        drive.encode() in _command_line(pid) and b"qemu" in _command_line(pid).split(b"\0")[0]
        for pid in lab.rack.pids(host)
    )


# ---- what is done behind the pool's back


def test_a_vm_started_behind_its_back_is_refused(lab: Lab) -> None:
    here = lab.where("vm1")
    there = next(h for h in lab.hosts if h != here)
    before = boots(lab)
    xml = lab.rack.exec(here, ["virsh", "dumpxml", "vm1"]).stdout
    with Lives(lab) as lives:
        lab.rack.exec(there, ["tee", "/tmp/vm1.xml"], input=xml)
        said = lab.rack.exec(there, ["virsh", "create", "/tmp/vm1.xml"])
        assert said.returncode
        log = lab.rack.exec(there, ["cat", "/var/log/libvirt/qemu/vm1.log"]).stdout
        assert "Outlast does not let VM vm1 start on this host" in said.stderr + log
        assert not lives.overlaps()
    assert boots(lab) == before


def test_virsh_destroy_behind_its_back_is_mended(lab: Lab) -> None:
    host, story = lab.where("vm2"), Story(lab)
    before = boots(lab, ["vm2"])
    with Lives(lab) as lives:
        assert lab.rack.exec(host, ["virsh", "destroy", "vm2"]).returncode == 0
        print(f"back after {wait_back(lab, before):.2f} s")
        assert [life.host for life in lives.of("vm2")] == [host, host]
        assert not lives.overlaps()
    story.wait("vm-crashed", "vm-starts", "vm-runs", about="vm2")


# ---- its own disk

VAR = "/var/lib/outlast"
SMALL_AND_FULL = f"""set -e
rm -rf /tmp/var && cp -a {VAR} /tmp/var
mount -t tmpfs -o size=2m outlast-test {VAR} && cp -a /tmp/var/. {VAR}
dd if=/dev/zero of={VAR}/ballast bs=4k 2>/dev/null || true
"""
LARGE_AGAIN = f"cp -a {VAR}/. /tmp/var; umount -l {VAR}; cp -a /tmp/var/. {VAR}"


def test_a_host_whose_own_disk_is_full_says_so_and_goes_on(lab: Lab) -> None:
    """Its beats, VMs and wishes go on, and an agent that begins just then works too."""
    host, story, before = lab.where("vm1"), Story(lab), boots(lab)
    assert lab.rack.exec(host, ["sh", "-c", SMALL_AND_FULL]).returncode == 0
    try:
        story.wait("record-waits", about=f"{host} cannot write", timeout_s=40)
        os.kill(lab.rack.service_pid(host, "outlast-agent"), signal.SIGKILL)
        story.wait("agent-started", "member", about=host, timeout_s=40)
        lab.wait_running(lab.vms, 40)
        assert boots(lab) == before, "VMs run on"
        lab.kill_qemu("vm1")
        wait_back(lab, {"vm1": before["vm1"]})
        assert lab.where("vm1") == host, "it is started again where it was"
    finally:
        lab.rack.exec(host, ["rm", f"{VAR}/ballast"])
    story.wait("record-back", about=host, timeout_s=40)
    assert lab.rack.exec(host, ["sh", "-c", LARGE_AGAIN]).returncode == 0


# ---- libvirtd


def test_libvirtd_absent_when_the_agent_starts(lab: Lab) -> None:
    host = next(h for h in lab.hosts if victims(lab, h))
    here, before = victims(lab, host), boots(lab)
    binary = lab.rack.exec(host, ["sh", "-c", "command -v libvirtd"]).stdout.strip()
    assert lab.rack.exec(host, ["mount", "--bind", "/bin/false", binary]).returncode == 0
    try:
        for service in ("libvirtd", "outlast-agent"):
            os.kill(lab.rack.service_pid(host, service), signal.SIGKILL)
        lab.wait(lambda: "its hypervisor does not answer" in own_sentence(lab, host), 20,
                 "the agent does not say that libvirt is away")  # fmt: skip
        lab.wait(lambda: all(lab.statuses()[vm].state == "unconfirmed" for vm in here), 10,
                 f"of {', '.join(here)} more is said than is known")  # fmt: skip
        assert "its hypervisor does not answer" in lab.statuses()[here[0]].sentence
        time.sleep(T_DEAD_S)
        assert boots(lab) == before, "VMs run on without libvirtd"
        assert victims(lab, host) == here
    finally:
        assert lab.rack.exec(host, ["umount", binary]).returncode == 0
    lab.wait_running(lab.vms, 20)
    assert own_sentence(lab, host) == f"{host} is a member"
    assert boots(lab) == before
    # and it is of use again: an end is noticed, a start is carried out
    lab.kill_qemu(here[0])
    wait_back(lab, {here[0]: before[here[0]]})
    assert lab.where(here[0]) == host


def own_sentence(lab: Lab, host: str) -> str:
    found = (h.sentence for h in lab.client(host).status().hosts if h.name == host)
    return next(found, "")  # an agent that has just begun knows nothing yet


def test_unknown_and_malformed_things_are_refused_in_words(lab: Lab) -> None:
    cases = {
        ("vm", "start", "nobody"): (3, "there is no VM 'nobody'"),
        ("vm", "start", "No Body"): (2, "VM name"),
        ("vm", "create", "x", "--memory", "12 apples"): (2, "memory"),
        ("vm", "create", "vm1", "--memory", "8MiB"): (4, "there is a VM 'vm1' already"),
        ("vm", "create", "x", "--memory", "8MiB", "--kernel", "/etc/passwd"): (2, "storage"),
        ("vm", "create", "x", "--memory", "8MiB", "--kernel", f"{POOL}/secret"): (2, "itself"),
    }
    for arguments, (code, words) in cases.items():
        said = command(lab, "a", *arguments)
        assert (said.returncode, words in said.stderr) == (code, True), (arguments, said.stderr)
        assert "Traceback" not in said.stderr
    assert "x" not in lab.statuses()
    assert (lab.pool_dir / "images" / KERNEL).exists()


def forget(lab: Lab, name: str) -> None:
    """Delete a VM with its disk, so that the ledger need not judge it."""
    lab.client().kill(name)
    lab.wait(lambda: lab.statuses()[name].state == "stopped", 15, f"{name} does not stop")
    lab.client().delete(name, with_disks=True)
    lab.vms.remove(name)
    with pytest.raises(NotFound):
        lab.client().start(name)
