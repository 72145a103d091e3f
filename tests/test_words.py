"""How sentences count and list."""

from __future__ import annotations

import pytest

from outlast.words import listed, plural


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("", ""), ("a", "a"), ("ab", "a and b"), ("abc", "a, b and c"),
        ("abcd", "a, b, c and 1 more"), ("abcdefg", "a, b, c and 4 more"),
    ],
)  # fmt: skip
def test_names_are_listed(names: str, said: str) -> None:
    assert listed(list(names), 3) == said


def test_what_is_counted_has_its_number() -> None:
    assert plural(1, "VM moves", "VMs move") == "1 VM moves"
    assert plural(1234, "VM") == "1,234 VMs"
