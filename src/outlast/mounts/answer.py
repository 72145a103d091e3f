"""Does a storage answer? Asked again and again, by a write and a read that pass every cache.

Rules:
1. Whatever was seen gone before a question began has its writes behind it (`settled_ns`) when that
   question was answered, and one that began X later was too. The answer alone is not enough: the
   storage may have hung until then, and executes what waits in the kernel in no order.
2. For that it must not even seem to have stood still: when an answer ends later than `hang_ns`
   after the begin of the question before, X begins anew.
3. It is away while it is in trouble, while a question takes longer than SLOW_NS, and for X after.
   The asking thread may hang for ever; whoever reads the state never does.
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
from outlast.settings import hang_ns

PIECE = 4096
FOLDER = ".outlast"
S = 1_000_000_000
SLOW_NS = 3 * S
EVERY_NS, AT_LEAST_NS = 2 * S, S // 10
UNASKED, SETTLING = "it was not asked yet", "it answers since a moment only"
BEGINNINGS = (UNASKED, SETTLING)  # as each storage is at first, with nothing wrong


@dataclass(frozen=True, slots=True)
class Pace:
    """settle_ns: X."""

    settle_ns: int

    @property
    def every_ns(self) -> int:
        """How long is waited between two questions."""
        return min(EVERY_NS, max(AT_LEAST_NS, self.settle_ns // 2))

    @property
    def hang_ns(self) -> int:
        return hang_ns(self.every_ns, self.settle_ns)


@dataclass(frozen=True, slots=True)
class Answered:
    """One question."""

    began_ns: int
    ended_ns: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the answers so far say."""

    settled_ns: int = 0  # rule 1
    run_ns: int = 0  # since when it answers
    recent: tuple[Answered, ...] = ()  # those that X has not passed since; rules 1 and 2
    trouble: str = UNASKED


def next_answer(before: Answer, new: Answered, trouble: str, pace: Pace) -> Answer:
    """Pure."""
    if trouble:
        return Answer(before.settled_ns, 0, (), trouble)
    slow = new.ended_ns - new.began_ns > SLOW_NS
    run_ns = new.ended_ns if before.trouble or slow else before.run_ns
    recent = before.recent
    if recent and new.ended_ns - recent[-1].began_ns > pace.hang_ns:
        recent = ()
    behind = [one for one in recent if new.began_ns - one.ended_ns >= pace.settle_ns]
    settled_ns = behind[-1].began_ns if behind else before.settled_ns
    return Answer(settled_ns, run_ns, (*recent[len(behind) :], new), "")


def judged(answer: Answer, asked_ns: int, now_ns: int, settle_ns: int) -> str:
    """What is wrong at this moment; "" = it answers, and has for X. Pure.

    asked_ns: when the question that is under way began; 0 = none is.
    """
    if asked_ns and now_ns - asked_ns > SLOW_NS:
        return f"it has not answered for {(now_ns - asked_ns) // S} s"
    if answer.trouble:
        return answer.trouble
    return "" if now_ns - answer.run_ns >= settle_ns else SETTLING


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
        self._pace, self._mounted = Pace(settle_ns), mounted
        self._answer, self._asked_ns = Answer(), 0
        self._stop = threading.Event()
        threading.Thread(target=self._run, name=f"ask {folder}", daemon=True).start()

    def close(self) -> None:
        self._stop.set()

    def state(self) -> tuple[int, str]:
        """What was gone before this has settled (rule 1), and what is wrong now."""
        answer, asked_ns = self._answer, self._asked_ns
        return answer.settled_ns, judged(answer, asked_ns, self._now_ns(), self._pace.settle_ns)

    def _run(self) -> None:
        while not self._stop.is_set():
            began_ns = self._asked_ns = self._now_ns()
            trouble = ""
            try:
                ask(self._folder, self._host, mounted=self._mounted)
            except OutlastError as error:
                trouble = error.sentence
            new = Answered(began_ns, self._now_ns())
            self._answer = next_answer(self._answer, new, trouble, self._pace)
            self._asked_ns = 0
            self._stop.wait(self._pace.every_ns / S)
        with contextlib.suppress(OSError):
            (self._folder / FOLDER / self._host).unlink()
