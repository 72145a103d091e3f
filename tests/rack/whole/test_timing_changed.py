"""Another timing while everything runs. About 40 seconds."""

from __future__ import annotations

import time

import pytest
from evidence import BACK_S, Story, boots, command

from outlast.rack.lab import Lab

pytestmark = pytest.mark.rack
STALL_S = 4.0  # more than three times what 'lab' survives, a third of what 'quick' does


def test_a_longer_timing_is_used_at_once_and_no_vm_notices(lab: Lab) -> None:
    before, story = boots(lab), Story(lab)
    host = lab.where("vm1")
    said = command(lab, host, "pool", "set", "--timing", "quick")
    assert said.returncode == 0, said.stderr
    story.wait("timing-changed", about=host)
    lab.wait(lambda: lab.client().status().preset == "quick", BACK_S, "the timing is the old one")
    time.sleep(3)  # it is promised with one beat, and counts from the next one on
    lab.rack.storage("stall", host)
    time.sleep(STALL_S)
    lab.rack.storage("heal", host)
    lab.wait_members(lab.hosts)
    time.sleep(3)
    assert boots(lab) == before, "a VM has started anew"


def test_what_cannot_be_is_refused(lab: Lab) -> None:
    for name, words in (("soon", "no timing preset"), ("lab", "emulated on one machine")):
        said = command(lab, lab.hosts[0], "pool", "set", "--timing", name)
        assert said.returncode != 0
        assert words in said.stderr
