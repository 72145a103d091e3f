"""What a note's evidence says is what the console draws: from the facts to the picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from memory_service import SETTINGS, MemoryService, block

from outlast.agent.notebook import Notebook
from outlast.manager.web.pictures.moment import hearing, traces
from outlast.manager.web.pictures.moment import told as words
from outlast.pool.facts import Seen
from outlast.pool.journal import note
from outlast.pool.traces import Traces
from outlast.settings import S


def told(tmp_path: Path) -> tuple[dict[str, object], MemoryService]:
    """The evidence of "c is silent", as a wrote it: c stands still, b does not hear it."""
    service = MemoryService(tmp_path)
    service.seen[3] = Seen(block(3), 15 * S)
    service.seen[2] = Seen(block(2, heard=frozenset({1})), S)
    service.links[3] = 20 * S
    book = Notebook("a", tmp_path / "1.jsonl", slot=1)
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
    assert "t-missed" in rows["c"].storage and "t-missed" in rows["c"].network
    assert "t-missed" not in rows["b"].storage
    said = words(found, "a")
    assert "c has written nothing for 15.0 s; at 60 s its VMs may be started elsewhere" in said
    assert "nobody hears it; a and b write and hear each other" in said


def test_links_that_fail_are_told_in_plain_words() -> None:
    blocks = {
        name: {"readable": True, "unchanged_s": 1.0, "limit_s": 60.0, "hears": hears}
        for name, hears in (("b", ["a"]), ("c", ["a", "b"]))
    }
    found: dict[str, object] = {
        "blocks": blocks, "limits": {"link_lost_s": 12.0, "beat_s": 2.0},
        "heard_s_ago": {"b": 1.0, "c": 1.0}, "reads": {"good": False},
        "view": {"members": ["a", "b", "c"]},
    }  # fmt: skip
    said = words(found, "a")
    assert said.startswith("a itself does not get through to the storage")
    assert said.endswith("b does not hear c, but c hears b")
    blocks["c"] = {"readable": False, "unchanged_s": 3.0}
    assert "the block of c cannot be read, which proves nothing" in words(found, "a")


def test_beats_are_remembered_one_letter_each(tmp_path: Path) -> None:
    service, kept = MemoryService(tmp_path), Traces()
    timing, beat_ns = SETTINGS.timing, SETTINGS.timing.beat_ns
    for n in range(30):
        for _ in range(3):  # ticks come more often than beats
            service.seen[3] = Seen(block(3), max(0, n - 20) * beat_ns)
            facts = service.facts(0)
            assert facts is not None
            kept.look(n * beat_ns, facts, timing)
    told_of = kept.told(3)
    assert told_of["storage"] == "o" * 16 + "l" + "m" * 7, "24 beats are kept"
    unread = replace(facts, sample=replace(facts.sample, good=False), links={})
    kept.look(40 * beat_ns, unread, timing)
    assert {way: letters[-1] for way, letters in kept.told(3).items()} == {
        "storage": "-", "network": "-",
    }  # fmt: skip
    kept.look(50 * beat_ns, replace(facts, seen={}), timing)
    assert kept.told(3) == {"storage": "", "network": ""}, "a slot that is free is forgotten"


def test_what_was_not_seen_is_not_drawn() -> None:
    assert hearing({}, "a", "x") == "" == words({}, "a")
    assert traces({"blocks": {"b": None}, "limits": {"beat_s": 2}}) == []
    old = {"blocks": {"b": {"readable": True, "hears": [1, 3], "unchanged_s": 1.0}},
           "view": {"members": ["a", "b"]}, "limits": {"link_lost_s": 12}}  # fmt: skip
    assert "b says nothing about a" in hearing(old, "a", "x"), "of an older version"
