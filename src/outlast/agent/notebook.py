"""Keeps notes: in this host's own file, and in the pool's journal that every host can read.

Rules:
1. Writing a note never blocks and never fails the tick: each file has a thread of its own, so that
   a storage that hangs does not keep the local file from being written.
2. What could not be written (full disk, storage away) waits, up to WAITING_MAX notes, and is tried
   again with the next note and every RETRY_S; past that the oldest are lost, never the protocol.
3. Each file is lines of JSON, bounded by size and age: past LIMIT_BYTES, or when its oldest note is
   older than AGE_S, the older part is dropped.
4. The pool's journal survives its host: `journal/<slot>.jsonl` on the shared storage.
5. Each note has an id that no other has, <slot>-<life>-<n>, and names the notes that caused it.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from outlast.model import View
from outlast.pool.causes import Causes, Told
from outlast.pool.evidence import evidence
from outlast.pool.facts import Facts
from outlast.pool.journal import Note
from outlast.pool.traces import Traces
from outlast.settings import Timing

LIMIT_BYTES = 8 << 20
AGE_S = 90 * 86400.0
AGE_LOOK_S = 3600.0  # how often a file is looked through for what is too old
WAITING_MAX = 10_000
RETRY_S = 1.0


class Notebook:
    """slot, host: whose notes; timing: the limits that evidence is shown against."""

    def __init__(self, host: str, paths: Iterable[Path], slot: int = 0) -> None:
        self._host = host
        self._files = [_File(path) for path in paths]
        self._prefix = f"{slot}-{int(time.time() * 1000):x}"
        self._count = 0
        self._causes = Causes()
        self._views: deque[View] = deque(maxlen=2)  # the one followed, and the one before
        self._traces = Traces()

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


class _File:
    """One file and the thread that writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: deque[str] = deque(maxlen=WAITING_MAX)
        self._wake = threading.Condition()
        self._closing = False
        self._torn = True  # the last write may have ended within a line
        self._looked_s = 0.0
        self._thread = threading.Thread(target=self._run, name="notebook", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, line: str) -> None:
        with self._wake:
            self._waiting.append(line)
            self._wake.notify()

    def close(self, wait_s: float) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(wait_s)

    def _run(self) -> None:
        failed = False
        while True:
            with self._wake:
                while not self._closing and (failed or not self._waiting):
                    if not self._wake.wait(RETRY_S if failed else None) or failed:
                        break
                lines, closing = list(self._waiting), self._closing
                self._waiting.clear()
            failed = bool(lines) and not self._append(lines)
            if failed:
                with self._wake:
                    room = WAITING_MAX - len(self._waiting)
                    self._waiting.extendleft(reversed(lines[-room:] if room else []))
            if closing:
                return

    def _append(self, lines: list[str]) -> bool:
        text = "".join(line + "\n" for line in lines)
        try:
            with self._path.open("ab") as file:
                if self._torn and file.tell() > 0:
                    text = "\n" + text
                self._torn = True
                file.write(text.encode())
                size = file.tell()
            self._torn = False
        except OSError:
            return False
        now_s = time.time()
        if size > LIMIT_BYTES or now_s - self._looked_s > AGE_LOOK_S:
            self._looked_s = now_s
            with suppress(OSError):  # no room for the shorter copy: the next time
                _shorten(self._path, now_s - AGE_S, LIMIT_BYTES)
        return True


def _shorten(path: Path, oldest_s: float, limit: int) -> None:
    """Drop what is too old, and the older half of a file that is too long."""
    whole = path.read_bytes()
    kept = whole if len(whole) <= limit else whole[-limit // 2 :].partition(b"\n")[2]
    lines = kept.splitlines(keepends=True)
    first = next((n for n, line in enumerate(lines) if _wall_s(line) >= oldest_s), len(lines))
    if first == 0 and len(kept) == len(whole):
        return
    fresh = path.with_suffix(".new")
    try:
        fresh.write_bytes(b"".join(lines[first:]))
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _wall_s(line: bytes) -> float:
    with suppress(ValueError, AttributeError, TypeError):
        return float(json.loads(line).get("wall_s", 0))
    return 0.0


def read(
    folder: Path, since_wall_s: float, limit: int, until_wall_s: float = math.inf
) -> list[Mapping[str, object]]:
    """The notes of all hosts in a pool's journal folder, oldest first, at most the newest `limit`.

    Causes that another host told are added here. A line that is not a whole JSON object (torn by
    a crash) is left out.
    """
    entries: list[dict[str, object]] = []
    for path in sorted(folder.glob("*.jsonl")):
        with suppress(OSError):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, TypeError):
                    entry = json.loads(line)
                    if not isinstance(entry, dict):
                        continue
                    if since_wall_s <= float(entry.get("wall_s", 0)) <= until_wall_s:
                        entries.append(entry)
    entries.sort(key=lambda e: float(str(e["wall_s"])))
    return list(linked(entries)[-limit:])


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
