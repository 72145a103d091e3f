"""A real death, explained and decided again: why, post-mortem, check, drill, export, replay.

About 30 seconds.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evidence import boots, victims, wait_back

from outlast.incident import archive
from outlast.incident.replay import replay
from outlast.rack.lab import Lab

pytestmark = pytest.mark.rack


def _exported(lab: Lab, host: str, *options: str) -> Path:
    """The incident of a host, exported on it and read from its own disk."""
    inside = f"/var/lib/outlast/{host}.zip"
    lab.outlast(host, "incident", "export", "--since", "10m", *options, inside)
    return next((lab.folder / host).rglob(f"{host}.zip"))


def test_a_death_is_explained_and_replayed(lab: Lab) -> None:
    master = lab.client().status().master
    host = next(h for h in lab.hosts if h != master)
    lost = victims(lab, host)
    assert lost, f"{host} has no VM to lose"
    drill = json.loads(lab.outlast(master, "--json", "drill", "--host", host, "--dry-run"))
    before = boots(lab, lost)
    lab.rack.power(host, "off")
    took_s = wait_back(lab, before)
    print(f"{took_s:.2f} s, predicted {drill['earliest_s']} to {drill['latest_s']:.2f} s")
    assert {r["vm"] for r in drill["failure"]["restarts"]} == set(lost)

    why = json.loads(lab.outlast(master, "--json", "vm", "why", lost[0]))
    codes = [step["code"] for step in why["steps"]]
    assert codes[0] == "host-silent", why["sentence"]
    assert codes[-1] == "vm-runs", why["sentence"]
    assert f"because {host} is silent" in why["sentence"]
    assert f"{host} is silent" in lab.outlast(master, "host", "why", host)

    lab.rack.power(host, "on")
    lab.wait_members(lab.hosts)
    for one in (master, host):
        file = _exported(lab, one)
        incident = archive.load(file)
        outcome = replay(incident.recorded)
        assert outcome.same, f"{one}, step {outcome.steps}: {outcome.difference}"
        print(f"{one}: {outcome.steps} steps, {file.stat().st_size >> 10} KiB, replayed the same")
        assert incident.notes
    incident = archive.load(_exported(lab, master, "--mask"))
    assert replay(incident.recorded).same
    assert not any(vm in json.dumps(incident.notes) for vm in lab.vms)
