"""What the lab decides without its machines: what a contest proves, what the page has to type."""

from __future__ import annotations

from typing import Any

import pytest
from lab.contest import judge
from lab.findings import Findings
from lab.install import commands


def result(won: list[int], last: int, **more: Any) -> dict[str, Any]:
    return {"won": won, "last": last, "unknown": [], "wrong": [], "troubles": [],
            "beats_ms": [3.0], "swaps_ms": [9.0], **more}  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (result([1, 3], 3), result([2], 3), "one winner each"),
        (result([1, 2], 3), result([2, 3], 3), "version 2 has two winners"),
        (result([1], 3), result([2], 3), "version 3 was written by nobody"),
        (result([1], 3, unknown=[3]), result([2], 3), "one winner each"),
        (result([1, 4], 3), result([2, 3], 3), "version 4 was acknowledged and is lost"),
        (result([1], 1, wrong=["block 2 went back"]), result([], 1), "block 2 went back"),
        (result([], 0), result([], 0), "0 versions"),
    ],
)
def test_a_contest_is_judged_by_what_both_were_told(
    a: dict[str, Any], b: dict[str, Any], says: str
) -> None:
    found = Findings()
    judge(found, "it", {"a": a, "b": b})
    assert says in found.found[0].answer
    assert found.good == (says == "one winner each")


def test_of_a_host_that_died_nothing_is_demanded() -> None:
    found = Findings()
    judge(found, "it", {"a": result([1, 4], 4)})
    assert found.good, "the versions between may be those of the dead host"


def test_the_install_page_has_at_most_six_commands_and_all_are_the_products() -> None:
    typed = commands()
    assert 0 < len(typed) <= 6
    lines = [line for _, code in typed for line in code.splitlines()]
    assert len(lines) == len(typed), "one command each"
    assert all(line.startswith(("sudo outlast ", "sudo apt-get install ./")) for line in lines)
