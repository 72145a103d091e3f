"""The port to power switches with fence_ipmilan, against a simulator of a BMC that speaks IPMI."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ipmi import KG_KEY, PASSWORD, IpmiBmc, missing

from outlast.equipment import PowerSwitch
from outlast.errors import InvalidInput
from outlast.power import agents, hiding
from outlast.power.fencing import FencePower
from outlast.power.port import Outcome, Power
from outlast.power.switches import store
from outlast.storage.memory import MemoryRegister

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")
UUID = "00000001-0000-4000-8000-000000000000"
LIMIT_S = 60.0


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def bmc(tmp_path: Path, told: list[str]) -> Iterator[IpmiBmc]:
    with IpmiBmc(tmp_path, act=told.append) as made:
        yield made


@pytest.fixture
def fence(bmc: IpmiBmc, tmp_path: Path) -> FencePower:
    return fence_of(bmc, tmp_path, {"password": PASSWORD})


def fence_of(bmc: IpmiBmc, folder: Path, secrets: dict[str, str]) -> FencePower:
    register = MemoryRegister()
    store(register, folder, PowerSwitch(1, UUID, "fence_ipmilan", bmc.options()), secrets)
    return FencePower(register, folder)


def test_a_machine_is_switched_off_once(bmc: IpmiBmc, fence: FencePower, told: list[str]) -> None:
    assert fence.test(1, UUID, LIMIT_S).power is Power.ON
    done = fence.fence(1, UUID, LIMIT_S)
    assert (done.outcome, done.proven, bmc.power) == (Outcome.OFF, True, "off"), done
    assert bmc.asked[-1] == "get power", "looked at after the command"
    done = fence.fence(1, UUID, LIMIT_S)
    assert (done.outcome, done.proven) == (Outcome.ALREADY_OFF, True)
    assert told == ["off"], "one that is off is left alone"


@pytest.mark.parametrize("kg_key", ["", KG_KEY])
def test_no_secret_is_an_argument_of_any_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kg_key: str
) -> None:
    """Of ipmitool least of all: its arguments are for every program on the machine to read."""
    spy = tmp_path / "bin/ipmitool"
    spy.parent.mkdir()
    spy.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/said\nexec /usr/bin/ipmitool "$@"\n')
    spy.chmod(0o755)
    path = f"{spy.parent}:{agents.ENVIRONMENT['PATH']}"
    monkeypatch.setattr(agents, "ENVIRONMENT", {**agents.ENVIRONMENT, "PATH": path})
    secrets = {"password": PASSWORD, **({hiding.KG_KEY: kg_key} if kg_key else {})}
    with IpmiBmc(tmp_path, kg_key=kg_key) as bmc:
        assert fence_of(bmc, tmp_path, secrets).test(1, UUID, LIMIT_S).power is Power.ON
        said = (tmp_path / "said").read_text()
        assert "chassis power status" in said
        assert not [secret for secret in secrets.values() if secret in said]
        if kg_key:
            wrong = secrets | {hiding.KG_KEY: "00" + kg_key[2:]}
            with pytest.raises(InvalidInput, match="none of them zero"):
                fence_of(bmc, tmp_path, wrong)
            wrong[hiding.KG_KEY] = "01" + kg_key[2:]
            assert fence_of(bmc, tmp_path, wrong).test(1, UUID, 5.0).power is Power.UNKNOWN


def test_a_button_that_does_nothing_and_a_bmc_without_power_prove_nothing(
    bmc: IpmiBmc, fence: FencePower
) -> None:
    bmc.break_button()
    done = fence.fence(1, UUID, 5.0)
    assert (done.outcome, done.proven) == (Outcome.UNKNOWN, False)
    assert "set power 0" in bmc.asked and bmc.power == "on"
    bmc.lose_power()
    done = fence.fence(1, UUID, 2.0)
    assert not done.proven and PASSWORD not in done.reason
    assert fence.test(1, UUID, 2.0).power is Power.UNKNOWN
