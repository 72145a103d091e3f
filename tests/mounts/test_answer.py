"""Whether a storage answers: what counts as a break, and a real directory that goes away."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from outlast.agent.senses import boottime_ns
from outlast.errors import StorageTrouble
from outlast.mounts.answer import (
    FOLDER,
    SLOW_NS,
    Answer,
    Answered,
    Asking,
    S,
    ask,
    judged,
    next_answer,
)

X = 7 * S


def after(*questions: tuple[float, float] | str) -> Answer:
    """Questions by begin and end in seconds; a word is trouble."""
    answer = Answer()
    for one in questions:
        trouble, (began, ended) = (one, (0.0, 0.0)) if isinstance(one, str) else ("", one)
        answer = next_answer(answer, Answered(int(began * S), int(ended * S)), trouble, X)
    return answer


def test_what_was_gone_before_a_question_has_settled_x_after_its_answer() -> None:
    first, second = (10, 11), (13, 13.1)
    early, last = after(first, second, (17.9, 18)), after(first, second, (18, 18.1))
    assert (early.settled_ns, early.steady(X)) == (0, False)
    assert (last.settled_ns, last.steady(X)) == (10 * S, True)
    assert after(first, second, (18, 18.1), (20.1, 20.2)).settled_ns == 13 * S


def test_a_question_that_hung_a_while_has_not_settled_what_ended_meanwhile() -> None:
    steady = [(float(at), at + 0.1) for at in range(0, 20, 2)]
    ended_s, hung = 21, (20.0, 22.9)  # a VM was killed while the storage hung
    answer = after(*steady, hung, (23, 23.1))
    assert answer.steady(X) and answer.settled_ns < ended_s * S
    assert after(*steady, hung, (23, 23.1), (30, 30.1)).settled_ns == 20 * S
    assert after(*steady, hung, (23, 23.1), (30, 30.1), (30.2, 30.3)).settled_ns == 23 * S


def test_only_what_is_needed_is_kept() -> None:
    answer = after(*[(float(at), at + 0.1) for at in range(0, 1000, 2)])
    assert len(answer.run) <= X // (2 * S) + 2


@pytest.mark.parametrize("broken", [[(13, 13 + SLOW_NS / S + 0.1)], ["an I/O error", (15, 16)]])
def test_a_slow_answer_and_a_trouble_break_it(broken: list[tuple[float, float] | str]) -> None:
    steady = [(1.0, 1.1), (9.0, 9.1)]
    answer = after(*steady, *broken)
    assert judged(answer, 0, 1000 * S, X) == "it answers again since a moment"
    assert answer.settled_ns == S, "what had settled stays so, and nothing more has"
    assert judged(after(*steady, *broken, (30, 30.1)), 0, 31 * S, X) == ""
    assert judged(after(*steady, "an I/O error"), 0, 10 * S, X) == "an I/O error"


def test_a_question_that_hangs_is_seen_by_whoever_looks() -> None:
    answer = after((10, 11), (19, 19.1))
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
    asking = Asking(tmp_path, "a", boottime_ns, 0, mounted=False)
    try:
        until = time.monotonic() + 10
        while asking.state()[1] and time.monotonic() < until:
            time.sleep(0.02)
        settled_ns, trouble = asking.state()
        assert trouble == "" and 0 < settled_ns <= boottime_ns()
    finally:
        asking.close()
