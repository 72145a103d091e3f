"""Tells when this host cannot write its notes or its recording, and when it can again.

Rules:
1. Only what lasts is told: storage that is away for a moment has notes of its own.
2. It only tells. What waits, and what is lost, is for notefile.py and incident/ring.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from outlast.pool.journal import Note, note
from outlast.settings import S

LASTS_NS = 5 * S


class RecordWatch:
    def __init__(
        self, host: str, troubles: Callable[[], Mapping[str, str]], tell: Callable[[Note], None],
        now_ns: Callable[[], int],
    ) -> None:  # fmt: skip
        """troubles: why it cannot be written, by what cannot."""
        self._host, self._troubles, self._tell, self._now_ns = host, troubles, tell, now_ns
        self._since_ns: dict[str, int] = {}
        self._told: set[str] = set()

    def look(self) -> None:
        """Look once."""
        found, now_ns = self._troubles(), self._now_ns()
        for what in self._since_ns.keys() - found.keys():
            del self._since_ns[what]
            if what in self._told:
                self._told.discard(what)
                self._tell(note("record-back", host=self._host, what=what))
        for what, why in found.items():
            if now_ns - self._since_ns.setdefault(what, now_ns) < LASTS_NS or what in self._told:
                continue
            self._told.add(what)
            self._tell(note("record-waits", host=self._host, what=what, why=why))
