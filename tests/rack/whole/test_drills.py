"""Fire drills on real hosts: each kind once, as a person would do it, judged by the pool itself.

About 60 seconds.
"""

from __future__ import annotations

import json

import pytest
from evidence import boots, command, victims

from outlast.rack.lab import Lab

pytestmark = pytest.mark.rack


@pytest.mark.parametrize("kind", ["network", "power", "agent", "vm"])
def test_a_drill_goes_as_foreseen(lab: Lab, kind: str) -> None:
    master = lab.client().status().master
    host = max((h for h in lab.hosts if h != master), key=lambda h: len(victims(lab, h)))
    lost = victims(lab, host)
    before = boots(lab, lab.vms)
    which = ["--vm", lost[0]] if kind == "vm" else ["--host", host]
    said = command(lab, master, "--json", "drill", *which, "--kind", kind, "--yes", host)
    print(said.stdout, said.stderr)
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert (found["state"], found["matched"]) == ("ended", True), found["report"]
    print(found["latest_s"], found["report"])
    lab.wait_members(lab.hosts)
    ended = {"agent": set(), "vm": {lost[0]}}.get(kind, set(lost))
    after = boots(lab, lab.vms)
    assert {vm for vm in lab.vms if after[vm] > before[vm]} == ended, "the VMs' own disks say so"
