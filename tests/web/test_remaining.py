"""How long a wish still takes, in words."""

from __future__ import annotations

import pytest

from outlast.manager.web.remaining import left_words


@pytest.mark.parametrize(("percent", "passed_s", "words"), [
    (None, 600, ""), (50, 4.9, ""), (4.9, 600, ""), (99, 600, ""), (0, 600, ""),
    (50, 5, "less than 10 s left"), (50, 31, "about 40 s left"), (50, 90, "about 90 s left"),
    (50, 91, "about 2 min left"), (25, 60, "about 3 min left"), (5, 284, "about 90 min left"),
    (5, 600, "about 4 h left"), (98.9, 89_910, "about 17 min left"),
])  # fmt: skip
def test_what_is_left(percent: float | None, passed_s: float, words: str) -> None:
    assert left_words(percent, passed_s) == words
