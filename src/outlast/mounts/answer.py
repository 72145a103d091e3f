"""Does a storage answer? Asked again and again, by a write and a read that pass every cache.

Rules:
1. Whatever was seen gone before a question began has its writes behind it when that question was
   answered and one that began X later was too, without a break (`settled_ns` of a state). The
   answer alone is not enough: the storage may have hung until then, and executes what waits in
   the kernel in no order.
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
EVERY_S, AT_LEAST_S = 2.0, 0.1


@dataclass(frozen=True, slots=True)
class Answered:
    """One question."""

    began_ns: int
    ended_ns: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the answers so far say: settled_ns as in rule 1; run: the answers since the last break,
    of those that are X old only the newest."""

    settled_ns: int = 0
    run: tuple[Answered, ...] = ()
    trouble: str = "it was not asked yet"

    def steady(self, settle_ns: int) -> bool:
        """It has answered for X."""
        return bool(self.run) and _settles(self.run[0], self.run[-1], settle_ns)


def _settles(one: Answered, newest: Answered, settle_ns: int) -> bool:
    return newest.began_ns - one.ended_ns >= settle_ns


def next_answer(before: Answer, new: Answered, trouble: str, settle_ns: int) -> Answer:
    """Pure."""
    if trouble:
        return Answer(before.settled_ns, (), trouble)
    slow = new.ended_ns - new.began_ns > SLOW_NS
    run = (*(() if slow else before.run), new)
    behind = [one for one in run if _settles(one, new, settle_ns)]
    settled_ns = behind[-1].began_ns if behind else before.settled_ns
    return Answer(settled_ns, run[max(len(behind) - 1, 0) :], "")


def judged(answer: Answer, asked_ns: int, now_ns: int, settle_ns: int) -> str:
    """What is wrong at this moment; "" = it answers, and has for X. Pure.

    asked_ns: when the question that is under way began; 0 = none is.
    """
    if asked_ns and now_ns - asked_ns > SLOW_NS:
        return f"it has not answered for {(now_ns - asked_ns) // S} s"
    if answer.trouble:
        return answer.trouble
    return "" if answer.steady(settle_ns) else "it answers again since a moment"


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
    """Asks one storage for ever, in a thread of its own. settle_ns: X."""

    def __init__(
        self, folder: Path, host: str, now_ns: Callable[[], int], settle_ns: int, *, mounted: bool
    ) -> None:
        self._folder, self._host, self._now_ns = folder, host, now_ns
        self._settle_ns, self._mounted = settle_ns, mounted
        self._every_s = min(EVERY_S, max(AT_LEAST_S, settle_ns / S / 2))
        self._answer, self._asked_ns = Answer(), 0
        self._stop = threading.Event()
        threading.Thread(target=self._run, name=f"ask {folder}", daemon=True).start()

    def close(self) -> None:
        self._stop.set()

    def state(self) -> tuple[int, str]:
        """What was gone before this has settled (rule 1), and what is wrong now."""
        answer, asked_ns = self._answer, self._asked_ns
        return answer.settled_ns, judged(answer, asked_ns, self._now_ns(), self._settle_ns)

    def _run(self) -> None:
        while not self._stop.is_set():
            began_ns = self._asked_ns = self._now_ns()
            trouble = ""
            try:
                ask(self._folder, self._host, mounted=self._mounted)
            except OutlastError as error:
                trouble = error.sentence
            new = Answered(began_ns, self._now_ns())
            self._answer = next_answer(self._answer, new, trouble, self._settle_ns)
            self._asked_ns = 0
            self._stop.wait(self._every_s)
        with contextlib.suppress(OSError):
            (self._folder / FOLDER / self._host).unlink()
