"""Hosts, or just their watchers, that stop and perhaps go on: where only a watchdog helps.

About 45 seconds.
"""

from __future__ import annotations

import os
import signal
import time

import pytest
from evidence import (
    FENCE_S,
    KILL_S,
    T_DEAD_S,
    TIMING,
    Lives,
    Story,
    boots,
    boottime_s,
    victims,
    wait_back,
)  # fmt: skip

from outlast.rack.lab import Lab

pytestmark = pytest.mark.rack


def test_a_frozen_host_is_reset_before_others_take_its_vms(lab: Lab) -> None:
    host = lab.where("vm3")
    lost = victims(lab, host)
    story, before = Story(lab), boots(lab)
    with Lives(lab) as lives:
        frozen_s = boottime_s()
        lab.rack.freeze(host)
        print(f"{len(lost)} VMs back after {wait_back(lab, {vm: before[vm] for vm in lost}):.2f} s")
        assert not lives.overlaps(), "two QEMUs of one VM"
        for vm in lost:
            old, new = lives.of(vm)[0], lives.of(vm)[-1]
            reset_s, back_s = old.ended_s - frozen_s, new.begun_s - frozen_s
            print(f"  {vm}: reset after {reset_s:.2f} s, began on {new.host} after {back_s:.2f} s")
            # a pet at the very moment of the freeze is the latest that can be
            assert reset_s < TIMING.watchdog_s + 0.5 < FENCE_S + KILL_S < T_DEAD_S
            assert old.ended_s < new.begun_s
            assert new.host != host
    lab.wait_members(lab.hosts)
    status = lab.rack.status()["hosts"][host]
    assert status["power"] == "on"
    assert status["watchdog"]["fired"] >= 1
    stayed = {vm: count for vm, count in before.items() if vm not in lost}
    assert boots(lab, stayed) == stayed, "a VM of a healthy host noticed"
    story.wait("view-changed", "lease-taken", "vm-runs")


def stopped(lab: Lab, host: str, *services: str) -> None:
    """These processes of a host stand still from now on."""
    for service in services:
        os.kill(lab.rack.service_pid(host, service), signal.SIGSTOP)


def ends_in_time(lab: Lab, host: str, limit_s: float, *services: str) -> None:
    """Its VMs end within the limit when these stand still, and only then run elsewhere."""
    lost = victims(lab, host)
    assert lost, f"{host} has no VM to lose"
    before = boots(lab)
    with Lives(lab) as lives:
        begun_s = boottime_s()
        stopped(lab, host, *services)
        wait_back(lab, {vm: before[vm] for vm in lost})
        assert not lives.overlaps(), "two QEMUs of one VM"
        for vm in lost:
            old, new = lives.of(vm)[0], lives.of(vm)[-1]
            ended_s, back_s = old.ended_s - begun_s, new.begun_s - begun_s
            print(f"  {vm}: ended after {ended_s:.2f} s, began on {new.host} after {back_s:.2f} s")
            assert ended_s <= limit_s < T_DEAD_S
            assert new.host != host
    stayed = {vm: count for vm, count in before.items() if vm not in lost}
    assert boots(lab, stayed) == stayed, "a VM of a healthy host noticed"
    lab.wait(lambda: fired(lab, host) >= 1, 30, f"{host} was not reset")
    lab.wait_members(lab.hosts)


def fired(lab: Lab, host: str) -> int:
    return int(lab.rack.status()["hosts"][host]["watchdog"]["fired"])


def test_a_guard_that_stands_still_costs_the_host(lab: Lab) -> None:
    """Nobody pets the watchdog: the reset comes before anybody may take the VMs."""
    host = lab.where("vm1")
    ends_in_time(lab, host, TIMING.watchdog_s + 0.5, "outlast-guard")


def test_pulse_and_agent_that_stand_still(lab: Lab) -> None:
    """Nobody confirms: the guard ends the VMs at its deadline, all by itself."""
    host = lab.where("vm2")
    ends_in_time(lab, host, FENCE_S + KILL_S, "outlast-pulse", "outlast-agent")


def test_a_short_freeze_is_nothing(lab: Lab) -> None:
    host = lab.where("vm4")
    story, before = Story(lab), boots(lab)
    lab.rack.freeze(host)
    time.sleep(0.5)
    lab.rack.thaw(host)
    time.sleep(T_DEAD_S + 1)  # long enough for a wrong conclusion
    lab.wait_running(lab.vms)
    assert boots(lab) == before
    assert not {"view-changed", "lease-taken", "host-silent"} & set(story.codes())
