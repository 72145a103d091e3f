"""Copies stand still while their host's beats are late, and go on after that."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import image_files as make
import pytest

from outlast.agent.copy_brake import CopyBrake, is_late
from outlast.images import pace, qemu_img
from outlast.images.pace import Brake, Pace, late, tell_late
from outlast.settings import PRESETS, S

LIMIT_S = 60.0


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OUTLAST_RUN", str(tmp_path))
    return tmp_path


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_quarter_of_the_fence_window_is_late(preset: str) -> None:
    fence_ns = PRESETS[preset].fence_ns
    began = {"started_ns": 100 * S}
    assert not is_late(began, 100 * S + fence_ns // 4, fence_ns)
    assert is_late(began, 100 * S + fence_ns // 4 + 1, fence_ns)
    assert not is_late({}, 100 * S, fence_ns), "no beats, nothing to lose"
    assert 4 * PRESETS[preset].beat_ns <= fence_ns, "beats in time are not late"


def test_the_agent_says_it_and_takes_it_back() -> None:
    said: list[bool] = []
    now, word = [100 * S], {"sample": {"started_ns": 99 * S}}
    brake = CopyBrake(lambda: word, lambda: now[0], 40 * S, said.append)
    brake.look()
    now[0] = 110 * S
    brake.look()
    word["sample"] = {"started_ns": 109 * S}
    brake.look()
    assert said == [False, True, False]


def test_the_word_of_a_dead_agent_stops_nothing(run_dir: Path) -> None:
    assert not late()
    tell_late(True)
    assert late()
    long_ago = time.time() - pace.FRESH_S - 1
    os.utime(run_dir / pace.LATE, (long_ago, long_ago))
    assert not late()
    tell_late(False)
    tell_late(False)


def test_bytes_that_are_fetched_wait(run_dir: Path) -> None:
    waited: list[float] = []

    def sleep(for_s: float) -> None:
        waited.append(for_s)
        if len(waited) == 3:
            tell_late(False)

    tell_late(True)
    Pace(0, sleep=sleep).took(1 << 20)
    assert waited == [pace.POLL_S] * 3
    Pace(0, sleep=sleep).took(1 << 20)
    assert len(waited) == 3


def test_a_brake_tells_changes_alone() -> None:
    told: list[bool] = []
    brake = Brake(told.append)
    for is_late_now in (False, True, True, False, False, True):
        tell_late(is_late_now)
        brake.look()
    assert told == [True, False, True]


def stopped_children() -> list[str]:
    me = str(os.getpid())
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = stat.read_text().rsplit(")", 1)
        except OSError:
            continue
        if rest.split()[:2] == ["T", me]:
            found.append(name)
    return found


def test_a_copy_under_way_stands_still_and_then_is_whole(tmp_path: Path) -> None:
    source, target = make.raw(tmp_path / "disk.img"), tmp_path / "copy.qcow2"
    tell_late(True)
    copy = threading.Thread(
        target=qemu_img.convert,
        args=(source, "raw", target, "qcow2", 0, lambda _: None),
        daemon=True,
    )
    copy.start()
    wait_for(lambda: bool(stopped_children()))
    tell_late(True)  # the agent goes on saying so
    assert copy.is_alive()
    tell_late(False)
    copy.join(LIMIT_S)
    assert make.same_disk(source, "raw", target, "qcow2")


def test_a_copy_that_stands_still_can_be_broken_off(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def percent(_: float) -> None:
        raise Enough

    tell_late(True)
    with pytest.raises(Enough):
        qemu_img.convert(
            make.raw(tmp_path / "disk.img"), "raw", tmp_path / "c", "qcow2", 1 << 10, percent
        )
    assert stopped_children() == []
