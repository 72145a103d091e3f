"""A power switch on real hosts: a host that is cut off is switched off, and its VM starts sooner.

fence_redfish, as it is installed, speaks with the emulator of sushy-tools on the rack's network,
whose button is the rack's own. About 45 seconds, because the timing must leave room between F and
T_dead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from button import bmc_of
from evidence import Lives, Story, boots, wait_back

from outlast.rack import net
from outlast.rack.lab import Lab
from outlast.settings import PRESETS, S

pytestmark = pytest.mark.rack
F_S = PRESETS["quick"].fence_ns / S


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Three hosts; the VM is on the last one, because the first is asked what happened."""
    with Lab(tmp_path / "rack") as lab:
        lab.begin(hosts=3, preset="quick", leashed=True)
        lab.create(["vm1"])
        lab.wait_running(["vm1"])
        if lab.where("vm1") != lab.hosts[-1]:
            lab.outlast(lab.hosts[0], "vm", "migrate", "vm1", "--to", lab.hosts[-1])
        yield lab


def test_a_cut_host_is_switched_off_and_that_is_proof(lab: Lab, tmp_path: Path) -> None:
    host, before, story = lab.where("vm1"), boots(lab), Story(lab)
    with bmc_of(lab, host, tmp_path) as bmc, Lives(lab) as lives:
        cut = time.monotonic()
        for network in net.NETS:  # pulled: a reset by its own guard brings nothing back
            lab.rack.link(host, False, network)
        wait_back(lab, before)
        took_s = time.monotonic() - cut
        assert not lives.overlaps()
        assert bmc.pressed == ["off"]
    print(f"runs again after {took_s:.1f} s")
    assert took_s > F_S, "before its own guard had ended it"
    assert lab.rack.status()["hosts"][host]["power"] == "off"
    told = story.wait("fence-begins", "host-off", "lease-taken")
    assert "proof: fenced" in told["lease-taken"][-1], told["lease-taken"]
    assert lab.verdict("vm1").sound
