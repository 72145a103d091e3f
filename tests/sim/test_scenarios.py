"""Every story of tests/scenarios is played and must lead to exactly the notes it tells.

To record them anew: OUTLAST_REWRITE=1; read the difference, commit only what you can explain.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outlast.sim.scenario import Player

STORIES = sorted((Path(__file__).parent.parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda p: p.stem)
def test_story(path: Path) -> None:
    told = path.read_text(encoding="utf-8")
    happened = Player().play(told)
    if os.environ.get("OUTLAST_REWRITE"):
        path.write_text(happened, encoding="utf-8")
    assert "BROKEN" not in happened
    assert happened == told


def test_stories_begin_in_plain_words() -> None:
    assert len(STORIES) >= 20
    for path in STORIES:
        assert path.read_text(encoding="utf-8").startswith("# "), path.name
