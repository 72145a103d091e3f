"""How fast and how many: the limits of the pool's own copies.

Rules:
1. The default leaves more than half of a gigabit link, and of a plain disk, to VMs and heartbeats.
2. One copy at a time on each host: the second one waits, so that the limit holds for their sum.
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
LOCK = "copy.lock"
POLL_S = 0.2

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


@contextlib.contextmanager
def turn(tell: Callable[[str], None]) -> Iterator[None]:
    """This host's turn to copy; waits for it. Raises StorageTrouble."""
    path = Path(os.environ.get("OUTLAST_RUN", "/run/outlast")) / LOCK
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
