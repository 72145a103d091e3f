"""The probe of several hosts, here as several threads on one directory; and who does not come."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from outlast.errors import Conflict, InvalidInput, OutlastError, TimedOut
from outlast.storage import meeting
from outlast.storage.meeting import FOLDER, Together, judge_names, together
from outlast.storage.probe import report_text


class Host(threading.Thread):
    def __init__(self, path: Path, name: str, hosts: int = 2, wait_s: float = 20) -> None:
        super().__init__(name=name, daemon=True)
        self._given = (path, hosts, wait_s)
        self.found: Together | None = None
        self.trouble: OutlastError | None = None
        self.steps: list[tuple[int, int]] = []
        self.start()

    def run(self) -> None:
        path, hosts, wait_s = self._given
        try:
            self.found = together(path, hosts, 15, self._saw, wait_s=wait_s, name=self.name)
        except OutlastError as trouble:
            self.trouble = trouble

    def _saw(self, _step: str, done: int, of: int) -> None:
        self.steps.append((done, of))


@pytest.mark.parametrize("count", [2, 3])
def test_hosts_that_meet_say_the_same(tmp_path: Path, count: int) -> None:
    hosts = [Host(tmp_path, f"host{n}", count) for n in range(count)]
    for host in hosts:
        host.join(60)
        assert host.trouble is None
        counted = [done for done, _ in host.steps if done]
        assert counted == list(range(1, host.steps[-1][1] + 1))
    first = hosts[0].found
    assert first is not None
    assert sorted(first.hosts) == [f"host{n}" for n in range(count)]
    for host in hosts:
        assert host.found is not None
        assert host.found.report.checks[:-1] == first.report.checks[:-1]  # the last counts room
        assert host.found.report.beat == first.report.beat
    report = first.report
    assert report.usable, report_text(report)
    assert len(report.checks) == 4 + count
    assert report.beat.count == 15 * count
    assert f"{count} hosts, 15 rounds, one winner each time" in report_text(report)
    assert list(tmp_path.iterdir()) == []


def test_who_waits_in_vain_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path, "a", wait_s=0.4)
    host.join(20)
    assert isinstance(host.trouble, TimedOut)
    assert "only 1 of 2 hosts came" in host.trouble.sentence
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_host_left_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "STILL_S", 0.5)
    (tmp_path / FOLDER).mkdir()
    for seat in (0, 1):
        (tmp_path / FOLDER / f"seat-{seat}").write_text("{}")
    hosts = [Host(tmp_path, "a")]
    until = time.monotonic() + 20
    while not (tmp_path / FOLDER / "hb").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    hosts.append(Host(tmp_path, "b"))
    for host in hosts:
        host.join(60)
        assert host.trouble is None, host.trouble
    assert list(tmp_path.iterdir()) == []


def test_a_third_host_is_refused_while_two_are_at_it(tmp_path: Path) -> None:
    hosts = [Host(tmp_path, name) for name in "ab"]
    until = time.monotonic() + 20
    while not (tmp_path / FOLDER / "seat-1").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    late = Host(tmp_path, "c")
    for host in [*hosts, late]:
        host.join(60)
    assert [host.trouble for host in hosts] == [None, None]
    assert isinstance(late.trouble, Conflict | TimedOut)


def test_a_mount_that_caches_names_is_no_place_for_a_pool() -> None:
    good = judge_names([{"looked": 8, "stale": 0}, {"looked": 7, "stale": 0}])
    assert (good.good, good.sentence) == (True, "15 fresh names, all found")
    stale = judge_names([{"looked": 8, "stale": 0}, {"looked": 7, "stale": 3}])
    assert not stale.good
    assert stale.needed
    assert "of 15 fresh names 3 were not found" in stale.sentence
    assert "lookupcache=none" in stale.sentence
    assert judge_names([{"failed": "EIO"}, {"looked": 7, "stale": 0}]).sentence == "EIO"
    assert not judge_names([{"looked": 0, "stale": 0}]).good


def test_what_is_no_probe(tmp_path: Path) -> None:
    for hosts, path in ((1, tmp_path), (9, tmp_path), (2, tmp_path / "none")):
        with pytest.raises(InvalidInput):
            together(path, hosts, 15)
    with pytest.raises(InvalidInput):
        together(tmp_path, 2, 5)


def test_the_command_line_of_two_hosts(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "outlast.cli.main", "storage", "probe", str(tmp_path)]
    words += ["--hosts", "2", "--rounds", "10"]
    hosts = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for host in hosts:
        out, err = host.communicate(timeout=60)
        assert host.returncode == 0, err
        assert out.startswith("Probed together by ")
        assert "Usable for a pool" in out
    assert list(tmp_path.iterdir()) == []
