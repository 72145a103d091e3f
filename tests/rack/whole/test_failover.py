"""The main job on real parts: VMs that die come back, hosts that die lose theirs to the others.

About 45 seconds.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from button import bmc_of
from evidence import T_DEAD_S, Lives, Story, boots, victims, wait_back

from outlast.rack.lab import Lab

pytestmark = pytest.mark.rack
TAKE_OVER = ("host-silent", "view-changed", "order-given", "lease-taken", "vm-starts", "vm-runs")


def test_a_killed_qemu_is_back_on_its_host(lab: Lab) -> None:
    story, before = Story(lab), boots(lab)
    with Lives(lab) as lives:
        host = lab.kill_qemu("vm1")
        print(f"back after {wait_back(lab, {'vm1': before['vm1']}):.2f} s")
    assert [life.host for life in lives.of("vm1")] == [host, host]
    told = story.wait("vm-crashed", "vm-starts", "vm-runs", about="vm1")
    assert "lease-taken" not in told, "it was restarted, not taken over"
    before["vm1"] += 1
    assert boots(lab) == before, "another VM noticed"


def test_a_dead_hosts_vms_run_elsewhere_and_it_comes_back(lab: Lab, tmp_path: Path) -> None:
    """Its BMC lost its power with it: it takes calls and answers none. Nobody waits for it."""
    master = lab.client().status().master
    host = next(h for h in lab.hosts if h != master)
    lost = victims(lab, host)
    assert lost, f"{host} has no VM to lose"
    story, before = Story(lab), boots(lab)
    with bmc_of(lab, host, tmp_path) as bmc, Lives(lab) as lives:
        bmc.fall_silent()
        cut = time.monotonic()
        lab.rack.power(host, "off")
        print(f"{len(lost)} VMs back after {wait_back(lab, {vm: before[vm] for vm in lost}):.2f} s")
        assert time.monotonic() - cut > T_DEAD_S - 0.5, "before its silence could be proven"
        assert not lives.overlaps()
        assert all(lives.of(vm)[-1].host != host for vm in lost)
    for vm in lost:
        told = story.wait("order-given", "lease-taken", "vm-starts", "vm-runs", about=vm)
        assert any(vm in said and "proof: silent" in said for said in told["lease-taken"])
    told = story.wait("host-silent", "fence-begins", about=host)
    assert any(f"{host} is silent" in said for said in told["view-changed"])
    stayed = {vm: count for vm, count in before.items() if vm not in lost}
    assert boots(lab, stayed) == stayed, "a VM of a living host noticed"

    lab.rack.power(host, "on")
    lab.wait_members(lab.hosts)
    assert f"{host} joins" in " ".join(story.wait("view-changed", about="joins")["view-changed"])


def test_the_story_is_told_by_the_command(lab: Lab) -> None:
    """Of the test before: each note a person needs to understand it, in a sensible order."""
    lines = json.loads(lab.outlast(lab.hosts[0], "pool", "timeline", "--json", "--limit", "5000"))
    first = {entry["code"]: at for at, entry in reversed(list(enumerate(lines)))}
    assert set(TAKE_OVER) | {"agent-started", "member", "vm-crashed"} <= set(first)
    assert all(entry["sentence"] and entry["host"] in lab.hosts for entry in lines)
    assert [e["wall_s"] for e in lines] == sorted(e["wall_s"] for e in lines)
    silent_at = first["host-silent"]
    after = {entry["code"] for entry in lines[silent_at:]}
    assert {"view-changed", "order-given", "lease-taken", "vm-starts", "vm-runs"} <= after


def test_the_masters_death_is_survived(lab: Lab) -> None:
    master = lab.client().status().master
    lost = victims(lab, master)
    before = boots(lab, lost)
    with Lives(lab) as lives:
        lab.rack.power(master, "off")
        print(f"{len(lost)} VMs back after {wait_back(lab, before):.2f} s")
        assert not lives.overlaps()
    lab.wait_running(lab.vms)
    assert lab.client().status().master not in ("", master)


def test_two_hosts_reset_in_a_row(lab: Lab) -> None:
    """A reboot faster than silence is its own proof: the new term says that the old one is over."""
    first, second = lab.hosts[:2]
    lost = victims(lab, first) + victims(lab, second)
    story, before = Story(lab), boots(lab, lost)
    with Lives(lab) as lives:
        lab.rack.power(first, "reset")
        lab.rack.power(second, "reset")
        print(f"{len(lost)} VMs back after {wait_back(lab, before):.2f} s")
        assert not lives.overlaps()
    lab.wait_members(lab.hosts)
    lab.wait_running(lab.vms)
    story.wait("host-anew", "view-changed", "lease-taken")
