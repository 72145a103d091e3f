"""Whether a storage answers: what counts as a break, and a real directory that goes away."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from outlast.agent.senses import boottime_ns
from outlast.errors import StorageTrouble
from outlast.mounts.answer import FOLDER, SLOW_NS, Answer, Asking, S, ask, judged, next_answer

X = 7 * S


def test_an_answer_without_a_break_settles() -> None:
    first = next_answer(Answer(), 10 * S, 11 * S, "")
    assert (first.good_ns, first.run_ns) == (10 * S, 11 * S)
    second = next_answer(first, 13 * S, 14 * S, "")
    assert (second.good_ns, second.run_ns) == (13 * S, 11 * S), "the run goes on"
    assert judged(second, 0, 11 * S + X - 1, X) != "" and judged(second, 0, 11 * S + X, X) == ""


@pytest.mark.parametrize(
    ("ended_ns", "trouble"), [(13 * S + SLOW_NS + 1, ""), (13 * S, "an I/O error")]
)
def test_a_slow_answer_and_a_trouble_break_it(ended_ns: int, trouble: str) -> None:
    before = Answer(10 * S, 0, "")
    after = next_answer(before, 13 * S, ended_ns, trouble)
    if trouble:
        assert judged(after, 0, 1000 * S, X) == trouble
        after = next_answer(after, 20 * S, 21 * S, "")
        ended_ns = 21 * S
    assert after.run_ns == ended_ns
    assert judged(after, 0, ended_ns + X - 1, X) == "it answers again since a moment"


def test_a_question_that_hangs_is_seen_by_whoever_looks() -> None:
    answer = Answer(10 * S, 1, "")
    assert judged(answer, 20 * S, 20 * S + SLOW_NS, X) == ""
    assert judged(answer, 20 * S, 24 * S, X) == "it has not answered for 4 s"


def test_a_directory_answers_and_one_that_is_not_there_does_not(tmp_path: Path) -> None:
    ask(tmp_path, "a", mounted=False)
    assert (tmp_path / FOLDER / "a").stat().st_size == 4096
    with pytest.raises(StorageTrouble, match="No such file"):
        ask(tmp_path / "none", "a", mounted=False)
    with pytest.raises(StorageTrouble, match="nothing is mounted"):
        ask(tmp_path, "a", mounted=True)


def test_asking_goes_on_in_its_own_thread(tmp_path: Path) -> None:
    asking = Asking(tmp_path, "a", boottime_ns, mounted=False)
    try:
        until = time.monotonic() + 10
        while asking.state(0)[1] and time.monotonic() < until:
            time.sleep(0.02)
        good_ns, trouble = asking.state(0)
        assert trouble == "" and 0 < good_ns <= boottime_ns()
    finally:
        asking.close()
