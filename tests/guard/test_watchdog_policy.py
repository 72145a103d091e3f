"""Which watchdog is used, when it is refused, and what sysrq may do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from guard_process import FakeWatchdog, until

from outlast.errors import InvalidInput
from outlast.guard import host
from outlast.guard.watchdog import (
    FIRST_PID_NAMESPACE,
    Watchdog,
    WatchdogTrouble,
    open_device,
    sysrq,
    sysrq_problem,
)


@pytest.fixture
def dog(tmp_path: Path) -> Iterator[FakeWatchdog]:
    dog = FakeWatchdog(tmp_path / "dog")
    yield dog
    dog.close()


def test_off_never_touches_the_device(dog: FakeWatchdog) -> None:
    watchdog = Watchdog("off", dog.device)
    watchdog.arm(1)
    watchdog.pet(1)
    watchdog.disarm()
    assert (watchdog.timeout_s, watchdog.refusal, dog.heard) == (0, "", [])


def test_automatic_goes_without_and_says_why(tmp_path: Path) -> None:
    watchdog = Watchdog("automatic", str(tmp_path / "none"))
    watchdog.arm(1)
    assert watchdog.refusal == ""
    assert "cannot be opened" in str(watchdog.status()["problem"])


def test_required_refuses_until_there_is_one(tmp_path: Path, dog: FakeWatchdog) -> None:
    watchdog = Watchdog("required", str(tmp_path / "none"))
    assert watchdog.refusal
    watchdog.arm(1)
    assert "cannot be opened" in watchdog.refusal
    watchdog.path = dog.device
    watchdog.arm(1)
    assert watchdog.refusal == "" and watchdog.timeout_s == 1


def test_another_time_out_arms_again(dog: FakeWatchdog) -> None:
    watchdog = Watchdog("automatic", dog.device)
    watchdog.arm(5)
    watchdog.arm(5)
    watchdog.arm(9)
    watchdog.abandon()
    until(lambda: dog.heard == ["arm 5", "disarm", "arm 9"], "the words arrive")
    assert dog.running


def test_a_file_that_is_no_watchdog_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WatchdogTrouble, match="does not behave like a watchdog"):
        open_device(str(tmp_path / "file"), 5)


def test_a_device_that_went_away_is_said(tmp_path: Path) -> None:
    dog = FakeWatchdog(tmp_path / "dog")
    watchdog = Watchdog("automatic", dog.device)
    watchdog.arm(5)
    dog.close()
    watchdog.pet(1)
    assert "cannot be petted" in watchdog.problem
    assert watchdog.pets == 0


def test_sysrq_is_refused_inside_a_namespace(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("")  # an inode that is not the first namespace's
    assert (tmp_path / "pid").stat().st_ino != FIRST_PID_NAMESPACE
    assert "namespace of a larger machine" in sysrq_problem(tmp_path / "pid")
    assert "unknown" in sysrq_problem(tmp_path / "absent")


def test_sysrq_writes_its_letter_or_says_why_not(tmp_path: Path) -> None:
    trigger = tmp_path / "trigger"
    assert "No such file" in sysrq(trigger)
    assert not trigger.exists()
    trigger.write_text("")
    assert sysrq(trigger) == ""
    assert trigger.read_text() == "b"


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"reset": 5}', '{"reset": "never"}', '{"watchdog": "maybe"}', '{"cgroup": "x"}'],
)
def test_a_host_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "host.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"host\.json"):
        host.read(tmp_path / "host.json")


def test_the_host_file_has_defaults_and_ignores_what_is_others(tmp_path: Path) -> None:
    file = tmp_path / "host.json"
    assert host.read(file) == host.HostPart("watchdog", "automatic", "/dev/watchdog", "")
    file.write_text('{"slot": 3, "reset": "none", "cgroup": "/sys/x"}')
    assert host.read(file) == host.HostPart("none", "automatic", "/dev/watchdog", "/sys/x")
    places = host.places({"OUTLAST_RUN": str(tmp_path)})
    assert (places.socket, places.host_file) == (
        tmp_path / "guard.sock", Path("/etc/outlast/host.json"),
    )  # fmt: skip
