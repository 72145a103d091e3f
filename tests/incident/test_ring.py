"""The agent's recording on real files: bounded, never in the way, whole after every trouble."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_pool import record

from outlast.incident import ring as ring_module
from outlast.incident.codec import decode, encode
from outlast.incident.replay import core_of, replay
from outlast.incident.ring import Ring, recorded, segments
from outlast.incident.steps import Start, Step, read
from outlast.pool.core import PoolCore
from outlast.pool.decision import Decision

STORY = Path(__file__).parent.parent / "scenarios/hosts/one_host_dies.txt"


@pytest.fixture(scope="module")
def life() -> list[Start | Step]:
    return list(read(record(STORY).lives[0]))


def wait_for(true: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def turn(
    ring: Ring, life: list[Start | Step], pause: Callable[[], None] = lambda: None,
    core: PoolCore | None = None,
) -> int:  # fmt: skip
    """Run a core on the facts as an agent does, the ring beside it; the steps it made."""
    assert isinstance(life[0], Start)
    core, steps = core or core_of(life[0]), 0
    for one in life:
        if isinstance(one, Step):
            ring.before(core)
            ring.took(one.now_ns, one.facts, core.step(one.now_ns, one.facts))
            steps += 1
            pause()
    return steps


def made(folder: Path, life: list[Start | Step]) -> Ring:
    assert isinstance(life[0], Start)
    ring = Ring(folder, "a", life[0].settings)
    ring.start()
    return ring


def test_what_was_recorded_replays(tmp_path: Path, life: list[Start | Step]) -> None:
    ring = made(tmp_path / "record", life)
    steps = turn(ring, life)
    ring.close()
    outcome = replay(recorded(tmp_path / "record", 0))
    assert outcome.same, outcome.difference
    assert outcome.steps == steps
    assert (tmp_path / "record").stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in segments(tmp_path / "record")} == {0o600}


def test_full_segments_follow_each_other_without_a_gap_and_stay_few(
    tmp_path: Path, life: list[Start | Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "SEGMENT_BYTES", 30_000)
    ring = made(tmp_path, life)
    steps = turn(ring, life, lambda: time.sleep(0.003))
    ring.close()
    assert len(segments(tmp_path)) > 2
    assert replay(recorded(tmp_path, 0)).steps == steps
    assert any(p.suffix == ".gz" for p in segments(tmp_path))
    monkeypatch.setattr(ring_module, "KEEP", 2)
    again = made(tmp_path, life)
    turn(again, life, lambda: time.sleep(0.003))
    again.close()
    assert len(segments(tmp_path)) == 2
    assert replay(recorded(tmp_path, 0)).same


def test_trouble_with_the_disk_costs_a_piece_and_never_a_tick(
    tmp_path: Path, life: list[Start | Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "TROUBLE_PAUSE_S", 0.05)
    folder = tmp_path / "record"
    folder.write_text("in the way")
    ring = made(folder, life)
    assert isinstance(life[0], Start)
    core = core_of(life[0])  # an agent has one core for all its life
    steps = turn(ring, life, core=core)
    folder.unlink()

    def again() -> bool:
        turn(ring, life, core=core)
        return bool(segments(folder))

    wait_for(again)
    ring.close()
    assert steps > 0
    assert replay(recorded(folder, 0)).same


def test_a_queue_that_is_full_ends_the_segment(
    tmp_path: Path, life: list[Start | Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "QUEUE_MAX", 10)
    assert isinstance(life[0], Start)
    ring = Ring(tmp_path, "a", life[0].settings)  # nobody empties the queue yet
    turn(ring, life)
    ring.start()
    ring.close()
    assert replay(recorded(tmp_path, 0)).steps == 9


def test_an_export_begins_before_the_time_that_is_wanted(
    tmp_path: Path, life: list[Start | Step]
) -> None:
    for name in ("000000000001000", "000000000002000", "000000000003000"):
        (tmp_path / f"{name}.jsonl").write_text("")
        ring = made(tmp_path / name, life)
        turn(ring, life[:5])
        ring.close()
        (segment,) = segments(tmp_path / name)
        (tmp_path / f"{name}.jsonl").write_bytes(segment.read_bytes())
    starts = [o for o in recorded(tmp_path, 2.5) if isinstance(o, Start)]
    assert len(starts) == 2
    assert isinstance(decode(encode(Decision())), Decision)
