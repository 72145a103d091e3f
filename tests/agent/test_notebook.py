"""The notebook on real files: bounded, whole lines, waiting through trouble."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import SETTINGS, MemoryService

from outlast.agent import notefile
from outlast.agent.notebook import Notebook, read
from outlast.agent.record_watch import RecordWatch
from outlast.model import Lease, LocalVm, VmState
from outlast.pool.evidence import evidence
from outlast.pool.facts import Held
from outlast.pool.journal import Note, note
from outlast.settings import S


def wait_for(true: Callable[[], bool], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def entries(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def test_notes_name_their_causes_and_carry_evidence(tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    facts = service.picture.facts
    book = Notebook("a", tmp_path / "1.jsonl", slot=1)
    book.start()
    book.write(
        [note("host-silent", host="c", still_s=61.0, limit_s=60.0),
         note("order-given", vm="web", host="a", why="c lost it, proof: silent (61 s)")],
        facts, SETTINGS.timing,
    )  # fmt: skip
    book.close()
    silent, order = entries(tmp_path / "1.jsonl")
    assert order["causes"] == [silent["id"]]
    evidence = silent["evidence"]
    assert isinstance(evidence, dict)
    assert evidence["limits"]["dead_s"] == 60
    assert evidence["blocks"]["c"]["unchanged_s"] == 1
    assert evidence["view"]["members"] == ["a", "b", "c"]


def test_a_note_that_decides_nothing_says_what_its_host_stood_on(tmp_path: Path) -> None:
    facts = MemoryService(tmp_path).picture.facts
    assert facts is not None
    facts = replace(
        facts, leases={"web": Held(4, Lease("web", 1, facts.term, "start"), 0)},
        local={"web": LocalVm("web", VmState.RUNNING, pid=77)},
    )  # fmt: skip
    said = evidence(facts, SETTINGS.timing, note("vm-runs", vm="web", host="a"))
    assert said["lease"] == {"version": 4, "holder": "a", "via": "start", "proof": None}
    assert said["process"] == {"state": "running", "pid": 77, "reason": ""}
    assert said["guard"]["state"] == "open"  # type: ignore[index]
    assert "blocks" not in said, "what others did is told where something is decided"


def test_two_lives_of_an_agent_share_no_ids(tmp_path: Path) -> None:
    for _ in range(2):
        book = Notebook("a", tmp_path / "1.jsonl", slot=1)
        book.start()
        book.write([note("vm-stopped", vm="web")])
        book.close()
        time.sleep(0.002)
    assert len({e["id"] for e in entries(tmp_path / "1.jsonl")}) == 2


def test_storage_that_is_away_keeps_neither_the_local_file_nor_its_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notefile, "RETRY_S", 0.05)
    away, local = tmp_path / "pool/1.jsonl", tmp_path / "local.jsonl"
    book = Notebook("a", local, away, 1)
    book.start()
    book.write([note("vm-stopped", vm="web")])
    wait_for(local.exists)
    assert not away.exists()
    away.parent.mkdir()
    wait_for(lambda: away.exists() and len(entries(away)) == 1)
    book.close()


def test_a_disk_that_is_full_costs_no_more_than_what_is_past_the_bound(
    tmp_path: Path, small: Callable[[str], Path], fill: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(notefile, "WAITING_MAX", 50)
    monkeypatch.setattr(notefile, "RETRY_S", 0.02)
    disk, shared = small("size=256k"), tmp_path / "1.jsonl"
    book = Notebook("a", disk / "own.jsonl", shared, 1)
    book.start()
    fill(disk).unlink()  # it can be filled
    book.write([note("vm-stopped", vm="before")])
    wait_for(lambda: shared.exists() and len(entries(disk / "own.jsonl")) == 1)
    ballast, told = fill(disk), list[Note]()
    for first in range(0, 120, 40):
        book.write([note("vm-stopped", vm=f"web{n:0200}") for n in range(first, first + 40)])
        wait_for(lambda first=first: len(entries(shared)) == first + 41)  # type: ignore[misc]
    wait_for(lambda: list(book.troubles) == ["notes on its own disk"])
    assert "No space" in book.troubles["notes on its own disk"]
    assert len(entries(disk / "own.jsonl")) == 1, "no half of a line is left by many tries"
    now_ns = [0]
    watch = RecordWatch("a", lambda: book.troubles, told.append, lambda: now_ns[0])
    for now_ns[0] in (0, 9 * S, 18 * S):
        watch.look()
    assert [n.code for n in told] == ["record-waits"], "once, and not at once"
    assert "a cannot write notes on its own disk: No space left" in told[0].sentence
    ballast.unlink()
    wait_for(lambda: not book.troubles)
    watch.look()
    assert [n.code for n in told] == ["record-waits", "record-back"]
    book.close()
    told_there = [str(e["sentence"])[-16:] for e in entries(disk / "own.jsonl")]
    assert told_there[0] == "before is stopped"[-16:]
    newest = [f"{n:05} is stopped" for n in range(70, 120)]
    assert told_there[-50:] == newest, "the oldest of what waited are lost"
    assert len(told_there) < 121


def test_what_a_host_could_only_tell_its_own_disk_is_brought_to_the_pool(tmp_path: Path) -> None:
    own, shared = tmp_path / "own.jsonl", tmp_path / "journal/1.jsonl"
    shared.parent.mkdir()

    def live(vm: str) -> None:
        book = Notebook("a", own, shared, 1)
        book.start()
        book.write([note("vm-stopped", vm=vm)])
        book.close()

    live("first")
    away = shared.rename(tmp_path / "away")
    shared.mkdir()  # nothing can be written there: the storage is away
    live("second")
    live("third")
    shared.rmdir()
    away.rename(shared)
    live("fourth")
    told = [e["fields"]["vm"] for e in read(shared.parent, 0, 10)]  # type: ignore[index]
    assert told == ["first", "second", "third", "fourth"]


def test_notes_of_another_pool_are_not_brought_along(tmp_path: Path) -> None:
    for pool in ("former", "new"):
        (tmp_path / pool).mkdir()
        book = Notebook("a", tmp_path / "own.jsonl", tmp_path / pool / "1.jsonl", 1)
        book.start()
        book.write([note("vm-stopped", vm=pool)])
        book.close()
    assert [e["fields"] for e in read(tmp_path / "new", 0, 10)] == [{"vm": "new"}]


def test_a_journal_that_cannot_be_read_is_told_and_no_note_twice(tmp_path: Path) -> None:
    book = Notebook("a", tmp_path / "1.jsonl", slot=1)
    book.start()
    book.write([note("vm-stopped", vm="web")])
    book.close()
    with (tmp_path / "1.jsonl").open("a") as file:
        file.write((tmp_path / "1.jsonl").read_text())
    (tmp_path / "2.jsonl").mkdir()
    assert [(e["code"], e["sentence"]) for e in read(tmp_path, 0, 10)] == [
        ("vm-stopped", "web is stopped"),
        ("journal-unread", "the notes of slot 2 cannot be read: Is a directory"),
    ]  # fmt: skip


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    path.write_text('{"wall_s": 1, "host": "a", "co')
    book = Notebook("a", path, slot=1)
    book.start()
    book.write([note("vm-stopped", vm="web")])
    book.close()
    assert [e["code"] for e in read(tmp_path, 0, 10)] == ["vm-stopped"]


def test_a_long_file_loses_its_older_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notefile, "LIMIT_BYTES", 4000)
    path = tmp_path / "1.jsonl"
    book = Notebook("a", path, slot=1)
    book.start()
    for n in range(100):
        book.write([note("vm-stopped", vm=f"web{n}")])
        wait_for(lambda n=n: path.exists() and f'"web{n}"' in path.read_text())  # type: ignore[misc]
    book.close()
    left = entries(path)
    assert path.stat().st_size <= 4300
    assert left[-1]["sentence"] == "web99 is stopped"
    assert len(left) < 50


def test_what_is_too_old_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    path.write_text('{"wall_s": 5, "code": "vm-stopped"}\n')
    book = Notebook("a", path, slot=1)
    book.start()
    book.write([note("vm-stopped", vm="web")])
    book.close()
    assert [e["fields"] for e in entries(path)] == [{"vm": "web"}]


def test_evidence_names_what_cannot_be_read(tmp_path: Path) -> None:
    facts = MemoryService(tmp_path).picture.facts
    assert facts is not None
    seen = {**facts.seen, 3: replace(facts.seen[3], block=None)}
    said = evidence(replace(facts, seen=seen), SETTINGS.timing, note("host-anew", host="c"))
    assert '"readable": false' in json.dumps(said)
