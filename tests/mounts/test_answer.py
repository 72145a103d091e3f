"""Whether a storage answers: what counts as a break, and a real directory that goes away."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from outlast.agent.senses import boottime_ns
from outlast.errors import StorageTrouble
from outlast.mounts.answer import (
    FOLDER,
    SETTLING,
    SLOW_NS,
    Answer,
    Answered,
    Asking,
    Pace,
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
        answer = next_answer(answer, Answered(int(began * S), int(ended * S)), trouble, Pace(X))
    return answer


def every_2s(first: float, count: int) -> list[tuple[float, float]]:
    return [(first + 2.1 * n, first + 2.1 * n + 0.1) for n in range(count)]


def test_what_was_gone_before_a_question_has_settled_x_after_its_answer() -> None:
    began_ns = [int(began * S) for began, _ in every_2s(10, 6)]
    assert after(*every_2s(10, 4)).settled_ns == 0, "10.1 to 16.3"
    assert after(*every_2s(10, 5)).settled_ns == began_ns[0], "10.1 to 18.4"
    assert after(*every_2s(10, 6)).settled_ns == began_ns[1]


@pytest.mark.parametrize("hung", [(12.1, 14.0), (13.7, 13.8)])
def test_x_begins_anew_when_it_seems_to_have_stood_still(hung: tuple[float, float]) -> None:
    """It answers, and yet nothing may have been executed meanwhile."""
    first = (10.0, 10.1)
    answer = after(first, hung, *every_2s(15, 4))
    assert judged(answer, 0, 22 * S, X) == "", "it is there"
    assert answer.settled_ns == int(hung[0] * S)
    assert after(first, hung, *every_2s(15, 3)).settled_ns == 0


def test_only_what_is_needed_is_kept() -> None:
    assert len(after(*every_2s(0, 500)).recent) <= X // (2 * S) + 1


@pytest.mark.parametrize("broken", [[(27, 27 + SLOW_NS / S + 0.1)], ["an I/O error", (27, 28)]])
def test_a_slow_answer_and_a_trouble_break_it(broken: list[tuple[float, float] | str]) -> None:
    steady = every_2s(10, 8)
    answer = after(*steady, *broken)
    assert judged(answer, 0, 32 * S, X) == SETTLING
    assert judged(answer, 0, 38 * S, X) == ""
    assert answer.settled_ns == after(*steady).settled_ns, "what had settled stays so"
    assert judged(after(*steady, "an I/O error"), 0, 30 * S, X) == "an I/O error"


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
    begun_ns = boottime_ns()
    asking = Asking(tmp_path, "a", boottime_ns, S // 2, mounted=False)
    try:
        until = time.monotonic() + 30
        while asking.state()[0] < begun_ns and time.monotonic() < until:
            time.sleep(0.02)
        settled_ns, trouble = asking.state()
        assert trouble == "" and begun_ns <= settled_ns <= boottime_ns()
    finally:
        asking.close()
