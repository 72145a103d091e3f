"""Trouble with what is on the pool's storage: full, read-only, unmounted, garbage.

The pool lies on a small file system of its own, so that it can really be full. About 60 seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from evidence import (
    BEAT_S,
    FENCE_S,
    GRACE_S,
    KILL_S,
    T_DEAD_S,
    Lives,
    Story,
    boots,
    boottime_s,
    command,
    settle,
    victims,
    wait_back,
)  # fmt: skip

from outlast.errors import OutlastError, StorageTrouble
from outlast.rack.lab import POOL, Lab
from outlast.storage.format import BLOCK_SIZE
from outlast.wire.shapes import VmCreate, make

pytestmark = pytest.mark.rack
ROOM_MIB = 64
LATE_S = 0.5  # what this machine may be late with
CHANGES = ["write", "create", "link", "unlink", "rename", "mkdir", "rmdir", "fallocate", "setattr"]


# ---- full


@contextlib.contextmanager
def filled(lab: Lab) -> Iterator[None]:
    """The file system of the pool has no room left, except for what is theirs already."""
    for vm in lab.vms:  # what a VM has is its own: full thin disks are another matter
        with open(lab.pool_dir / "images" / f"{vm}.raw", "r+b") as disk:
            os.posix_fallocate(disk.fileno(), 0, os.fstat(disk.fileno()).st_size)
        log = lab.pool_dir / "logs" / f"{vm}.log"
        subprocess.run(["fallocate", "--keep-size", "--length", "1MiB", log], check=True)
    ballast = lab.pool_dir / "ballast"
    try:
        with open(ballast, "wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\xff" * size)
        yield
    finally:
        ballast.unlink()


def test_a_full_storage_stops_neither_beats_nor_vms(lab: Lab) -> None:
    before, view = boots(lab), lab.client().status().view
    with filled(lab):
        written = {vm: len(lab.log(vm)) for vm in lab.vms}
        time.sleep(T_DEAD_S + FENCE_S)  # long enough for a wrong conclusion
        assert all(len(lab.log(vm)) > size for vm, size in written.items()), "a VM stands still"
        assert lab.client().status().view == view
        assert {h.state for h in lab.client().status().hosts} == {"member"}
    assert boots(lab) == before


def test_wishes_on_a_full_storage_are_carried_out_or_refused_in_words(lab: Lab) -> None:
    """Small ones fit into what is kept in reserve; nothing is promised and not kept."""
    made: list[str] = []
    refused: OutlastError | None = None
    with filled(lab):
        while refused is None and len(made) < 100:
            name = f"late{len(made)}"
            wish = make(VmCreate, name=name, memory="8MiB", disks=[{"size": "4MiB"}])
            try:
                lab.client("a").create(wish)
                made.append(name)
            except OutlastError as error:
                refused = error
        print(f"{len(made)} VMs were made on a full storage")
        assert isinstance(refused, StorageTrouble)
        assert "full" in refused.sentence
        said = command(lab, "a", "vm", "create", name, "--memory", "8MiB", "--disk", "4MiB")
        assert said.returncode == 5, said
        assert "free some space" in said.stderr
    assert not (lab.pool_dir / "images" / f"{name}.raw").exists(), "half of a VM is left"
    known = lab.statuses()
    assert name not in known
    assert set(made) <= set(known)
    for one in made:
        lab.client("a").delete(one, with_disks=True)


def test_a_host_that_dies_while_the_storage_is_full(lab: Lab) -> None:
    """What was kept in reserve is for this."""
    host = next(h for h in lab.hosts if victims(lab, h))
    lost = victims(lab, host)
    before = boots(lab, lost)
    with filled(lab), Lives(lab) as lives:
        lab.rack.power(host, "off")
        print(f"{len(lost)} VMs back after {wait_back(lab, before):.2f} s")
        assert not lives.overlaps()


def test_a_vm_whose_thin_disk_finds_no_room_goes_on_afterwards(lab: Lab) -> None:
    lab.create(["thin"])
    lab.wait_running(["thin"])
    settle(lab, ["thin"])
    before = boots(lab)
    lab.vms.remove("thin")
    try:
        with filled(lab):
            lab.wait(lambda: lab.statuses()["thin"].state == "paused", 20, "it does not pause")
            assert "disk error" in lab.statuses()["thin"].sentence
    finally:
        lab.vms.append("thin")
    lab.wait_running(["thin"], 15)
    settle(lab, ["thin"])
    assert boots(lab) == before, "it was started again instead"


# ---- read-only, unmounted


def test_a_storage_that_is_read_only_for_one_host(lab: Lab) -> None:
    host = next(h for h in lab.hosts if victims(lab, h))
    lost = victims(lab, host)
    before = boots(lab, lost)
    with Lives(lab) as lives:
        began_s = boottime_s()
        lab.rack.storage("fail", host, errno="EROFS", ops=CHANGES)
        lab.wait(
            lambda: "read-only" in lab.client(host).status().trouble.lower(), FENCE_S,
            "status does not tell why",
        )  # fmt: skip
        wish = make(VmCreate, name="x", memory="8MiB", disks=[{"size": "4MiB"}])
        with pytest.raises(StorageTrouble, match="read-only"):
            lab.client(host).create(wish)
        print(f"{len(lost)} VMs back after {wait_back(lab, before):.2f} s")
        assert not lives.overlaps()
        for vm in lost:
            assert lives.of(vm)[0].ended_s - began_s <= FENCE_S + KILL_S + LATE_S
    lab.wait_members(lab.hosts)  # its reset has made the fault end
    lab.wait(lambda: "x" not in lab.statuses(), FENCE_S, "what was refused was made all the same")


def test_a_storage_that_is_no_longer_mounted_on_a_host(lab: Lab) -> None:
    """An empty folder is no empty pool: it is neither believed nor written to."""
    host = next(h for h in lab.hosts if victims(lab, h))
    lost = victims(lab, host)
    before = boots(lab, lost)
    found: set[str] = set()
    with Lives(lab) as lives:
        over = ["mount", "-t", "tmpfs", "outlast-test", POOL]
        assert lab.rack.exec(host, over).returncode == 0
        lab.wait(lambda: bool(lab.client(host).status().trouble), FENCE_S, "status tells nothing")
        assert "not mounted" in lab.client(host).status().trouble
        boot_id = lab.rack.status()["hosts"][host]["boot_id"]
        until_s = boottime_s() + FENCE_S + KILL_S
        while boottime_s() < until_s and lab.rack.status()["hosts"][host]["boot_id"] == boot_id:
            with contextlib.suppress(OutlastError):  # it has just been reset
                looked = lab.rack.exec(host, ["find", POOL, "-xdev"])
                same = lab.rack.status()["hosts"][host]["boot_id"] == boot_id
                found.update(looked.stdout.split() if same else ())
        print(f"{len(lost)} VMs back after {wait_back(lab, before):.2f} s")
        assert not lives.overlaps()
    assert found == {POOL}, "something was written where the storage is not mounted"
    lab.wait_members(lab.hosts)  # its reset has mounted it again


# ---- garbage


def slot_of(lab: Lab, host: str) -> int:
    return next(h.slot for h in lab.client().status().hosts if h.name == host)


def write_block(lab: Lab, slot: int, piece: bytes) -> None:
    with open(lab.pool_dir / "hb", "r+b") as area:
        area.seek(slot * BLOCK_SIZE)
        area.write(piece)


def test_garbage_over_a_living_hosts_block(lab: Lab) -> None:
    """It writes its next beat over it; until then nothing is concluded from what cannot be read."""
    story, before = Story(lab), boots(lab)
    master = lab.client().status().master
    host = next(h for h in lab.hosts if h != master)
    slot, view = slot_of(lab, host), lab.client().status().view

    def told() -> bool:
        write_block(lab, slot, os.urandom(BLOCK_SIZE))
        time.sleep(random.uniform(2, 3) * BEAT_S)  # beats may be in step with each other
        return "block-unreadable" in story.codes()

    lab.wait(told, 20, "nobody tells of garbage in a block")
    time.sleep(T_DEAD_S)
    assert boots(lab) == before
    assert lab.client().status().view == view
    said = json.loads(command(lab, "a", "storage", "dump", POOL, "--json").stdout)
    assert not any(line["trouble"] for line in said["blocks"])


def test_garbage_over_a_dead_hosts_block_is_no_silence(lab: Lab) -> None:
    """What cannot be read proves nothing: the host is excluded first, like one that is cut off."""
    host = next(h for h in lab.hosts if victims(lab, h))
    lost, slot = victims(lab, host), slot_of(lab, host)
    story, before = Story(lab), boots(lab, lost)
    with Lives(lab) as lives:
        off = time.monotonic()
        lab.rack.power(host, "off")
        write_block(lab, slot, os.urandom(BLOCK_SIZE))

        def unreadable() -> bool:
            told = next(h for h in lab.client().status().hosts if h.name == host)
            return (told.state, f"the block of {host} cannot" in told.sentence) == (
                "unreadable", True,
            )  # fmt: skip

        lab.wait(unreadable, T_DEAD_S, "status does not tell")
        said = command(lab, next(h for h in lab.hosts if h != host), "storage", "dump", POOL)
        assert f"slot {slot:2}  BAD" in said.stdout
        wait_back(lab, before)
        assert time.monotonic() - off > GRACE_S + T_DEAD_S
        assert not lives.overlaps()
    told = story.wait("lease-taken", "vm-runs")
    assert all("proof: excluded" in text for text in told["lease-taken"])
    assert "host-silent" not in told


def newest(folder: Path) -> Path:
    return max(folder.iterdir(), key=lambda path: path.name)


def test_garbage_in_a_register_is_named_and_harms_no_other_vm(lab: Lab) -> None:
    before = boots(lab)
    broken = newest(lab.pool_dir / "reg" / "vm" / "vm6")
    sound = broken.read_bytes()
    broken.write_bytes(os.urandom(300))
    try:
        said = command(lab, "a", "storage", "dump", POOL)
        assert "vm/vm6" in said.stdout
        assert "BAD" in said.stdout
        assert "THERE IS TROUBLE" in said.stdout
        lab.wait(lambda: "vm/vm6" in lab.client("a").status().trouble, 45, "status does not tell")
        assert "vm6" in command(lab, "a", "status").stdout
        said = command(lab, "a", "vm", "stop", "vm6")
        assert said.returncode == 5, said
        assert "damaged" in said.stderr
        # a VM whose record is sound is looked after as ever
        host = lab.kill_qemu("vm1")
        wait_back(lab, {"vm1": before["vm1"]})
        assert lab.where("vm1") == host
        assert lab.where("vm6"), "its VM runs on"
    finally:
        broken.write_bytes(sound)
    lab.wait(
        lambda: not lab.client("a").status().trouble, 25, "the trouble is over, status says no"
    )
    before["vm1"] += 1
    assert boots(lab) == before


def test_garbage_in_a_lease_is_not_taken_for_a_free_one(lab: Lab) -> None:
    """Not even by an agent that begins anew and has never seen what the lease said."""
    vm = "vm2"
    host, story, before = lab.where(vm), Story(lab), boots(lab)
    broken = newest(lab.pool_dir / "reg" / "lease" / vm)
    sound = broken.read_bytes()
    broken.write_bytes(os.urandom(300))
    try:
        os.kill(lab.rack.service_pid(host, "outlast-agent"), signal.SIGKILL)
        story.wait("agent-started", about=host)
        lab.wait(lambda: f"lease/{vm}" in lab.client(host).status().trouble, 15, "not told")
        time.sleep(T_DEAD_S)  # long enough for a wrong conclusion
        assert boots(lab) == before
        assert lab.where(vm) == host
        assert not {"vm-killed", "order-given", "lease-taken"} & set(story.codes())
    finally:
        broken.write_bytes(sound)
    lab.wait_running([vm], 15)
    assert boots(lab) == before
    lab.wait(lambda: not lab.client(host).status().trouble, 15, "status still tells of trouble")
