"""A BMC for a host of a rack: on the network of the hosts, with the rack's own power button."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "power"))
from redfish import PASSWORD, Bmc

from outlast.power import agents
from outlast.rack import net
from outlast.rack.lab import POOL, Lab


def bmc_of(lab: Lab, host: str, folder: Path) -> Bmc:
    """It is the power switch of this host from now on, by fence_redfish; and it answers."""
    if not (agents.folder_of_agents() / "fence_redfish").exists():
        pytest.skip("needs fence-agents")
    status = lab.rack.status()
    third = int(str(status["hosts"][host]["addresses"]["mgmt"]).split(".")[2])
    address = net.address("mgmt", net.SWITCH, third)
    where = int(status["pid"]), int(status["switch_thread"])
    bmc = net.inside(*where, lambda: Bmc(folder, address, lambda to: lab.rack.power(host, to)))
    (lab.pool_dir / "bmc").write_text(PASSWORD)
    options = [word for option in bmc.options() for word in ("--option", option)]
    secret = ["--secret", f"password={POOL}/bmc"]
    lab.outlast(lab.hosts[0], "host", "fence", "set", host, "fence_redfish", *options, *secret)
    assert "GET /redfish/v1" in bmc.asked[0], "it was not asked whether it answers"
    return bmc
