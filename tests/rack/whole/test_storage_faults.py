"""Storage that stalls or fails for one host, for a moment, or for everybody.

The hosts have watchdogs: where a VM ran on storage that no longer answers, the host is reset, so
that nothing it has queued can ever be written. About 75 seconds.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from evidence import (
    FENCE_S,
    KILL_S,
    T_DEAD_S,
    Lives,
    Story,
    boots,
    boottime_s,
    settle,
    victims,
    wait_back,
)

from outlast.images.pace import SHARE
from outlast.rack.lab import Lab

pytestmark = pytest.mark.rack
AWAY_S = 10.0
LATE_S = 0.5  # what this machine may be late with; what is unsafe is asserted without it


def lose(lab: Lab, host: str, harm: Callable[[], object]) -> None:
    """After `harm` the host's VMs end in time, are never doubled, and run elsewhere."""
    lost = victims(lab, host)
    assert lost, f"{host} has no VM to lose"
    before, was = boots(lab), boot_id(lab, host)
    with Lives(lab) as lives:
        harmed_s = boottime_s()
        harm()
        print(f"{len(lost)} VMs back after {wait_back(lab, {vm: before[vm] for vm in lost}):.2f} s")
        assert not lives.overlaps(), "two QEMUs of one VM"
        for vm in lost:
            old, new = lives.of(vm)[0], lives.of(vm)[-1]
            lasted_s, back_s = old.ended_s - harmed_s, new.begun_s - harmed_s
            print(f"  {vm}: ended after {lasted_s:.2f} s, began on {new.host} after {back_s:.2f} s")
            assert new.host != host
            assert lasted_s <= FENCE_S + KILL_S + LATE_S
            assert back_s > T_DEAD_S - LATE_S, "before the old one's silence could be proven"
    assert lab.boots("vm1") >= before["vm1"]
    lab.wait(lambda: boot_id(lab, host) not in ("", was), 30, f"{host} was not reset")
    assert lab.rack.status()["hosts"][host]["watchdog"]["fired"] >= 1
    stayed = {vm: count for vm, count in before.items() if vm not in lost}
    assert boots(lab, stayed) == stayed, "a VM of a healthy host noticed"


def boot_id(lab: Lab, host: str) -> str:
    return str(lab.rack.status()["hosts"][host]["boot_id"])


def test_a_stall_for_good_ends_its_vms_before_others_start_them(lab: Lab) -> None:
    """The stall ends with the host's reset, so it rejoins by itself, and says why it went down."""
    host, story = lab.where("vm1"), Story(lab)
    lose(lab, host, lambda: lab.rack.storage("stall", host))
    lab.wait_members(lab.hosts)
    (why,) = story.wait("guard-ended", about=host)["guard-ended"]
    print(why)
    assert "its guard" in why and "the term is open" not in why
    (own,) = (lab.folder / host).rglob("journal.jsonl")

    def all_told() -> bool:
        lines = [json.loads(line) for line in own.read_text().splitlines() if line]
        mine = {one["id"] for one in lines if one["wall_s"] > story.since_wall_s}
        return mine <= {entry.id for entry in story.entries()}

    lab.wait(all_told, 15, f"what {host} could only tell its own disk is not on the timeline")


def test_a_pulled_storage_cable(lab: Lab) -> None:
    """Frames under way stay under way: only the reset keeps them from being written later."""
    host = lab.where("vm2")
    lose(lab, host, lambda: lab.rack.link(host, False, "storage"))
    assert host not in {h.name for h in lab.client().status().hosts if h.state == "member"}
    lab.rack.link(host, True, "storage")
    lab.wait_members(lab.hosts)


def test_errors_do_the_same(lab: Lab) -> None:
    host = lab.where("vm3")
    lose(lab, host, lambda: lab.rack.storage("fail", host, errno="EIO"))
    lab.wait_members(lab.hosts)


def test_a_qemu_that_cannot_die(lab: Lab) -> None:
    """Its write is in the hands of a storage client that stands still: not even SIGKILL ends it."""
    host = lab.where("vm4")
    stuck = [pid for places in lab.processes().values() for at, pid in places if at == host]

    def harm() -> None:
        lab.rack.storage("stall", host)
        lab.wait(lambda: held(lab, host), 1, "no request is held")
        os.kill(client_pid(lab, host), signal.SIGSTOP)
        lab.wait(lambda: any(undead(pid) for pid in stuck), 5, "every QEMU could be killed")

    lose(lab, host, harm)
    lab.wait_members(lab.hosts)


def held(lab: Lab, host: str) -> bool:
    """A write of a VM waits in the storage client."""
    return int(lab.rack.status()["hosts"][host]["storage"]["held"]) >= 3


def client_pid(lab: Lab, host: str) -> int:
    """The process behind the host's mount of the storage."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in lab.rack.pids(host)}
    return next(pid for pid, line in lines.items() if b"outlast.rack.filemount" in line)


def undead(pid: int) -> bool:
    """A zombie with a thread that is left."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "Z" and len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except OSError:
        return False


def test_a_short_stall_of_everybody_does_nothing(lab: Lab) -> None:
    before = boots(lab)
    views = lab.client().status().view
    for _ in range(2):
        for host in lab.hosts:
            lab.rack.storage("stall", host)
        time.sleep(0.6)
        for host in lab.hosts:
            lab.rack.storage("heal", host)
        time.sleep(1)
    written = {vm: len(lab.log(vm)) for vm in lab.vms}
    lab.wait(
        lambda: all(len(lab.log(vm)) > n for vm, n in written.items()), 10, "a VM stands still"
    )
    time.sleep(T_DEAD_S)
    assert boots(lab) == before
    assert lab.client().status().view == views


def test_a_server_that_is_away_for_all(lab: Lab) -> None:
    """All hosts give each other time: nothing ends, nothing is reset, VMs write on afterwards."""
    before, views, ids = (
        boots(lab),
        lab.client().status().view,
        [boot_id(lab, h) for h in lab.hosts],
    )
    story = Story(lab)
    with Lives(lab) as lives:
        lab.rack.storage("stop")
        time.sleep(AWAY_S)
        assert {vm for vm, places in lab.processes().items() if places} == set(lab.vms)
        words = [lab.folder / host / "run/outlast" / SHARE for host in lab.hosts]

        def shares() -> list[float]:
            return [float(word.read_text().split()[0]) for word in words]

        assert not any(shares()), "copies do not stand still"
        lab.rack.storage("heal")
        settle(lab, lab.vms)
        lab.wait(lambda: all(shares()), 10, "copies do not go on")
        time.sleep(T_DEAD_S)
        assert not lives.overlaps()
    assert boots(lab) == before, "a VM has started anew"
    assert [boot_id(lab, h) for h in lab.hosts] == ids, "a host was reset"
    assert lab.client().status().view == views
    told = {entry.code for entry in story.entries()}
    assert {"storage-sick", "time-given", "storage-back"} <= told


def test_storage_and_network_away_for_all(lab: Lab) -> None:
    """Nobody can be asked for time: every VM must end. Then everything comes back by itself."""
    before = boots(lab)
    with Lives(lab) as lives:
        stopped_s = boottime_s()
        for host in lab.hosts:
            lab.rack.link(host, False, "mgmt")
        lab.rack.storage("stop")
        limit_s = FENCE_S + KILL_S
        lab.wait(lambda: not lab.processes(), 10, "VMs outlive the storage without any grant")
        last_s = max(life.ended_s for vm in lab.vms for life in lives.of(vm)) - stopped_s
        print(f"the last VM ended {last_s:.2f} s after the storage")
        assert last_s <= limit_s + LATE_S
        while boottime_s() < stopped_s + 10:
            assert not lab.processes(), "a VM was started without storage"
            time.sleep(0.2)
        lab.rack.storage("heal")
        for host in lab.hosts:
            lab.rack.link(host, True, "mgmt")
        print(f"all VMs back after {wait_back(lab, before, 60):.2f} s")
        assert not lives.overlaps()
    lab.wait_members(lab.hosts, 60)
    lab.wait_running(lab.vms)
