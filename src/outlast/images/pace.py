"""How fast and how many: the limits of the pool's own copies.

Rules:
1. The default leaves more than half of a gigabit link, and of a plain disk, to VMs and heartbeats.
2. One copy at a time on each host: the second one waits, so that the limit holds for their sum.
3. While this host's own beats are late, its copies stand still: however many hosts copy at once.
   The agent says so by a file in /run/outlast, which counts while it is fresh: a dead one's word
   stops nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from outlast.errors import StorageTrouble

RATE_BYTES_S = 48 << 20
CRAWL_BYTES_S = 64 << 10  # of copies that a VM's own QEMU makes, when others stand still
LOCK, LATE = "copy.lock", "beats.late"
POLL_S = 0.2
FRESH_S = 10.0

Progress = Callable[[str, int, int], None]  # what is done, how much, of how much (0 = not known)


def silent(_what: str, _done: int, _all: int) -> None:
    """Progress that nobody watches."""


class Pace:
    """Holds a flow of bytes down to a rate; 0 = no limit."""

    def __init__(
        self, bytes_s: int, clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._bytes_s, self._clock, self._sleep = bytes_s, clock, sleep
        self._due = clock()

    def took(self, count: int) -> None:
        """Wait for as long as so many bytes may take. A pause does not give credit for later."""
        if self._bytes_s:
            now = self._clock()
            self._due = max(self._due, now) + count / self._bytes_s
            if self._due > now:
                self._sleep(self._due - now)
        while late():
            self._sleep(POLL_S)


class Brake:
    """Tells a copy when it shall stand still, and when it may go on."""

    def __init__(self, stand: Callable[[bool], None]) -> None:
        self._stand, self._stands = stand, False

    def look(self) -> None:
        if late() is not self._stands:
            self._stands = not self._stands
            self._stand(self._stands)


def late() -> bool:
    """Are the beats of this host late (rule 3)?"""
    try:
        return abs(time.time() - (_run_dir() / LATE).stat().st_mtime) < FRESH_S
    except OSError:
        return False


def tell_late(is_late: bool) -> None:
    """For its agent."""
    with contextlib.suppress(OSError):  # then copies keep to their rate, and no more than that
        if is_late:
            (_run_dir() / LATE).write_text("the copies of this host stand still\n")
        else:
            (_run_dir() / LATE).unlink(missing_ok=True)


@contextlib.contextmanager
def turn(tell: Callable[[str], None]) -> Iterator[None]:
    """This host's turn to copy; waits for it. Raises StorageTrouble."""
    path = _run_dir() / LOCK
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageTrouble(f"{path} cannot be opened: {error.strerror}") from error
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                tell("waiting for another copy on this host to end")
                time.sleep(POLL_S)
        yield
    finally:
        os.close(fd)


def _run_dir() -> Path:
    return Path(os.environ.get("OUTLAST_RUN", "/run/outlast"))
