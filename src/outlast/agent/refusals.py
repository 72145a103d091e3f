"""Refused calls as notes: who was refused what and why, told once a minute at most for each kind.

Rules:
1. Every refused call is counted; the first of a kind is a note at once. What follows of the same
   kind (caller and call) within EACH_S is counted and told with the next note of that kind.
2. Bounded: of more than KINDS_MAX kinds within a minute the newest share one kind, so that nobody
   fills the journal by calling in ever new ways.
"""

from __future__ import annotations

from outlast.pool.journal import Note, note

EACH_S = 60.0
KINDS_MAX = 50
OTHERS = ("others", "calls")


class Refusals:
    """host: the one that refuses."""

    def __init__(self, host: str) -> None:
        self._host = host
        self.count = 0
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}  # told when, more since then

    def refused(self, now_s: float, caller: str, call: str, why: str) -> Note | None:
        """What is to be told of this refused call; None when its kind was told just now.

        now_s: seconds of a clock that never goes back. caller: as it is known, "" = not at all.
        """
        self.count += 1
        kind = (caller or "a stranger", call)
        if kind not in self._kinds and len(self._kinds) >= KINDS_MAX:
            self._forget(now_s)
            kind = kind if len(self._kinds) < KINDS_MAX else OTHERS
        told_s, more = self._kinds.get(kind, (-EACH_S, 0))
        if now_s - told_s < EACH_S:
            self._kinds[kind] = (told_s, more + 1)
            return None
        self._kinds[kind] = (now_s, 0)
        what = f" ({more} more like it since the last note)" if more else ""
        return note(
            "call-refused", host=self._host, caller=kind[0], call=kind[1], why=why, more=what
        )

    def _forget(self, now_s: float) -> None:
        """Drop the kinds of which nothing is left to tell."""
        self._kinds = {
            kind: told for kind, told in self._kinds.items() if now_s - told[0] < EACH_S or told[1]
        }
