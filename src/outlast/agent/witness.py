"""Does this host reach the pool's witness, an address outside of the pool such as its gateway?

What is known goes into the host's block and decides between halves of a pool (pool/parting.py).
Rules:
1. It is reached while any of the witness's addresses answered within the time after which a link
   counts as down. It is lost when none did for so long *although* they were asked all the time:
   an agent that slept, or has just begun, does not know.
2. What cannot be asked is not known: no witness, no right to ask.
3. That it is lost, and that it is reached again, is one note each.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

from outlast.errors import InvalidInput
from outlast.network.echo import addresses
from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note
from outlast.settings import LINK_LOST_BEATS, PoolSettings, S


class EchoPort(Protocol):
    def ask(self, address: str) -> None: ...

    def answered(self) -> set[str]: ...

    def close(self) -> None: ...


class Witness:
    """seen: facts and settings, None while there are none. echo: makes the port."""

    def __init__(
        self, seen: Callable[[], tuple[Facts, PoolSettings] | None], echo: Callable[[], EchoPort],
        now_ns: Callable[[], int], tell: Callable[[Note], None],
    ) -> None:  # fmt: skip
        self._seen, self._make, self._now_ns, self._tell = seen, echo, now_ns, tell
        self._echo: EchoPort | None = None
        self._text = ""  # of the witness that the rest is about
        self._asked: list[int] = []  # when, as far as that matters
        self._answered_ns: int | None = None
        self._told_lost = False
        self._known: bool | None = None
        self._beat_ns = S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)

    @property
    def known(self) -> bool | None:
        """True: it is reached, False: it is lost, None: that is not known. Never blocks."""
        return self._known

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """Take in answers, judge, ask again."""
        seen = self._seen()
        if seen is None:
            return
        facts, settings = seen
        text, self._beat_ns = facts.agreed(settings).witness, settings.timing.beat_ns
        if text != self._text:
            self._text, self._asked, self._answered_ns = text, [], None
            self._told_lost = False
        wanted: tuple[str, ...] = ()
        with contextlib.suppress(InvalidInput):  # a later version may allow more
            wanted = addresses(text)
        try:
            self._known = self._judged(wanted) if wanted else None
        except OSError:
            self._echo, self._known, self._asked = None, None, []
            return
        self._say(facts.me.host)

    def _judged(self, wanted: tuple[str, ...]) -> bool | None:
        echo = self._echo = self._echo or self._make()
        now_ns = self._now_ns()
        lost_ns = LINK_LOST_BEATS * self._beat_ns
        if echo.answered() & set(wanted):
            self._answered_ns = now_ns
        self._asked = [at for at in self._asked if now_ns - at <= 2 * lost_ns]
        if any(b - a > lost_ns // 2 for a, b in pairwise([*self._asked, now_ns])):
            self._asked = []  # it slept
        for address in wanted:
            echo.ask(address)
        self._asked.append(now_ns)
        if self._answered_ns is not None and now_ns - self._answered_ns < lost_ns:
            return True
        return False if now_ns - self._asked[0] >= lost_ns else None

    def _say(self, host: str) -> None:
        if self._known is None or self._told_lost == (not self._known):
            return
        self._told_lost = not self._known
        code = "witness-lost" if self._told_lost else "witness-back"
        self._tell(note(code, host=host, witness=self._text))

    def _run(self) -> None:
        while not self._stop.wait(self._beat_ns / S):
            self.look()
        if self._echo is not None:
            self._echo.close()
