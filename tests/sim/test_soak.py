"""A soak goes on where it ended, and says so when it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outlast.errors import InvalidInput
from outlast.sim.seeds import Outcome
from outlast.sim.soak import Tally, load, save, soak


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "build" / "soak.json"
    first = soak(load(path, "abc", 5), 0.01, 1, lambda tally: save(path, tally))
    assert (first.first, first.next) == (5, 5 + first.played)
    second = soak(load(path, "abc", 1), 0.01, 1, lambda tally: save(path, tally))
    assert second.first == 5
    assert second.next == 5 + second.played > first.next
    assert json.loads(path.read_text())["counts"] == {"ok": second.played}
    assert second.different == len(load(path, "abc", 1).courses) > first.different
    said = f"{second.played} schedules ({second.played} ok; {second.different} differ)"
    assert said in second.sentence()


def test_failures_are_kept_with_their_seed() -> None:
    tally = Tally("abc", 1, 1)
    tally.add(Outcome(1, "safety", "I1: web runs on a and b", (), 90.0, -1, "0a"), 0.1)
    tally.add(Outcome(2, "ok", "", (), 90.0, -1, "0b"), 0.1)
    tally.add(Outcome(3, "ok", "", (), 90.0, -1, "0b"), 0.1)
    assert tally.failures == [{"seed": "1", "kind": "safety", "words": "I1: web runs on a and b"}]
    said = "3 schedules (2 ok, 1 safety; 2 differ), 270 host-seconds, 900 a CPU second"
    assert tally.sentence() == said


def test_what_was_played_before_differs_no_more(tmp_path: Path) -> None:
    path = tmp_path / "soak.json"
    course = "00" * 7 + "01"
    first = Tally("abc", 1, 2)
    first.add(Outcome(1, "ok", "", (), 90.0, -1, course), 0.1)
    save(path, first)
    again = load(path, "abc", 1)
    again.add(Outcome(2, "ok", "", (), 90.0, -1, course), 0.1)
    assert (again.played, again.different) == (2, 1)


def test_a_file_of_another_commit_or_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "soak.json"
    save(path, Tally("abc", 1, 9))
    with pytest.raises(InvalidInput, match="is about commit abc, this is def"):
        load(path, "def", 1)
    path.write_text("{}")
    with pytest.raises(InvalidInput, match="is no result of a soak"):
        load(path, "abc", 1)
    assert load(tmp_path / "none.json", "abc", 3) == Tally("abc", 3, 3)
