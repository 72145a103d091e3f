"""Does the system inside a VM that was just started live? Told once for each start seen here.

Rules:
1. The first sign that this host saw of the very process is told; none within WATCH_NS is told too.
   After that nobody looks any more.
2. Where nobody looks (Facts.signs is None) nothing is told: not knowing never looks like "no".
3. A VM that ran before, or came here running, has shown that it lives.

It starts, ends and delays nothing: a sign of life is for people.
"""

from __future__ import annotations

from outlast.model import VmState
from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note
from outlast.settings import S

WATCH_NS = 180 * S
SIGNS = {
    "agent": "its guest agent answers",
    "console": "it writes to its serial console",
    "network": "its network card sends",
}


class Life:
    """The memory behind rule 1; safe to lose when the agent restarts."""

    def __init__(self) -> None:
        self._since: dict[str, int] = {}  # VM -> when it was first seen to run

    def began(self, now_ns: int, vm: str) -> None:
        """It was started here and runs."""
        self._since[vm] = now_ns

    def step(self, now_ns: int, facts: Facts) -> list[Note]:
        notes: list[Note] = []
        for vm, since_ns in sorted(self._since.items()):
            local = facts.local.get(vm)
            if local is None:
                del self._since[vm]
                continue
            sign = facts.signs.get(vm) if facts.signs is not None else None
            told = {"vm": vm, "host": facts.me.host}
            if sign is not None and sign.started_ns == local.started_ns:
                after_s = sign.after_ns / S
                notes.append(note("vm-alive", **told, sign=SIGNS[sign.kind], after_s=after_s))
            elif now_ns - since_ns < WATCH_NS or local.state is not VmState.RUNNING:
                continue
            elif facts.signs is not None:
                notes.append(note("vm-mute", **told, for_s=WATCH_NS // S))
            del self._since[vm]
        return notes
