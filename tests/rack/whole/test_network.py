"""Hosts that nobody hears although they see the storage, bad links, and no network at all.

About 50 seconds.
"""

from __future__ import annotations

import time

import pytest
from evidence import GRACE_S, T_DEAD_S, Lives, Story, boots, victims, wait_back

from outlast.rack.lab import Lab

pytestmark = pytest.mark.rack
LOST_S = 1.2  # so long until a link counts as down


def test_an_isolated_host_is_excluded_and_its_vms_move(lab: Lab) -> None:
    master = lab.client().status().master
    host = next(h for h in lab.hosts if h != master and victims(lab, h))
    lost = victims(lab, host)
    story, before = Story(lab), boots(lab)
    with Lives(lab) as lives:
        cut = time.monotonic()
        lab.rack.isolate(host)
        wait_back(lab, {vm: before[vm] for vm in lost})
        took = time.monotonic() - cut
        print(f"{len(lost)} VMs back after {took:.2f} s")
        assert took > GRACE_S, "before the grace was over"
        assert not lives.overlaps(), "two QEMUs of one VM"
        assert all(lives.of(vm)[-1].host != host for vm in lost)
    told = story.wait("view-changed", about="cannot be reached for the whole grace")
    assert any(host in said for said in told["view-changed"])
    story.wait("link-down", about=host)
    lab.rack.heal()
    print(f"{host} is a member again after {rejoined(lab):.1f} s")
    stayed = {vm: count for vm, count in before.items() if vm not in lost}
    assert boots(lab, stayed) == stayed, "a VM of another host noticed"


def rejoined(lab: Lab) -> float:
    began = time.monotonic()
    lab.wait_members(lab.hosts, 40)
    return time.monotonic() - began


def test_one_bad_link_is_a_note_and_nothing_else(lab: Lab) -> None:
    story, before = Story(lab), boots(lab)
    views = lab.client().status().view
    lab.rack.cut("a", "b")
    story.wait("link-down", about="a and b")
    time.sleep(LOST_S + GRACE_S + T_DEAD_S)  # long enough for a wrong conclusion
    assert boots(lab) == before
    assert lab.client().status().view == views
    assert {h.name for h in lab.client().status().hosts if h.state == "member"} >= {"c"}
    lab.rack.heal()
    story.wait("link-up", about="a and b")


def test_without_any_network_silence_still_proves_death(lab: Lab) -> None:
    before = boots(lab)
    story = Story(lab)
    for host in lab.hosts:
        lab.rack.isolate(host)
    time.sleep(LOST_S + GRACE_S + 1)
    assert boots(lab) == before, "a network that is gone for all moves no VM"
    host = next(h for h in lab.hosts if victims(lab, h))
    lost = victims(lab, host)
    with Lives(lab) as lives:
        lab.rack.power(host, "off")
        print(f"{len(lost)} VMs back after {wait_back(lab, {vm: before[vm] for vm in lost}):.2f} s")
        assert not lives.overlaps(), "two QEMUs of one VM"
    told = story.wait("host-silent", "lease-taken", "vm-runs")
    assert any("proof: silent" in said for said in told["lease-taken"])
