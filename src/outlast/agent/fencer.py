"""Switches a host off that fell silent, through its power switch: its VMs need not wait for T_dead.

Rules:
1. Healthy hosts are never shot. A host is switched off only when its block has stood still for the
   whole fence window F, by good reads, and no network has heard it: its own guard has ended its VMs
   then, or there is no guard any more. The switch makes certain what T_dead would show later.
2. Not in a storm: when more than half of the view is silent, the fault is likely this side's.
3. One host does it: the member with the lowest slot that is not silent.
4. Only a host with a switch, and once for each of its terms. What the switch proves is written to
   the register `fence/N`; whoever acts on it looks at the block again (pool/proof.py, P4). What it
   does not prove changes nothing: silence goes on being waited for, at the same time.
5. `targets` is pure. The thread only looks, calls the switch, and writes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from outlast.agent.service import Service
from outlast.equipment import PowerSwitch
from outlast.errors import OutlastError
from outlast.model import Fence, GuardState
from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note
from outlast.power.port import PowerFence
from outlast.settings import Timing

LOOK_S = 1.0
LIMIT_S = 30.0

Term = tuple[int, str]  # slot and term


def targets(facts: Facts, timing: Timing) -> list[Term]:
    """Rules 1 to 3: members that may be switched off now, by this host."""
    view, guard = facts.view, facts.guard
    if view is None or not view.lists(facts.me.slot, facts.term) or not facts.sample.good:
        return []
    if guard.state is not GuardState.OPEN or guard.remaining_ns <= 0:
        return []
    if facts.sample.run_ns < timing.fence_ns:
        return []  # this host's own storage has just come back
    silent = {slot for slot in view.slots if _still_ns(facts, slot) >= timing.gap_ns}
    if 2 * len(silent) > len(view.members) or facts.me.slot != min(view.slots - silent):
        return []
    return [
        (slot, view.members[slot].term)
        for slot in sorted(silent)
        if _still_ns(facts, slot) >= timing.fence_ns
        and facts.links.get(slot, timing.dead_ns) >= timing.link_lost_ns
        and not _said(facts, slot, view.members[slot].term)
    ]


def _still_ns(facts: Facts, slot: int) -> int:
    """How long this member's block, of the term the view lists, has stood still; 0 when unknown."""
    seen, view = facts.seen.get(slot), facts.view
    if slot == facts.me.slot or seen is None or seen.block is None or view is None:
        return 0
    return seen.still_ns if seen.block.term == view.members[slot].term else 0


def _said(facts: Facts, slot: int, term: str) -> bool:
    held = facts.fences.get(slot)
    return held is not None and held.value.term == term


class Fencer:
    """switches: the settings of a slot's power switch, None without one; may raise OutlastError."""

    def __init__(
        self, service: Service, switches: Callable[[int], PowerSwitch | None], power: PowerFence,
        tell: Callable[[Note], None],
    ) -> None:  # fmt: skip
        self._service, self._switches, self._power, self._tell = service, switches, power, tell
        self._tried: set[Term] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fencer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.step()

    def step(self) -> None:
        """Look once; may take LIMIT_S for each host that is switched off."""
        picture = self._service.picture
        if picture.facts is None:
            return
        for slot, term in targets(picture.facts, picture.settings.timing):
            try:
                if (slot, term) in self._tried or self._switches(slot) is None:
                    continue
                self._tried.add((slot, term))
                self._fence(picture.facts, slot, term)
            except OutlastError as trouble:
                host = picture.facts.host(slot)
                self._tell(note("fence-failed", host=host, why=trouble.sentence))

    def _fence(self, facts: Facts, slot: int, term: str) -> None:
        """Raises OutlastError when what the switch proved cannot be written."""
        host, uuid = facts.host(slot), facts.slots[slot].uuid
        self._tell(note("fence-begins", host=host, by=facts.me.host))
        said = self._power.fence(slot, uuid, LIMIT_S)
        if not said.proven:
            self._tell(note("fence-failed", host=host, why=said.reason))
            return
        held = self._service.read_fence(slot)
        fence = Fence(slot, term, facts.me.host, "switch", said.reason, int(time.time()))
        self._service.write_fence(held.version if held else 0, fence)
