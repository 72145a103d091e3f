"""A BMC for a host of a rack: on the network of the hosts, with the rack's own power button."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "power"))
from sushy import PASSWORD, SushyBmc

from outlast.power import agents
from outlast.rack import net
from outlast.rack.lab import POOL, Lab


@contextlib.contextmanager
def bmc_of(lab: Lab, host: str, folder: Path) -> Iterator[SushyBmc]:
    """It is the power switch of this host from now on, by fence_redfish; and it answers."""
    if not (agents.folder_of_agents() / "fence_redfish").exists():
        pytest.skip("needs fence-agents")
    where, address = _place(lab, host)
    with contextlib.ExitStack() as left:
        bmc = net.inside(*where, lambda: left.enter_context(
            SushyBmc(folder, address, lambda to: lab.rack.power(host, to))))  # fmt: skip
        net.inside(*where, bmc.wait)
        _set(lab, host, "fence_redfish", bmc.options(), PASSWORD)
        assert "GET /redfish/v1" in bmc.asked, "it was not asked whether it answers"
        yield bmc


def _place(lab: Lab, host: str) -> tuple[tuple[int, int], str]:
    """Where a BMC stands, and its address there."""
    status = lab.rack.status()
    third = int(str(status["hosts"][host]["addresses"]["mgmt"]).split(".")[2])
    where = int(status["pid"]), int(status["switch_thread"])
    return where, net.address("mgmt", net.SWITCH, third)


def _set(lab: Lab, host: str, agent: str, options: tuple[str, ...], password: str) -> None:
    (lab.pool_dir / "bmc").write_text(password)
    words = [word for option in options for word in ("--option", option)]
    secret = ["--secret", f"password={POOL}/bmc"]
    lab.outlast(lab.hosts[0], "host", "fence", "set", host, agent, *words, *secret)
