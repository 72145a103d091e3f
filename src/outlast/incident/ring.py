"""The recording of one agent: what it knew and decided, in a ring of files of bounded size.

Rules:
1. It never blocks and never fails a tick. What it cannot keep up with, or cannot write (full disk),
   ends the segment; a later one begins with the core's whole memory, so every file stands alone.
2. A segment holds SEGMENT_BYTES of lines at most; a full one is compressed; KEEP are kept, the
   oldest goes first. Files are readable by their owner only.
3. A segment that could not be begun leaves no file: else a disk that stays full would push out,
   empty file by empty file, what was recorded before.
4. Who reads while the agent writes misses nothing, and hears of what is damaged or not there.
"""

from __future__ import annotations

import gzip
import os
import queue
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from outlast import __version__
from outlast.errors import InvalidInput
from outlast.incident.codec import encode
from outlast.incident.steps import Start, Step, Writer, read
from outlast.pool.core import PoolCore
from outlast.pool.decision import Decision
from outlast.pool.facts import Facts
from outlast.settings import PoolSettings

SEGMENT_BYTES = 32 << 20  # a thirtieth of it once compressed
SEGMENT_S = 600.0  # a new start so often: what is exported begins shortly before what is wanted
KEEP = 144  # a day, unless a pool of more than 32 hosts fills segments sooner
QUEUE_MAX = 2000
TROUBLE_PAUSE_S = 10.0
GAP_S = 60.0  # an agent that runs records every beat

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
        self.trouble = ""  # why nothing is recorded now; "" = it is
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
        writer, size = Writer(), 0
        path: Path | None = None
        empty: Path | None = None  # the segment that was begun and holds no line yet
        while (item := self._queue.get()) is not None:
            try:
                if len(item) == 2:
                    if path is not None:
                        _compress(path)
                    path, size = None, 0
                    path = empty = self._fresh()
                    line = writer.start(__version__, self._host, item[0], self._settings, item[1])
                elif path is None:
                    continue
                else:
                    line = writer.step(*item)
                with path.open("a", encoding="utf-8") as file:
                    size += file.write(line + "\n")
                empty, self.trouble = None, ""
                if size > SEGMENT_BYTES:
                    self._full.set()
                    size = 0
            except (OSError, TypeError) as error:
                if empty is not None:  # rule 3
                    empty.unlink(missing_ok=True)
                path = empty = None
                self.trouble = getattr(error, "strerror", None) or str(error)
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


def recorded(
    folder: Path, since_wall_s: float, lacks: Callable[[str], None]
) -> Iterator[Start | Step]:
    """What a ring holds of the time since then, from the start before it.

    lacks: hears, in a sentence, of each part that should be there and is not.
    """
    begun = {int(p.name.partition(".")[0]): p.name.removesuffix(".gz") for p in segments(folder)}
    known = sorted(begun)
    first = max((n for n in known if n / 1000 <= since_wall_s), default=0)
    before_s = 0.0
    for number in known:
        if number < first:
            continue
        try:
            with _opened(folder / begun[number]) as file:
                for one in read(file):
                    if before_s and one.wall_s - before_s > GAP_S:
                        lacks(f"nothing was recorded {_span(before_s, one.wall_s)}")
                    before_s = one.wall_s
                    yield one
        except (EOFError, OSError, ValueError, zlib.error, InvalidInput) as error:
            lacks(f"{begun[number]} is damaged or cannot be read: {error}")


def _opened(path: Path) -> TextIO:
    """A segment as it is now: the agent may be compressing it."""
    try:
        return path.open(encoding="utf-8")
    except FileNotFoundError:
        return gzip.open(f"{path}.gz", "rt", encoding="utf-8")


def _span(from_s: float, to_s: float) -> str:
    one, other = (datetime.fromtimestamp(at, UTC).astimezone() for at in (from_s, to_s))
    return f"from {one:%Y-%m-%d %H:%M:%S} to {other:%Y-%m-%d %H:%M:%S}"


def _compress(path: Path) -> None:
    """Best effort: what cannot be compressed stays as it is, and is never gone for a moment."""
    packed = path.with_name(path.name + ".gz")
    fresh = packed.with_name(packed.name + ".new")
    try:
        with fresh.open("wb") as raw:
            os.fchmod(raw.fileno(), 0o600)
            with gzip.GzipFile("", "wb", 6, raw) as file, path.open("rb") as lines:
                shutil.copyfileobj(lines, file)
            raw.flush()
            os.fsync(raw.fileno())
        fresh.replace(packed)
        path.unlink()
    except OSError:
        fresh.unlink(missing_ok=True)
