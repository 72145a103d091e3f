"""Does a storage answer? Asked again and again, by a write and a read that pass every cache.

Rules:
1. What counts is when the newest answered question BEGAN: what was seen gone before that has its
   writes behind it, once the storage has answered without a break for a while (`settled_ns`).
2. A slow answer is a break, and so is every trouble. A question that hangs is one as well: the
   asking thread may hang for ever, whoever reads the state never does.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import OutlastError, StorageTrouble

PIECE = 4096
FOLDER = ".outlast"
S = 1_000_000_000
SLOW_NS = 3 * S
EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """good_ns: when the newest answered question began; run_ns: since when it answers."""

    good_ns: int = 0
    run_ns: int = 0
    trouble: str = "it was not asked yet"


def next_answer(before: Answer, began_ns: int, ended_ns: int, trouble: str) -> Answer:
    """Pure."""
    if trouble:
        return Answer(before.good_ns, 0, trouble)
    broken = before.trouble or ended_ns - began_ns > SLOW_NS
    return Answer(began_ns, ended_ns if broken else before.run_ns, "")


def judged(answer: Answer, asked_ns: int, now_ns: int, settled_ns: int) -> str:
    """What is wrong at this moment; "" = it answers, and did all the time. Pure.

    asked_ns: when the question that is under way began; 0 = none is.
    """
    if asked_ns and now_ns - asked_ns > SLOW_NS:
        return f"it has not answered for {(now_ns - asked_ns) // S} s"
    if answer.trouble:
        return answer.trouble
    if now_ns - answer.run_ns < settled_ns:
        return "it answers again since a moment"
    return ""


def ask(folder: Path, host: str, *, mounted: bool) -> None:
    """One question; may hang. mounted: something must be mounted there. Raises StorageTrouble."""
    place = folder / FOLDER
    try:
        if mounted and not os.path.ismount(folder):  # else this machine's own disk would answer
            raise StorageTrouble(f"nothing is mounted at {folder}")
        place.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_DSYNC | os.O_CLOEXEC
        fd = os.open(place / host, flags, 0o600)
        try:
            with mmap.mmap(-1, PIECE) as page:
                os.pwritev(fd, [page], 0)
                if os.preadv(fd, [page], 0) != PIECE:
                    raise OSError(errno.EIO, "a short read")
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageTrouble(f"{folder}: {error.strerror}") from error


class Asking:
    """Asks one storage for ever, in a thread of its own."""

    def __init__(
        self, folder: Path, host: str, now_ns: Callable[[], int], *, mounted: bool
    ) -> None:
        self._folder, self._host, self._now_ns = folder, host, now_ns
        self._mounted = mounted
        self._answer, self._asked_ns = Answer(), 0
        self._stop = threading.Event()
        threading.Thread(target=self._run, name=f"ask {folder}", daemon=True).start()

    def close(self) -> None:
        self._stop.set()

    def state(self, settled_ns: int) -> tuple[int, str]:
        """Begin of the newest answered question, and what is wrong now."""
        answer, asked_ns = self._answer, self._asked_ns
        return answer.good_ns, judged(answer, asked_ns, self._now_ns(), settled_ns)

    def _run(self) -> None:
        while not self._stop.is_set():
            began_ns = self._asked_ns = self._now_ns()
            trouble = ""
            try:
                ask(self._folder, self._host, mounted=self._mounted)
            except OutlastError as error:
                trouble = error.sentence
            self._answer = next_answer(self._answer, began_ns, self._now_ns(), trouble)
            self._asked_ns = 0
            self._stop.wait(EVERY_S)
        with contextlib.suppress(OSError):
            (self._folder / FOLDER / self._host).unlink()
