"""The agent's recording on real files: bounded, never in the way, whole after every trouble."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from recorded_pool import lines, record

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
    outcome = replay(recorded(tmp_path / "record", 0, print))
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
    assert replay(recorded(tmp_path, 0, print)).steps == steps
    assert any(p.suffix == ".gz" for p in segments(tmp_path))
    monkeypatch.setattr(ring_module, "KEEP", 2)
    again = made(tmp_path, life)
    turn(again, life, lambda: time.sleep(0.003))
    again.close()
    assert len(segments(tmp_path)) == 2
    assert replay(recorded(tmp_path, 0, print)).same


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
    assert replay(recorded(folder, 0, print)).same


def of_one_segment(folder: Path, life: list[Start | Step], name: str) -> Path:
    """A recording of its own, as a segment that began at this millisecond."""
    ring = made(folder / name, life)
    turn(ring, life)
    ring.close()
    (segment,) = segments(folder / name)
    return segment.rename(folder / f"{int(name):015d}.jsonl")


def test_who_reads_while_the_agent_compresses_misses_nothing(
    tmp_path: Path, life: list[Start | Step]
) -> None:
    one, other = (of_one_segment(tmp_path, life, name) for name in ("1000", "2000"))
    lacks: list[str] = []
    still = list(recorded(tmp_path, 0, lacks.append))
    reading = recorded(tmp_path, 0, lacks.append)
    found = [next(reading)]  # it has seen which files there are
    ring_module._compress(one)
    ring_module._compress(other)
    found += reading
    assert found == still
    assert lacks == []


def test_what_is_damaged_or_was_not_recorded_is_told(
    tmp_path: Path, life: list[Start | Step]
) -> None:
    later = [replace(one, wall_s=one.wall_s + 500) for one in life]
    for number, piece in enumerate((life, life, later), 1):
        path = tmp_path / f"{number:015d}.jsonl"
        path.write_text("\n".join(lines(piece)) + "\n")
        ring_module._compress(path)
    whole = (tmp_path / "000000000000002.jsonl.gz").read_bytes()
    (tmp_path / "000000000000002.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    lacks: list[str] = []
    assert replay(recorded(tmp_path, 0, lacks.append)).same
    assert len(lacks) == 2
    assert "000000000000002.jsonl is damaged" in lacks[0]
    assert "nothing was recorded from" in lacks[1]


def test_a_disk_that_is_full_keeps_what_was_recorded_and_is_used_again(
    small: Callable[[str], Path], fill: Callable[[Path], Path], life: list[Start | Step],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(ring_module, "TROUBLE_PAUSE_S", 0.0)
    monkeypatch.setattr(ring_module, "KEEP", 3)
    folder = small("size=2m") / "record"
    before = made(folder, life)
    turn(before, life)
    before.close()
    (kept,) = segments(folder)
    ballast = fill(folder.parent)
    assert isinstance(life[0], Start)
    ring, core = made(folder, life), core_of(life[0])
    tries = iter(range(20))  # each would have pushed out a segment

    def again() -> bool:
        return turn(ring, life, core=core) > 0

    wait_for(lambda: again() and "No space" in ring.trouble and next(tries) >= 9)
    # the last try is over once its file is gone
    wait_for(lambda: [p.name.removesuffix(".gz") for p in segments(folder)] == [kept.name])
    ballast.unlink()
    wait_for(lambda: again() and len(segments(folder)) > 1 and not ring.trouble)
    ring.close()
    assert replay(recorded(folder, 0, print)).same


def test_a_queue_that_is_full_ends_the_segment(
    tmp_path: Path, life: list[Start | Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "QUEUE_MAX", 10)
    assert isinstance(life[0], Start)
    ring = Ring(tmp_path, "a", life[0].settings)  # nobody empties the queue yet
    turn(ring, life)
    ring.start()
    ring.close()
    assert replay(recorded(tmp_path, 0, print)).steps == 9


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
    starts = [o for o in recorded(tmp_path, 2.5, print) if isinstance(o, Start)]
    assert len(starts) == 2
    assert isinstance(decode(encode(Decision())), Decision)
