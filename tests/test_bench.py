"""How the benchmark shows its figures; measuring itself is not a test."""

from __future__ import annotations

import pytest
from bench.figures import HEADINGS, figure, rows, table


def test_the_median_is_held_against_the_goal() -> None:
    assert figure("a", "s", [0.1, 0.4, 9.0], 0.5).verdict == "met"
    assert figure("a", "s", [0.1, 0.6, 0.7], 0.5).verdict == "NOT MET"
    assert figure("a", "s", [1.0]).verdict == "-"


def test_nothing_measured_is_an_error_and_not_a_good_figure() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        figure("a", "s", [], 1.0)


def test_a_row_has_least_median_and_most() -> None:
    (row,) = rows([figure("a", "s", [3.0, 1.0, 2.0], 2.5)])
    assert row == ("a", "s", "1.00", "2.00", "3.00", "3", "2.5", "met", "0.0 to 0.0")


def test_the_table_says_its_remarks_below() -> None:
    text = table([figure("a", "s", [1.0], remark="one only")])
    assert text.splitlines()[0].split() == list(HEADINGS)
    assert text.endswith("a: one only")


def test_json_has_everything_the_table_has() -> None:
    told = figure("a", "s", [1.0, 2.0, 4.0], 3.0).json()
    assert (told["min"], told["median"], told["max"], told["verdict"]) == (1.0, 2.0, 4.0, "met")
