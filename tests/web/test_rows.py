"""How many rows of a list lie elsewhere than when it was made."""

from __future__ import annotations

import pytest

from outlast.manager.web.rows import MARK, changed, order_of


def order(names: str) -> str:
    return order_of(("pool", name) for name in names)


@pytest.mark.parametrize(("then", "now", "count"), [
    ("abcdef", "abcdef", 0), ("", "", 0), ("", "ab", 2), ("ab", "", 2),
    ("abcdef", "bcdefa", 1), ("abcdef", "fabcde", 1),  # past all others
    ("abcdef", "badcfe", 3), ("abcdef", "fedcba", 5),
    ("abcdef", "abdefg", 1),  # one went out, and another one came up behind
    ("abcdef", "xbcdef", 1), ("abcdef", "abcde", 1), ("abcd", "xyab", 2),
])  # fmt: skip
def test_rows_that_lie_elsewhere(then: str, now: str, count: int) -> None:
    assert changed(order(then), order(now)) == count


def test_vms_of_one_name_in_two_pools_are_two() -> None:
    assert changed(order_of([("a", "vm"), ("b", "vm")]), order_of([("b", "vm"), ("a", "vm")])) == 1
    assert len(order_of([("a", "vm"), ("b", "vm")])) == 2 * MARK


def test_what_is_no_order_is_no_trouble() -> None:
    assert changed("x", order("ab")) == 2
