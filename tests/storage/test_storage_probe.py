"""The probe on real directories, and its judgement of bad results."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from outlast.errors import InvalidInput, StorageTrouble
from outlast.settings import PRESETS
from outlast.storage.bench import bench_swap, bench_text
from outlast.storage.beneath import mount_of, standstill
from outlast.storage.heartbeat import HeartbeatFile
from outlast.storage.probe import (
    Spread,
    _qualifying,
    judge_direct,
    judge_race,
    probe,
    report_json,
    report_text,
    sync_check,
)
from outlast.storage.racer import Pace, look, race


def test_a_plain_directory_is_usable(tmp_path: Path) -> None:
    steps = []
    report = probe(tmp_path, 40, lambda step, done, total: steps.append((step, done, total)))
    assert report.usable, report_text(report)
    assert report.presets == ("quick", "standard", "tolerant", "patient")
    assert [check.good for check in report.checks] == [True] * 4
    assert 0 < report.beat.p50_ms <= report.beat.p99_ms <= report.beat.max_ms
    assert steps[0][1] == 0
    assert steps[-1] == ("done", 6, 6)
    assert list(tmp_path.iterdir()) == [], "nothing is left"
    text = report_text(report)
    assert "Usable for a pool" in text
    assert "one winner each time" in text
    assert json.loads(json.dumps(report_json(report)))["usable"] is True


def test_bad_paths_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not a directory"):
        probe(tmp_path / "none")
    with pytest.raises(InvalidInput, match="rounds"):
        probe(tmp_path, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
@pytest.mark.parametrize(("options", "match"), [("ro", "read-only"), ("size=64k", "full")])
def test_storage_that_takes_nothing(tmp_path: Path, options: str, match: str) -> None:
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(tmp_path)], capture_output=True
    ).returncode:
        pytest.skip("no mounts here")
    try:
        with pytest.raises(StorageTrouble, match=match):
            probe(tmp_path, 10)
        assert list(tmp_path.iterdir()) == []
        assert mount_of(tmp_path)[0] == "tmpfs"
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("total", "free", "good", "needed", "words"),
    [
        (1 << 40, 1 << 30, True, True, "1024 MiB are free"),
        (1 << 40, 0, False, True, "only 0 MiB are free"),
        (0, 0, False, False, "does not say how much room"),  # a Ceph without its manager
    ],
)
def test_no_room_is_one_thing_and_no_word_of_room_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    total: int, free: int, good: bool, needed: bool, words: str,
) -> None:  # fmt: skip
    usage = SimpleNamespace(total=total, used=total - free, free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    check = sync_check(tmp_path)
    assert (check.good, check.needed) == (good, needed)
    assert words in check.sentence


def test_a_race_with_two_winners_or_none_is_seen(tmp_path: Path) -> None:
    (tmp_path / "prize-0").write_text("1")
    (tmp_path / "prize-1").write_text("0")
    good = judge_race("x", tmp_path, 2, [{"won": [1], "errors": []}, {"won": [0], "errors": []}])
    assert good.good
    for results, words in (
        ([{"won": [0, 1], "errors": []}, {"won": [0], "errors": []}], "1 had two winners"),
        ([{"won": [], "errors": []}, {"won": [0], "errors": []}], "1 none"),
        ([{"won": [0, 1], "errors": []}, {"won": [], "errors": []}], "1 the wrong file"),
        ([{"won": [1], "errors": ["round 0: EIO"]}, {"won": [0], "errors": []}], "EIO"),
        ([{"failed": "hangs"}, {"won": [0], "errors": []}], "hangs"),
    ):
        bad = judge_race("x", tmp_path, 2, results)
        assert not bad.good
        assert words in bad.sentence


def pace_of(path: Path, *values: int) -> Pace:
    path.write_bytes(b"".join(value.to_bytes(8, "little") for value in values))
    return Pace(str(path), len(values))


@pytest.mark.parametrize("kind", ["link", "create"])
def test_a_taken_prize_is_not_won(tmp_path: Path, kind: str) -> None:
    (tmp_path / "prize-1").write_text("other")
    task = {"kind": kind, "folder": str(tmp_path), "me": 0, "rounds": 3}
    assert race(task, pace_of(tmp_path / "pace", 0)) == {"won": [0, 2], "errors": []}


def test_a_reader_notices_an_old_block(tmp_path: Path) -> None:
    HeartbeatFile.create(tmp_path / "hb", "0" * 32)
    with HeartbeatFile(tmp_path / "hb", 1) as area:
        area.write_block((5).to_bytes(8, "little") * 512)

    class Scripted(Pace):
        said = [5, 4, 9, 2**62]  # noqa: RUF012

        def get(self, who: int) -> int:
            return self.said.pop(0)

        def meet(self, me: int, value: int) -> None:
            pass

    (tmp_path / "pace").write_bytes(bytes(16))
    task = {"me": 1, "writer": 0, "hb": str(tmp_path / "hb")}
    result = look(task, Scripted(str(tmp_path / "pace"), 2))
    assert result == {"reads": 3, "stale": 1, "torn": 0}
    assert not judge_direct([{"direct": True}, result]).good
    assert judge_direct([{"direct": True}, {**result, "stale": 0}]).good
    assert not judge_direct([{"direct": False}, {**result, "stale": 0}]).good
    assert not judge_direct([{"direct": True}, {"failed": "x"}]).good


def test_slow_storage_leaves_only_patient_presets() -> None:
    fast = Spread(9, 1, 2, 3)
    slow = Spread(9, 300, 900, 5000)
    assert _qualifying("ext4", fast, fast)[0] == "quick"
    assert _qualifying("nfs4", fast, fast) == ("standard", "tolerant", "patient")
    assert _qualifying("ocfs2", fast, fast) == ("tolerant", "patient")
    assert _qualifying("ext4", slow, fast) == ("standard", "tolerant", "patient")
    assert _qualifying("ext4", fast, Spread(9, 1, 2, 60_000)) == ()


def test_a_swap_costs_no_more_than_twice_the_bare_calls(tmp_path: Path) -> None:
    ratios = []
    for _ in range(5):
        result = bench_swap(tmp_path, 60)
        ratios.append(result.ratio[1])
        if ratios[-1] <= 2:
            break
    assert min(ratios) <= 2, bench_text(result)
    assert list(tmp_path.iterdir()) == []


def test_a_timing_must_outlast_what_the_death_of_one_host_does_to_all() -> None:
    assert "all would end their VMs" in standstill("ocfs2", PRESETS["standard"].fence_ns)
    assert standstill("ocfs2", PRESETS["tolerant"].fence_ns) == ""
    assert standstill("nfs4", PRESETS["quick"].fence_ns) == ""
