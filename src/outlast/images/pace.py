"""How fast and how many: the limits of the pool's own copies.

Rules:
1. The default leaves more than half of a gigabit link, and of a plain disk, to VMs and heartbeats.
2. One copy at a time on each host: the second one waits, so that the limit holds for their sum.
3. No more than a piece of each copy is on its way at a time, so that a beat waits for one piece of
   each host at most.
4. Copies take the share of their rate that the beats of their host leave them (share.py): however
   many hosts copy at once. The agent says it by a file in /run/outlast, which counts while it is
   fresh: a dead one's word stops nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from outlast.errors import StorageTrouble
from outlast.images.share import LEAST, Share, rise

RATE_BYTES_S = 48 << 20
CRAWL_BYTES_S = 16 << 10  # of copies that a VM's own QEMU makes, when others stand still
LOCK, SHARE = "copy.lock", "copy.share"
POLL_S, ROUND_S, LEAST_S = 0.2, 1.0, 0.005
FRESH_S = 10.0
ON_WAY_BYTES, ON_WAY_S = 2 << 20, 0.2  # two pieces of QEMU's, and what it counts by
ARRIVED_S = 30.0  # what was on its way has arrived by then, or a little of it every now and then

Progress = Callable[[str, int, int], None]  # what is done, how much, of how much (0 = not known)


def silent(_what: str, _done: int, _all: int) -> None:
    """Progress that nobody watches."""


class Pace:
    """Holds a flow of bytes down to a rate; 0 = no limit but what the beats leave."""

    def __init__(
        self, bytes_s: int, clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._bytes_s, self._clock, self._sleep = bytes_s, clock, sleep
        self._due = clock()
        self.piece_bytes = share().piece_bytes  # how much to read and write at a time

    def took(self, count: int) -> None:
        """Wait for as long as so many bytes may take. A pause does not give credit for later."""
        while not (now := share()).value:
            self._sleep(POLL_S)
        self.piece_bytes = now.piece_bytes
        if bytes_s := shared(self._bytes_s, now.value):
            at = self._clock()
            self._due = max(self._due, at) + count / bytes_s
            if self._due > at:
                self._sleep(self._due - at)


class Duty:
    """When a program that copies runs, and when it stands still: its share of each round (pure).

    Hosts whose rounds begin at other moments do not all copy at once.
    """

    def __init__(self, begin_s: float) -> None:
        self._begin_s = begin_s

    def look(self, share: float, now_s: float) -> tuple[bool, float]:
        """Does it run now; and for how many seconds that will be so, about."""
        at = (now_s - self._begin_s) % ROUND_S
        runs = at < share * ROUND_S
        until = share * ROUND_S if runs and share < 1 else ROUND_S
        return runs, max(LEAST_S, until - at)


class Brake:
    """Tells a program that copies when it shall stand still, and when it may go on."""

    def __init__(self, stand: Callable[[bool], None]) -> None:
        self._stand, self._stands = stand, False
        self._duty = Duty(secrets.randbelow(1000) / 1000 * ROUND_S)

    def look(self) -> float:
        """For how many seconds nothing changes, about."""
        runs, wait_s = self._duty.look(share().value, time.monotonic())
        if runs is self._stands:
            self._stands = not runs
            self._stand(self._stands)
        return wait_s


class Throttle:
    """How fast a copy may be that a VM's own QEMU makes (pure).

    QEMU begins pieces at the rate it was given, whether or not those before have arrived. So it
    begins slowly, and what it was allowed and has not done yet, which is on its way, stays little.
    A QEMU that had no time to begin what it was allowed has nothing on its way: at a crawl that
    shows, since nothing but what is begun then arrives.
    """

    def __init__(self, rate_bytes_s: int, now_s: float) -> None:
        self._rate, self._given, self._at_s = rate_bytes_s, LEAST, now_s
        self._done = 0
        self._on_way = 0.0
        self._crawled_s, self._arrived = 0.0, 0

    @property
    def bytes_s(self) -> int:
        """The rate now; 0 = no limit."""
        return round(shared(self._rate, self._given))

    def look(self, share: float, now_s: float, done_bytes: int | None = None) -> bool:
        """Is it another one since? done_bytes: None = QEMU itself has only a little on its way."""
        before, past_s = self.bytes_s, now_s - self._at_s
        self._at_s = now_s
        if done_bytes is not None and before:
            moved, self._done = done_bytes - self._done, done_bytes
            self._on_way = max(0.0, self._on_way + before * past_s - moved)
            self._forget(before, past_s, moved)
        if self._on_way > ON_WAY_BYTES + ON_WAY_S * before:
            self._given = min(share, self._given / 2)
        else:
            self._given = min(share, self._given + rise(self._given) * past_s)
        return self.bytes_s != before

    def _forget(self, bytes_s: int, past_s: float, moved: int) -> None:
        if bytes_s > CRAWL_BYTES_S:
            self._crawled_s, self._arrived = 0.0, 0
            return
        self._crawled_s, self._arrived = self._crawled_s + past_s, self._arrived + moved
        if self._crawled_s >= ARRIVED_S:
            if self._arrived <= ON_WAY_BYTES:
                self._on_way = 0.0
            self._crawled_s, self._arrived = 0.0, 0


class QemuCopy:
    """A copy that a VM's own QEMU makes, held to what its host's beats leave."""

    def __init__(self, rate_bytes_s: int, limit: Callable[[int], None]) -> None:
        self._throttle, self._limit = Throttle(rate_bytes_s, time.monotonic()), limit

    @property
    def first_bytes_s(self) -> int:
        """What it begins with."""
        return self._throttle.bytes_s

    def look(self, done_bytes: int | None = None) -> None:
        if self._throttle.look(share().value, time.monotonic(), done_bytes):
            self._limit(self._throttle.bytes_s)


def shared(rate_bytes_s: int, share: float) -> float:
    """What a share of a rate is; a rate without a limit is shared as the default."""
    if share == 1:
        return rate_bytes_s
    return max(CRAWL_BYTES_S, (rate_bytes_s or RATE_BYTES_S) * share)


def share() -> Share:
    """What the beats of this host leave its copies (rule 4)."""
    with contextlib.suppress(OSError, ValueError):
        said = _run_dir() / SHARE
        if abs(time.time() - said.stat().st_mtime) < FRESH_S:
            value, piece_bytes = said.read_text().split()
            return Share(float(value), int(piece_bytes))
    return Share()


def tell_share(share: Share) -> None:
    """For its agent."""
    said = _run_dir() / SHARE
    with contextlib.suppress(OSError):  # then copies keep to their rate, and no more than that
        fresh = said.with_suffix(".new")
        fresh.write_text(f"{share.value:g} {share.piece_bytes}")
        fresh.replace(said)


def open_gently(path: Path) -> IO[bytes]:
    """A file to be written, of which each piece is on the disk before the next one (rule 3)."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_DSYNC | os.O_CLOEXEC
    return open(os.open(path, flags, 0o600), "wb")


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
