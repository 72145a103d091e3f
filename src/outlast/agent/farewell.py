"""A host that is switched off or leaves by wish says goodbye first: nobody waits for its silence.

Rules:
1. It waits while a VM here still has a wish to move; then the pulse leaves the pool: the guard ends
   what is left, and the block says so. The machine is switched off when that block was written.
2. The wish names this boot: after the next one it says nothing. Who only leaves stays on.
3. Once begun it is carried through: what was said on the storage cannot be taken back.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Sequence

from outlast.model import BlockState, GuardState
from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note

log = logging.getLogger("outlast.agent.farewell")


class Farewell:
    """boot_id: of this boot. leave: tells the pulse. power_off: switches the machine off."""

    def __init__(
        self, boot_id: str, leave: Callable[[], object], power_off: Callable[[], None]
    ) -> None:
        self._boot_id, self._leave, self._power_off = boot_id, leave, power_off
        self._left = self._off = False
        self._closed_seq = 0  # the beat at which the pulse was first seen to say closed

    def step(self, facts: Facts) -> list[Note]:
        """What to say; called at every tick."""
        record = facts.slots.get(facts.me.slot)
        if record is None or self._boot_id not in (record.power_off, record.leave) or self._off:
            return []
        switch_off = record.power_off == self._boot_id
        if not self._left:
            if moving(facts):
                return []
            self._left = True
            self._leave()
            what = "is switched off by wish" if switch_off else "leaves the pool by wish"
            return [note("host-leaves", host=facts.me.host, what=what)]
        ended = facts.guard.state is not GuardState.OPEN and not facts.guard.populated
        if ended and facts.block_state is BlockState.CLOSED and self._written(facts):
            self._off = True
            if switch_off:
                self._power_off()
        return []

    def _written(self, facts: Facts) -> bool:
        """True when a whole beat has begun and was confirmed since the pulse said closed."""
        self._closed_seq = self._closed_seq or facts.sample.seq
        return facts.sample.good and facts.sample.seq >= self._closed_seq + 2


def moving(facts: Facts) -> list[str]:
    """VMs of this host that still have a wish to move."""
    return [
        vm
        for vm, held in facts.leases.items()
        if (held.value.slot, held.value.term) == (facts.me.slot, facts.term)
        and (record := facts.vms.get(vm)) is not None
        and record.value.wanted
        and record.value.move is not None
        and not record.value.move.failed
    ]


def switch_off(command: Sequence[str]) -> None:
    """Run the command that switches this machine off."""
    log.warning("switching this host off: %s", " ".join(command))
    try:
        subprocess.Popen(command, start_new_session=True)
    except OSError as trouble:
        log.error("this host cannot be switched off: %s", trouble)
