"""Power switches are asked regularly whether they still answer, so that nobody learns it in need.

Rules:
1. Each host asks the switches of all others: whoever becomes master must reach them. Asked is
   `status` only; nothing is ever switched here.
2. A switch is asked at once when its settings are new, then every EACH_S. That it stopped
   answering, and that it answers again, is one note each.
3. In a thread of its own: neither a switch nor a storage that hangs keeps the agent from its work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from outlast.equipment import PowerSwitch
from outlast.errors import OutlastError
from outlast.model import SlotRecord
from outlast.pool.journal import Note, note
from outlast.power.port import Power, PowerFence, SwitchSaid

LOOK_S = 60.0  # for new settings
EACH_S = 900.0
LIMIT_S = 20.0

Slots = Callable[[], Mapping[int, SlotRecord]]
Switches = Callable[[int], PowerSwitch | None]


class PowerWatch:
    """switches: the settings of a slot, None without a switch; may raise OutlastError."""

    def __init__(
        self, own_slot: int, slots: Slots, switches: Switches, power: PowerFence,
        tell: Callable[[Note], None], clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._own, self._slots, self._switches, self._power = own_slot, slots, switches, power
        self._tell, self._clock = tell, clock
        self._asked: dict[int, tuple[PowerSwitch, float]] = {}
        self._known: dict[int, SwitchSaid] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="power", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    @property
    def known(self) -> Mapping[int, SwitchSaid]:
        """What the switch of each slot said when it was last asked. Never blocks."""
        return dict(self._known)

    def look(self) -> None:
        """Ask the switches that are due; may take LIMIT_S for each."""
        others = {n: r for n, r in self._slots().items() if r.active and n != self._own}
        for slot in set(self._known) - set(others):
            self._forget(slot)
        for slot, record in sorted(others.items()):
            try:
                switch = self._switches(slot)
            except OutlastError:
                continue  # the storage is in trouble: others say so
            if switch is None:
                self._forget(slot)
            elif self._due(slot, switch):
                self._ask(slot, record, switch)

    def _due(self, slot: int, switch: PowerSwitch) -> bool:
        before, asked_s = self._asked.get(slot, (None, 0.0))
        return before != switch or self._clock() - asked_s >= EACH_S

    def _ask(self, slot: int, record: SlotRecord, switch: PowerSwitch) -> None:
        said = self._power.test(slot, record.uuid, LIMIT_S)
        before = self._known.get(slot)
        self._known[slot], self._asked[slot] = said, (switch, self._clock())
        silent = said.power is Power.UNKNOWN
        was_silent = before is not None and before.power is Power.UNKNOWN
        if silent and not was_silent:
            self._tell(note("power-silent", host=record.host, why=said.reason))
        elif was_silent and not silent:
            self._tell(note("power-answers", host=record.host))

    def _forget(self, slot: int) -> None:
        self._known.pop(slot, None)
        self._asked.pop(slot, None)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(LOOK_S)
