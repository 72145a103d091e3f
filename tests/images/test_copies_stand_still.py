"""Copies give way to the beats of their host, and stand still while one is late."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import image_files as make
import pytest

from outlast.agent.copy_brake import CopyBrake
from outlast.images import pace, qemu_img
from outlast.images.pace import Brake, Duty, Pace, Throttle, share, tell_share
from outlast.images.share import LEAST, PIECE_LEAST, RISE, Share, judged, slow_ns
from outlast.settings import MS, PRESETS, S

LIMIT_S = 60.0
STILL = Share(0.0)


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OUTLAST_RUN", str(tmp_path))
    return tmp_path


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def beat(seq: int, took_ns: int) -> dict[str, int]:
    return {"seq": seq, "started_ns": 100 * S, "finished_ns": 100 * S + took_ns}


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_slow_beats_halve_the_share_and_others_bring_it_back(preset: str) -> None:
    timing, share = PRESETS[preset], Share()
    slow, now_ns = slow_ns(timing), 100 * S + timing.beat_ns
    for seq in range(1, 10):
        share = judged(share, beat(seq, slow + 1), now_ns, timing, 3)
        assert share.value == max(LEAST, 0.5**seq)
        assert judged(share, beat(seq, slow + 1), now_ns, timing, 3) == share, "once for each"
    for seq in range(10, 30):
        share = judged(share, beat(seq, slow), now_ns, timing, 3)
    assert share.value == 1
    late = judged(share, beat(30, 1), 100 * S + timing.hang_ns + 1, timing, 3)
    assert late.value == 0
    assert judged(late, beat(31, 1), now_ns, timing, 3).value == LEAST
    assert judged(late, {}, now_ns, timing, 3) == Share(), "no beats, nothing to lose"


def test_pieces_are_large_where_beats_are_fast_and_hosts_few() -> None:
    def piece(took_ms: int, hosts: int) -> int:
        timing = PRESETS["standard"]
        return judged(Share(), beat(1, took_ms * MS), 100 * S, timing, hosts).piece_bytes >> 10

    assert [piece(took_ms, 4) for took_ms in (1, 5, 20, 100, 800, 2000)] == [
        1024, 512, 128, 64, 64, 64,
    ]  # fmt: skip
    assert [piece(5, hosts) for hosts in (0, 1, 2, 8, 64)] == [1024, 1024, 1024, 256, 64]


def test_the_agent_says_it_again_and_again() -> None:
    said: list[Share] = []
    now, word = [100 * S], {"sample": beat(1, 9 * MS), "view": {"members": {"1": {}, "2": {}}}}
    brake = CopyBrake(lambda: word, lambda: now[0], lambda: PRESETS["standard"], said.append)
    brake.look()
    now[0] = 110 * S
    brake.look()
    assert said == [Share(1.0, 512 << 10, 1), Share(0.0, PIECE_LEAST, 1)]


def test_the_word_of_a_dead_agent_stops_nothing(run_dir: Path) -> None:
    assert share() == Share()
    tell_share(STILL)
    assert share() == STILL
    os.utime(run_dir / pace.SHARE, (0, 0))
    assert share() == Share()
    (run_dir / pace.SHARE).write_text("half of a wor")
    assert share() == Share()


def test_our_own_copies_wait_until_the_beats_are_back() -> None:
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            tell_share(Share(0.5, 128 << 10))

    tell_share(STILL)
    ours = Pace(1 << 20, clock=lambda: 0.0, sleep=sleep)
    ours.took(1 << 20)
    assert waited == [pace.POLL_S] * 3 + [2.0]
    assert ours.piece_bytes == 128 << 10
    tell_share(Share())
    Pace(0, sleep=sleep).took(1 << 20)
    assert len(waited) == 4


def test_a_program_runs_for_its_share_of_each_round() -> None:
    duty = Duty(0.25)
    for value in (0.0, LEAST, 0.5, 1.0):
        ran, at = 0.0, 0.0
        while at < 8:
            runs, wait_s = duty.look(value, at)
            ran, at = ran + runs * wait_s, at + wait_s
        assert ran / at == pytest.approx(value, abs=0.05)


def test_a_copy_of_a_vms_qemu_begins_slowly_and_gives_way_at_once() -> None:
    rate = 64 << 20
    throttle = Throttle(rate, 0.0)
    assert throttle.bytes_s == rate * LEAST
    for second in range(1, 30):
        before = throttle.bytes_s
        throttle.look(1.0, float(second))
        assert throttle.bytes_s <= min(2 * before, before + rate * RISE)
    assert throttle.bytes_s == rate
    assert not throttle.look(1.0, 30.0)
    assert throttle.look(0.125, 30.3)
    assert throttle.bytes_s == rate // 8
    assert throttle.look(0.0, 31.0)
    assert throttle.bytes_s == pace.CRAWL_BYTES_S


def test_a_copy_of_a_vms_qemu_that_lags_gets_less_until_it_has_arrived() -> None:
    throttle, done = Throttle(64 << 20, 0.0), 0
    for tick in range(100):
        done += round(throttle.bytes_s * 0.3)
        throttle.look(1.0, tick * 0.3, done)
    before = throttle.bytes_s
    assert before == 64 << 20
    for tick in range(100, 110):  # nothing arrives
        throttle.look(1.0, tick * 0.3, done)
    assert throttle.bytes_s <= before >> 8
    done += 64 << 20
    for tick in range(110, 120):
        done += round(throttle.bytes_s * 0.3)
        throttle.look(1.0, tick * 0.3, done)
    assert throttle.bytes_s > before >> 8


def test_a_qemu_that_had_no_time_for_its_copy_gets_its_rate_again() -> None:
    """What it was allowed and did not begin is lost, and not on its way for ever."""
    rate = 48 << 20
    throttle, done, tick = Throttle(rate, 0.0), 0, 0
    for could in (50 << 20, 100 << 10, 50 << 20):  # bytes a second, for two minutes each
        for _ in range(400):
            tick += 1
            done += round(min(throttle.bytes_s, could) * 0.3)
            throttle.look(1.0, tick * 0.3, done)
        assert (throttle.bytes_s == rate) is (could >= rate)


def test_a_brake_tells_changes_alone() -> None:
    told: list[bool] = []
    brake = Brake(told.append)
    for now in (Share(), STILL, STILL, Share(), Share(), STILL):
        tell_share(now)
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
    tell_share(STILL)
    copy = threading.Thread(
        target=qemu_img.convert,
        args=(source, "raw", target, "qcow2", 0, lambda _: None),
        daemon=True,
    )
    copy.start()
    wait_for(lambda: bool(stopped_children()))
    tell_share(STILL)  # the agent goes on saying so
    assert copy.is_alive()
    tell_share(Share())
    copy.join(LIMIT_S)
    assert make.same_disk(source, "raw", target, "qcow2")


def test_a_copy_that_stands_still_can_be_broken_off(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def percent(_: float) -> None:
        raise Enough

    tell_share(STILL)
    with pytest.raises(Enough):
        qemu_img.convert(
            make.raw(tmp_path / "disk.img"), "raw", tmp_path / "c", "qcow2", 1 << 10, percent
        )
    assert stopped_children() == []
