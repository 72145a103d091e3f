"""The port to power switches with a real fence agent: fence_redfish against a small BMC."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from redfish import PASSWORD, Bmc

from outlast.equipment import PowerSwitch
from outlast.errors import InvalidInput, StorageTrouble
from outlast.power import agents
from outlast.power.fencing import FencePower
from outlast.power.port import Outcome, Power
from outlast.power.switches import forget, load, record_of, store
from outlast.storage.memory import MemoryRegister

UUID = "00000001-0000-4000-8000-000000000000"
LIMIT_S = 60.0


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[Bmc]:
    if not (agents.folder_of_agents() / "fence_redfish").exists():
        pytest.skip("needs fence-agents")
    made = Bmc(tmp_path)
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def register() -> MemoryRegister:
    return MemoryRegister()


def switch(bmc: Bmc) -> PowerSwitch:
    return PowerSwitch(1, UUID, "fence_redfish", bmc.options())


@pytest.fixture
def fence(bmc: Bmc, register: MemoryRegister, tmp_path: Path) -> FencePower:
    store(register, tmp_path, switch(bmc), {"password": PASSWORD})
    return FencePower(register, tmp_path)


def test_a_machine_is_switched_off_and_its_switch_says_so(bmc: Bmc, fence: FencePower) -> None:
    assert fence.test(1, UUID, LIMIT_S).power is Power.ON
    done = fence.fence(1, UUID, LIMIT_S)
    assert (done.outcome, done.proven, bmc.power) == (Outcome.OFF, True, "Off")
    assert bmc.asked[-1].startswith("GET"), "looked at after the command"
    assert [asked for asked in bmc.asked if "POST" in asked] == ["POST ForceOff"]
    assert fence.test(1, UUID, LIMIT_S).power is Power.OFF


def test_a_machine_that_is_off_is_a_success_and_is_left_alone(bmc: Bmc, fence: FencePower) -> None:
    bmc.power = "Off"
    done = fence.fence(1, UUID, LIMIT_S)
    assert (done.outcome, done.proven) == (Outcome.ALREADY_OFF, True)
    assert not any("POST" in asked for asked in bmc.asked)


def test_a_switch_that_lies_proves_nothing(bmc: Bmc, fence: FencePower) -> None:
    bmc.obeys = False
    done = fence.fence(1, UUID, 6.0)
    assert (done.outcome, done.proven) == (Outcome.UNKNOWN, False)
    assert done.reason and done.took_ms < 12_000


def test_a_wrong_password_and_a_silent_switch_prove_nothing(
    bmc: Bmc, register: MemoryRegister, tmp_path: Path
) -> None:
    store(register, tmp_path, switch(bmc), {"password": "wrong-one-x"})
    fence = FencePower(register, tmp_path)
    done = fence.fence(1, UUID, LIMIT_S)
    assert not done.proven and bmc.power == "On"
    assert "wrong-one-x" not in done.reason and done.reason.startswith("fence_redfish: ")
    bmc.shutdown()
    bmc.server_close()
    began = time.monotonic()
    assert fence.test(1, UUID, 2.0).power is Power.UNKNOWN
    assert not fence.fence(1, UUID, 2.0).proven
    assert time.monotonic() - began < 10, "nobody waits for a BMC that lost its power"


def test_a_storage_that_hangs_keeps_nobody_longer(tmp_path: Path) -> None:
    class Hanging(MemoryRegister):
        def read(self, name: str) -> tuple[int, dict[str, object] | None]:
            hold.wait(30)
            return 0, None

    hold, began = threading.Event(), time.monotonic()
    done = FencePower(Hanging(), tmp_path).fence(1, UUID, 0.2)
    assert not done.proven and "storage does not say" in done.reason
    assert time.monotonic() - began < 20
    hold.set()


def test_another_machine_in_the_slot_is_not_switched_off(bmc: Bmc, fence: FencePower) -> None:
    done = fence.fence(1, UUID.replace("1", "2"), LIMIT_S)
    assert not done.proven and "another machine" in done.reason
    assert "no power switch" in fence.fence(2, UUID, LIMIT_S).reason
    assert bmc.asked == [] and bmc.power == "On"


def test_secrets_are_readable_by_root_alone_and_shown_nowhere(
    bmc: Bmc, register: MemoryRegister, fence: FencePower, tmp_path: Path
) -> None:
    (kept,) = (tmp_path / "power").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    _, value = register.read("power/1")
    assert PASSWORD not in json.dumps(value)
    assert PASSWORD not in repr(load(register, tmp_path, 1))
    store(register, tmp_path, switch(bmc), {"password": "another-one"})
    (newer,) = (tmp_path / "power").iterdir()
    assert newer != kept, "the former secret is gone"
    newer.unlink()
    with pytest.raises(StorageTrouble, match="cannot be read"):
        load(register, tmp_path, 1)
    assert not fence.fence(1, UUID, LIMIT_S).proven
    forget(register, tmp_path, 1)
    assert record_of(register, 1) is None


@pytest.mark.parametrize(
    ("options", "secrets", "words"),
    [
        (("password=x",), {}, "is a secret"),
        (("action=on",), {}, "not for people"),
        (("debug_file=/tmp/x",), {}, "not for people"),
        (("password_script=/x",), {}, "not for people"),
        (("ip",), {}, "not like ip="),
        (("ip=1\naction=on",), {}, "one line"),
        ((), {"password": "a\nb"}, "one line"),
        (("IP=1",), {}, "no name of an option"),
    ],
)
def test_what_must_not_be_told_to_an_agent(
    register: MemoryRegister, tmp_path: Path, options: tuple[str, ...], secrets: dict[str, str],
    words: str,
) -> None:  # fmt: skip
    with pytest.raises(InvalidInput, match=words):
        store(register, tmp_path, PowerSwitch(1, UUID, "fence_redfish", options), secrets)
    assert register.read("power/1") == (0, None)


# ---- one call


def program(folder: Path, text: str) -> Path:
    path = folder / "fence_own"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_an_agent_gets_everything_on_its_input(tmp_path: Path) -> None:
    said = program(tmp_path, 'cat > "$(dirname "$0")/in"; echo "$@" > "$(dirname "$0")/args"')
    answer = agents.call(said, "status", {"ip": "10.0.0.9"}, {"password": "p"}, 5)
    assert (answer.code, answer.said) == (0, "")
    assert (tmp_path / "in").read_text() == "ip=10.0.0.9\npassword=p\naction=status\n"
    assert (tmp_path / "args").read_text() == "\n"


def test_an_agent_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    hangs = program(tmp_path, 'sleep 61 & echo $! > "$(dirname "$0")/pid"; wait')
    answer = agents.call(hangs, "status", {}, {}, 0.5)
    assert answer.code is None and "no answer within 0.5 s" in answer.said
    child = (tmp_path / "pid").read_text().strip()
    until = time.monotonic() + 5
    while subprocess.run(
        ["ps", "-o", "stat=", child], capture_output=True, check=False
    ).stdout not in {b"", b"Z\n"}:
        assert time.monotonic() < until, "its child lives on"
        time.sleep(0.05)


def test_what_an_agent_says_is_masked(tmp_path: Path) -> None:
    talks = program(tmp_path, 'echo "2026-11-25 22:00:00,000 ERROR: login p4ssword failed"; exit 1')
    answer = agents.call(talks, "status", {}, {"password": "p4ssword"}, 5)
    assert (answer.code, answer.said) == (1, "login *** failed")
    with pytest.raises(InvalidInput, match="no fence agent"):
        agents.check_agent("../x", tmp_path)
    with pytest.raises(InvalidInput, match="there is no fence agent"):
        agents.check_agent("fence_none", tmp_path)
    assert agents.check_agent("fence_own", tmp_path) == talks
    assert agents.call(tmp_path / "none", "status", {}, {}, 1).code is None
