"""A real death, explained and decided again: why, post-mortem, check, drill, export, replay.

About 30 seconds.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from evidence import boots, victims, wait_back

from outlast.incident import archive
from outlast.incident.replay import replay
from outlast.rack.lab import Lab

pytestmark = pytest.mark.rack
AT = r" at \d\d:\d\d:\d\d\.\d"
# all that a person wants to know at 3 a.m.
ACCOUNT = (
    r"^vm\d runs on \w+ since \d\d:\d\d:\d\d\.\d, because (\w+) fell silent: ",
    rf": (\w+) wrote its last block{AT}; ",
    r"; \w+ and \w+ saw it silent for \d+\.\d s; ",
    rf"; view \d+ \(\w+, \w+\){AT}",
    rf"; \w+ was chosen of 2 candidates: \w+ has the most left: .*{AT}; ",
    rf"; lease taken with proof 'silent'{AT}; ",
    rf"; QEMU running{AT}; ",
    rf"; first sign of life from the guest \(.*\){AT}",
)


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

    lab.wait(
        lambda: "first sign of life" in lab.outlast(master, "vm", "why", lost[0]), 10,
        f"{lost[0]} gives no sign of life",
    )  # fmt: skip
    why = json.loads(lab.outlast(master, "--json", "vm", "why", lost[0]))
    codes = [step["code"] for step in why["steps"]]
    assert codes[0] == "host-silent", why["sentence"]
    assert {"vm-runs", "view-changed", "vm-alive"} <= set(codes), why["sentence"]
    assert f"because {host} is silent" in why["sentence"]
    told = lab.outlast(master, "vm", "why", lost[0]).splitlines()[0]
    print(told)
    assert [part for part in ACCOUNT if not re.search(part, told)] == [], told
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


def test_loads_are_measured_and_a_start_order_waits_for_an_answer(lab: Lab) -> None:
    first, second = lab.vms[:2]
    status = lab.client().status()
    agent = status.hosts[0].api.removeprefix("https://")  # something that answers everywhere
    address = agent.rpartition(":")[0]
    lab.wait(
        lambda: all(h.busy_cores and h.used_mib for h in lab.client().status().hosts), 40,
        "not every host has published what it measured",
    )  # fmt: skip
    lab.wait(
        lambda: all(vm.busy_cores for vm in lab.statuses().values()), 40,
        "not every VM's load is published",
    )  # fmt: skip
    host = status.master
    try:
        for vm in (first, second):
            lab.outlast(host, "vm", "kill", vm)
        lab.outlast(host, "vm", "set", first, "--ready", f"tcp:{address}:1")
        lab.outlast(host, "vm", "set", second, "--start-order", "1")
        lab.outlast(host, "vm", "start", first, second, "--no-wait")
        lab.wait_running([first])
        lab.wait(
            lambda: "does not answer" in lab.outlast(host, "vm", "why", second), 20,
            f"{second} does not say that it waits for {first}",
        )  # fmt: skip
        assert lab.statuses()[first].is_ready is False
        assert not lab.where(second)
        lab.outlast(host, "vm", "set", first, "--ready", f"tcp:{agent}")
        took_s = lab.wait(lambda: bool(lab.where(second)), 30, f"{second} still waits")
        print(f"{second} began {took_s:.1f} s after {first} could answer")
        assert lab.statuses()[first].is_ready
        lab.wait_running([second])
        assert "free memory" in lab.outlast(host, "vm", "why", second)
    finally:
        lab.outlast(host, "vm", "set", first, "--ready", "runs")
        lab.outlast(host, "vm", "set", second, "--start-order", "0")
