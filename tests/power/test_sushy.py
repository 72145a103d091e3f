"""The port to power switches with fence_redfish, against the emulator of sushy-tools."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from redfish import PASSWORD
from sushy import SushyBmc

from outlast.equipment import PowerSwitch
from outlast.power import agents
from outlast.power.fencing import FencePower
from outlast.power.port import Outcome, Power
from outlast.power.switches import store
from outlast.storage.memory import MemoryRegister

UUID = "00000001-0000-4000-8000-000000000000"
LIMIT_S = 60.0


@pytest.mark.skipif(
    not (agents.folder_of_agents() / "fence_redfish").exists(), reason="needs fence-agents"
)
def test_a_machine_is_switched_off_once_and_only_with_the_password(tmp_path: Path) -> None:
    with SushyBmc(tmp_path) as bmc:
        register = MemoryRegister()
        switch = PowerSwitch(1, UUID, "fence_redfish", bmc.options())
        store(register, tmp_path, switch, {"password": "wrong"})
        fence = FencePower(register, tmp_path)
        bmc.wait()
        assert fence.test(1, UUID, LIMIT_S).power is Power.UNKNOWN
        store(register, tmp_path, switch, {"password": PASSWORD})
        assert fence.test(1, UUID, LIMIT_S).power is Power.ON
        done = fence.fence(1, UUID, LIMIT_S)
        assert (done.outcome, done.proven) == (Outcome.OFF, True), done
        done = fence.fence(1, UUID, LIMIT_S)
        assert (done.outcome, done.proven) == (Outcome.ALREADY_OFF, True)
        assert bmc.pressed == ["off"], "one that is off is left alone"
