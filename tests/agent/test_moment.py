"""What a note's evidence says is what the console draws: from the facts to the picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from memory_service import SETTINGS, MemoryService, block

from outlast.agent.notebook import Notebook
from outlast.manager.web.pictures.moment import hearing, traces
from outlast.pool.facts import Seen
from outlast.pool.journal import note
from outlast.settings import S


def told(tmp_path: Path) -> tuple[dict[str, object], MemoryService]:
    """The evidence of "c is silent", as a wrote it: c stands still, b does not hear it."""
    service = MemoryService(tmp_path)
    service.seen[3] = Seen(block(3), 15 * S)
    service.seen[2] = Seen(block(2, heard=frozenset({1})), S)
    service.links[3] = 20 * S
    book = Notebook("a", [tmp_path / "1.jsonl"], 1)
    book.start()
    first, said = service.view, note("host-silent", host="c", still_s=61.0, limit_s=60.0)
    book.write([], service.facts(0), SETTINGS.timing)
    assert first is not None
    service.view = replace(first, version=8, reason="c is silent")
    book.write([said], service.facts(0), SETTINGS.timing)
    book.close()
    return json.loads((tmp_path / "1.jsonl").read_text())["evidence"], service


def test_evidence_has_the_blocks_as_read_and_the_view_before_and_after(tmp_path: Path) -> None:
    found, _ = told(tmp_path)
    assert found["blocks"]["c"]["seq"] == 9  # type: ignore[index]
    assert found["blocks"]["b"]["hears"] == ["a"]  # type: ignore[index]
    views = found["view_before"], found["view"]
    assert [v["version"] for v in views] == [7, 8]  # type: ignore[index]
    assert [v["reason"] for v in views] == ["it began", "c is silent"]  # type: ignore[index]


def test_the_moment_is_drawn(tmp_path: Path) -> None:
    found, _ = told(tmp_path)
    drawn = hearing(found, "a", "moment-1")
    assert 'id="moment-1-title"' in drawn
    for said in ("a does not hear c", "b hears a", "b does not hear c", "c hears a"):
        assert f"<title>{said}</title>" in drawn
    assert "c misses its beats on the storage" in drawn
    rows = {trace.host: trace for trace in traces(found)}
    assert rows["c"].words == "unchanged for 15.0 s of 60 s"
    assert "t-missed" in rows["c"].picture
    assert "t-missed" not in rows["b"].picture


def test_what_was_not_seen_is_not_drawn() -> None:
    assert hearing({}, "a", "x") == ""
    assert traces({"blocks": {"b": None}, "limits": {"beat_s": 2}}) == []
    old = {"blocks": {"b": {"readable": True, "hears": [1, 3], "unchanged_s": 1.0}},
           "view": {"members": ["a", "b"]}, "limits": {"link_lost_s": 12}}  # fmt: skip
    assert "b says nothing about a" in hearing(old, "a", "x"), "of an older version"
