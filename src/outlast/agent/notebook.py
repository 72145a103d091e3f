"""Keeps notes: in this host's own file, and in the pool's journal that every host can read.

Rules:
1. Writing a note never blocks and never fails the tick: a thread does it, a full disk costs notes.
2. Both files are lines of JSON and bounded: past their limit the older half is dropped.
3. The pool's journal survives its host: `journal/<slot>.jsonl` on the shared storage.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from outlast.pool.journal import Note

LIMIT_BYTES = 4 << 20


class Notebook:
    def __init__(self, host: str, paths: Iterable[Path]) -> None:
        self._host = host
        self._paths = tuple(paths)
        self._queue: queue.Queue[str | None] = queue.Queue(10_000)
        self._thread = threading.Thread(target=self._run, name="notebook", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def write(self, notes: Iterable[Note]) -> None:
        """Take notes down, with the wall clock of this moment."""
        for one in notes:
            entry = {
                "wall_s": round(time.time(), 6),
                "host": self._host,
                "code": one.code,
                "sentence": one.sentence,
                "fields": dict(one.fields),
            }
            with suppress(queue.Full):
                self._queue.put_nowait(json.dumps(entry, default=str))

    def close(self) -> None:
        """Write out what is waiting, for a second at most."""
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(1.0)

    def _run(self) -> None:
        while True:
            lines = [self._queue.get()]
            with suppress(queue.Empty):
                while True:
                    lines.append(self._queue.get_nowait())
            text = "".join(line + "\n" for line in lines if line is not None)
            for path in self._paths:
                with suppress(OSError):
                    _append(path, text)
            if None in lines:
                return


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        if file.tell() > LIMIT_BYTES:
            kept = path.read_text(encoding="utf-8")[-LIMIT_BYTES // 2 :]
            fresh = path.with_suffix(".new")
            fresh.write_text(kept.partition("\n")[2] + text, encoding="utf-8")
            fresh.replace(path)
            return
        file.write(text)


def read(folder: Path, since_wall_s: float, limit: int) -> list[Mapping[str, object]]:
    """The notes of all hosts in a pool's journal folder, oldest first, at most the newest `limit`.

    A line that is not a whole JSON object (torn by a crash) is left out.
    """
    entries: list[dict[str, object]] = []
    for path in sorted(folder.glob("*.jsonl")):
        with suppress(OSError):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError):
                    entry = json.loads(line)
                    if isinstance(entry, dict) and float(entry.get("wall_s", 0)) >= since_wall_s:
                        entries.append(entry)
    entries.sort(key=lambda e: float(str(e["wall_s"])))
    return list(entries[-limit:])
