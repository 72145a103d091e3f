"""Who else writes the own slot: a machine whose system disk was cloned, or one with an old slot.

Rules:
1. What this pulse wrote, what it found when it began, and what was acknowledged last are no
   strangers; neither is a block of this host and boot.
2. Two sightings are a conflict. T_dead of good reads without one forgets the first.
"""

from __future__ import annotations

from collections.abc import Callable

from outlast.guard.pulse_facts import Identity, Sample
from outlast.model import Block

STRANGERS_MAX = 2


class Strangers:
    def __init__(self, me: Identity, decode: Callable[[bytes, int], Block | None]) -> None:
        self._me, self._decode = me, decode
        self._inherited: bytes | None = None  # what stood in the own slot before this pulse wrote
        self._sightings = 0

    def begin(self) -> None:
        """What stands there now is taken as it is."""
        self._inherited = None

    def look(self, sample: Sample, own: bytes, acked: bytes | None, *, calm: bool) -> str:
        """Whose block was seen in the own slot; "" when nobody else's. calm: rule 2."""
        if self._inherited is None:
            self._inherited = own
        known = (sample.written, acked, self._inherited)
        raws = [raw for raw in (sample.before, own) if raw is not None and raw not in known]
        mine = (self._me.host_uuid, self._me.boot_id)
        blocks = [self._decode(raw, self._me.slot) for raw in raws]
        strangers = [b for b in blocks if b and (b.host_uuid, b.boot_id) != mine]
        if sample.written is None:
            self._inherited = own
        if not strangers:
            self._sightings = 0 if calm else self._sightings
            return ""
        self._sightings += 1
        return f"another host ({strangers[0].host_uuid}) wrote the own slot"

    @property
    def conflict(self) -> str:
        """ "" while it may still have been an accident."""
        return f"{self._sightings} times" if self._sightings >= STRANGERS_MAX else ""
