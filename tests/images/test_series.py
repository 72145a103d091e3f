"""Names in series: what brackets stand for, and what they must never stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.errors import InvalidInput
from outlast.images.series import COUNT_MAX, counted, matched, series
from outlast.storage.names import check_name


def test_the_two_ways_to_say_twenty() -> None:
    names = [f"web-{n:02d}" for n in range(1, 21)]
    assert series("web-[01-20]") == names
    assert counted("web", 20) == names
    assert counted("web-[01-20]", 20) == names
    assert counted("web", 1) == ["web"]
    assert series("10.0.0.[9-11]/24") == ["10.0.0.9/24", "10.0.0.10/24", "10.0.0.11/24"]


@given(st.integers(0, 9999), st.integers(1, COUNT_MAX), st.integers(0, 6))
def test_a_range_stands_for_each_number_once_and_in_order(low: int, count: int, width: int) -> None:
    high = low + count - 1
    first, last = f"{low:0{width}d}", f"{high:0{width}d}"
    text = f"web-[{first}-{last}]x"
    try:
        names = series(text)
    except InvalidInput:
        assert len(first) != len(last)
        assert first.startswith("0")
        return
    assert [int(name[4:-1]) for name in names] == list(range(low, high + 1))
    assert len(set(names)) == count
    if first.startswith("0") and len(first) > 1:
        assert {len(name) for name in names} == {len(first) + 5}


@given(st.integers(1, COUNT_MAX))
def test_counted_names_are_names_and_all_equally_long(count: int) -> None:
    names = counted("web", count)
    assert len(set(names)) == count
    assert len({len(name) for name in names}) == 1
    assert sorted(names) == names
    assert [check_name(name) for name in names] == names


@given(st.text("[]-0123456789ab", max_size=14))
def test_any_text_is_a_series_or_refused_in_words(text: str) -> None:
    try:
        names = series(text)
    except InvalidInput as error:
        assert error.sentence
        return
    assert 1 <= len(names) <= COUNT_MAX
    assert len(set(names)) == len(names)
    assert not any("[" in name or "]" in name for name in names)


@pytest.mark.parametrize(
    "text",
    [
        "web-[20-01]",
        "[1-2]-[1-2]",
        "web-[01-2]",
        "web-[1-02]",
        "web-[1-501]",
        "web-[a-c]",
        "w[",
        "]",
    ],
)
def test_what_is_no_series(text: str) -> None:
    with pytest.raises(InvalidInput):
        series(text)


def test_counts_that_do_not_fit() -> None:
    with pytest.raises(InvalidInput, match="stands for 3 names, not 4"):
        counted("web-[1-3]", 4)
    with pytest.raises(InvalidInput, match="501 VMs"):
        counted("web", 501)
    with pytest.raises(InvalidInput, match="stands for 2, there are 3"):
        matched("10.0.0.[1-2]/24", 3, "--address")
    assert matched("", 3, "--address") == ["", "", ""]
