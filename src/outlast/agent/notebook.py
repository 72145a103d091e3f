"""Keeps notes: in this host's own file, and in the pool's journal that every host can read.

Rules:
1. Writing a note never blocks and never fails the tick: each file has a thread of its own
   (notefile.py), so that a storage that hangs does not keep the local file from being written.
2. The pool's journal survives its host: `journal/<slot>.jsonl` on the shared storage. What a host
   could only write to its own disk before it went down, its next life brings there.
3. Each note has an id that no other has, <slot>-<life>-<n>, and names the notes that caused it.
4. Who reads hears of a journal that cannot be read; no note is told twice.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from outlast.agent.notefile import NoteFile
from outlast.model import View
from outlast.pool.causes import Causes, Told
from outlast.pool.evidence import evidence
from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note
from outlast.pool.traces import Traces
from outlast.settings import Timing


class Notebook:
    """slot, host: whose notes. own, shared: the files, on its disk and on the pool's storage."""

    def __init__(self, host: str, own: Path, shared: Path | None = None, slot: int = 0) -> None:
        self._host = host
        self._own, self._shared = NoteFile(own), NoteFile(shared, own) if shared else None
        self._files = [file for file in (self._own, self._shared) if file]
        self._prefix = f"{slot}-{int(time.time() * 1000):x}"
        self._count = 0
        self._causes = Causes()
        self._views: deque[View] = deque(maxlen=2)  # the one followed, and the one before
        self._traces = Traces()

    @property
    def troubles(self) -> dict[str, str]:
        """Why notes wait to be written, by what they would be written to. Never blocks."""
        named = {"notes on its own disk": self._own, "notes on the pool's storage": self._shared}
        return {what: file.trouble for what, file in named.items() if file and file.trouble}

    def start(self) -> None:
        for file in self._files:
            file.start()

    def write(
        self, notes: Iterable[Note], facts: Facts | None = None, timing: Timing | None = None
    ) -> None:
        """Take notes down, with the wall clock of this moment and what `facts` showed.

        At a tick that says nothing too: how beats come in is remembered until a note wants it.
        """
        view = facts.view if facts else None
        if view is not None and (not self._views or self._views[-1].version != view.version):
            self._views.append(view)
        if facts is not None and timing is not None:
            self._traces.look(time.monotonic_ns(), facts, timing)
        for one in notes:
            self._count += 1
            told = Told(f"{self._prefix}-{self._count}", self._host, one.code, dict(one.fields))
            entry: dict[str, object] = {
                "id": told.id,
                "wall_s": round(time.time(), 6),
                "host": self._host,
                "code": one.code,
                "sentence": one.sentence,
                "fields": dict(one.fields),
                "causes": list(self._causes.of(told)),
            }
            if facts is not None and timing is not None:
                before = self._views[0] if len(self._views) > 1 else None
                entry["evidence"] = evidence(facts, timing, one, before, self._traces)
            self._causes.add(told)
            line = json.dumps(entry, default=str)
            for file in self._files:
                file.put(line)

    def close(self) -> None:
        """Write out what is waiting, for a second at most."""
        until = time.monotonic() + 1.0
        for file in self._files:
            file.close(max(0.0, until - time.monotonic()))


def read(
    folder: Path, since_wall_s: float, limit: int, until_wall_s: float = math.inf
) -> list[Mapping[str, object]]:
    """The notes of all hosts in a pool's journal folder, oldest first, at most the newest `limit`.

    Causes that another host told are added here. A line that is not a whole JSON object (torn by
    a crash) is left out.
    """
    found: dict[str, dict[str, object]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            entry = _unread(path.stem, error)
            found[str(entry["id"])] = entry
            continue
        for number, line in enumerate(lines):
            with suppress(ValueError, TypeError):
                told = json.loads(line)
                if not isinstance(told, dict):
                    continue
                if since_wall_s <= float(told.get("wall_s", 0)) <= until_wall_s:
                    found[str(told.get("id") or f"{path.stem}/{number}")] = told
    entries = sorted(found.values(), key=lambda e: float(str(e["wall_s"])))
    return list(linked(entries)[-limit:])


def _unread(slot: str, error: OSError) -> dict[str, object]:
    """In place of the notes of a host."""
    told = note("journal-unread", slot=slot, why=error.strerror)
    return {"id": f"unread-{slot}", "wall_s": time.time(), "host": f"slot {slot}",
            "code": told.code, "sentence": told.sentence, "fields": dict(told.fields)}  # fmt: skip


def linked(entries: list[dict[str, object]]) -> list[dict[str, object]]:
    """The same notes, each with the causes that are found among the notes of all hosts."""
    causes = Causes()
    for number, entry in enumerate(entries):
        fields = entry.get("fields")
        id_ = str(entry.get("id") or f"old-{number}")
        told = Told(
            id_, str(entry.get("host")), str(entry.get("code")),
            fields if isinstance(fields, dict) else {},
        )  # fmt: skip
        entry["id"] = id_
        own = entry.get("causes")
        with suppress(KeyError):  # a line of another version without the fields of its code
            found = causes.of(told)
            known = [str(c) for c in own] if isinstance(own, list) else []
            entry["causes"] = known + [c for c in found if c not in known]
        causes.add(told)
    return entries
