"""The recording of one agent: what it knew and decided, in a ring of files of bounded size.

Rules:
1. It never blocks and never fails a tick. What it cannot keep up with, or cannot write (full disk),
   ends the segment; a later one begins with the core's whole memory, so every file stands alone.
2. A segment holds SEGMENT_BYTES of lines at most; a full one is compressed; KEEP are kept, the
   oldest goes first. Files are readable by their owner only.
"""

from __future__ import annotations

import gzip
import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from outlast import __version__
from outlast.incident.codec import encode
from outlast.incident.steps import Start, Step, Writer, read
from outlast.pool.core import PoolCore
from outlast.pool.decision import Decision
from outlast.pool.facts import Facts
from outlast.settings import PoolSettings

SEGMENT_BYTES = 4 << 20
SEGMENT_S = 600.0  # a new start so often: what is exported begins shortly before what is wanted
KEEP = 144  # a day
QUEUE_MAX = 2000
TROUBLE_PAUSE_S = 10.0

Item = tuple[int, float, Facts, Decision]
Begin = tuple[float, object]


class Ring:
    def __init__(self, folder: Path, host: str, settings: PoolSettings) -> None:
        self._folder, self._host, self._settings = folder, host, settings
        self._queue: queue.Queue[Item | Begin | None] = queue.Queue(QUEUE_MAX)
        self._next_s = 0.0  # when the next segment begins (monotonic)
        self._full = threading.Event()  # the writer wants a new segment
        self._failed = threading.Event()  # the same, but not at once
        self._begun = False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def before(self, core: PoolCore) -> None:
        """Call before each step: a segment that is due begins with the core as it is now."""
        now_s = time.monotonic()
        if self._full.is_set():
            self._full.clear()
            self._next_s = now_s
        if self._failed.is_set():
            self._failed.clear()
            self._begun, self._next_s = False, now_s + TROUBLE_PAUSE_S
        if now_s < self._next_s:
            return
        self._next_s = now_s + SEGMENT_S
        try:
            self._begun = self._put((time.time(), encode(core)))
        except TypeError:  # rule 1: rather no recording than no agent
            self._begun = False

    def took(self, now_ns: int, facts: Facts, decision: Decision) -> None:
        """Record one step."""
        if self._begun and not self._put((now_ns, time.time(), facts, decision)):
            self._begun, self._next_s = False, time.monotonic() + TROUBLE_PAUSE_S

    def close(self) -> None:
        """Write out what is waiting, for a second at most."""
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(1.0)

    def _put(self, item: Item | Begin) -> bool:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        writer, path, size = Writer(), None, 0
        while (item := self._queue.get()) is not None:
            try:
                if len(item) == 2:
                    if path is not None:
                        _compress(path)
                    path = self._fresh()
                    line = writer.start(__version__, self._host, item[0], self._settings, item[1])
                    size = 0
                elif path is None:
                    continue
                else:
                    line = writer.step(*item)
                with path.open("a", encoding="utf-8") as file:
                    size += file.write(line + "\n")
                if size > SEGMENT_BYTES:
                    self._full.set()
                    size = 0
            except (OSError, TypeError):
                path = None
                self._failed.set()

    def _fresh(self) -> Path:
        """A new segment's file, after the oldest have made room."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = segments(self._folder)
        for old in found[: max(0, len(found) - KEEP + 1)]:
            old.unlink(missing_ok=True)
        for left in found[-3:]:
            if left.suffix == ".jsonl":  # of an agent that was killed
                _compress(left)
        path = self._folder / f"{int(time.time() * 1000):015d}.jsonl"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        return path


def segments(folder: Path) -> list[Path]:
    """The files of a ring, oldest first."""
    return sorted(p for p in folder.glob("*.jsonl*") if p.name.endswith((".jsonl", ".jsonl.gz")))


def recorded(folder: Path, since_wall_s: float) -> Iterator[Start | Step]:
    """What a ring holds of the time since then, from the start before it. Raises InvalidInput."""
    found = segments(folder)
    first = 0
    for number, path in enumerate(found):
        if int(path.name.partition(".")[0]) / 1000 <= since_wall_s:
            first = number
    for path in found[first:]:
        opened = gzip.open if path.suffix == ".gz" else open
        with suppress(EOFError, FileNotFoundError), opened(path, "rt", encoding="utf-8") as file:
            yield from read(file)


def _compress(path: Path) -> None:
    """Best effort: what cannot be compressed stays as it is."""
    packed = path.with_name(path.name + ".gz")
    try:
        with packed.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw) as file:
            os.fchmod(raw.fileno(), 0o600)
            file.write(path.read_bytes())
        path.unlink()
    except OSError:
        packed.unlink(missing_ok=True)
