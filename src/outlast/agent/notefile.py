"""One file of notes and the thread that writes it.

Rules:
1. `put` never blocks. What could not be written (full disk, storage away) waits, up to WAITING_MAX
   lines, and is tried again with the next line and every RETRY_S; past that the oldest are lost.
2. What was written is on the disk: a host may be reset in the next moment, and its last word
   counts.
3. A file is lines of JSON, bounded by size and age: past LIMIT_BYTES, or when its oldest note is
   older than AGE_S, the older part is dropped.
4. A file with a `source` first takes over what former lives wrote to that one only: what follows
   there after the newest line of this one. Without such a line it takes nothing, since the source
   may tell of another pool.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

LIMIT_BYTES = 8 << 20
AGE_S = 90 * 86400.0
AGE_LOOK_S = 3600.0  # how often a file is looked through for what is too old
WAITING_MAX = 10_000
RETRY_S = 1.0
TAIL_BYTES = 1 << 20  # of a file and its source is looked at


class NoteFile:
    def __init__(self, path: Path, source: Path | None = None) -> None:
        self._path = path
        self._left = b""  # the end of the source, as it was before this life; then nothing
        if source:
            with suppress(OSError):
                self._left = _tail(source)
        self._waiting: deque[str] = deque(maxlen=WAITING_MAX)
        self._wake = threading.Condition()
        self._closing = False
        self._torn = True  # the last write may have ended within a line
        self._looked_s = 0.0
        self.trouble = ""  # why nothing can be written now; "" = it can
        self._thread = threading.Thread(target=self._run, name="notes", daemon=True)

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
                if failed and not self._closing:
                    self._wake.wait(RETRY_S)
                while not (failed or self._closing or self._waiting or self._left):
                    self._wake.wait()
                lines, closing = list(self._waiting), self._closing
                self._waiting.clear()
            try:
                self._write(lines)
                failed, self.trouble = False, ""
            except OSError as error:
                failed, self.trouble = True, error.strerror or str(error)
                with self._wake:
                    room = WAITING_MAX - len(self._waiting)
                    self._waiting.extendleft(reversed(lines[-room:] if room else []))
            if closing:
                return

    def _write(self, lines: list[str]) -> None:
        """Raises OSError."""
        if self._left:
            lines = [*_after(self._left, _tail(self._path)), *lines]
        if lines:
            self._append("".join(line + "\n" for line in lines))
        self._left = b""

    def _append(self, text: str) -> None:
        with self._path.open("ab", buffering=0) as file:
            before = file.tell()
            if self._torn and before:
                text = "\n" + text
            self._torn = True
            try:
                _write_all(file.fileno(), text.encode())
            except OSError:
                file.truncate(before)  # else each try would leave a piece on a disk that is full
                raise
            size = file.tell()
        self._torn = False
        now_s = time.time()
        if size > LIMIT_BYTES or now_s - self._looked_s > AGE_LOOK_S:
            self._looked_s = now_s
            with suppress(OSError):  # no room for the shorter copy: the next time
                _shorten(self._path, now_s - AGE_S, LIMIT_BYTES)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
    os.fsync(fd)


def _tail(path: Path) -> bytes:
    """The end of a file; nothing when there is none. Raises OSError."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read()
    except FileNotFoundError:
        return b""


def _after(source: bytes, tail: bytes) -> list[str]:
    """The lines of `source` that follow the newest one of `tail`."""
    known = {id_: n for n, line in enumerate(source.splitlines()) if (id_ := _id(line))}
    newest = next((id_ for line in reversed(tail.splitlines()) if (id_ := _id(line))), "")
    if newest not in known:
        return []
    left = source.splitlines()[known[newest] + 1 :]
    return [line.decode("utf-8", "replace") for line in left if _id(line)]


def _id(line: bytes) -> str:
    """Of a note; "" for what is none, or not a whole one."""
    with suppress(ValueError, AttributeError):
        return str(json.loads(line).get("id") or "")
    return ""


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
