"""What this host says of itself in its slot record: its version, its processor, how it is woken.

Rules:
1. Written when it differs from what the record says, so that every host, and who upgrades the pool,
   knows what the others run. Fields that belong to people (maintenance, power-off) are kept.
2. Writing may hang with the storage: a thread of its own, one at a time, again after AGAIN_S.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from outlast.errors import HypervisorTrouble, StorageTrouble
from outlast.hypervisor.driver import Processors
from outlast.model import HostResources, SlotRecord
from outlast.pool.facts import Facts, Held
from outlast.storage.register import Swap

log = logging.getLogger("outlast.agent.introduction")

AGAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Mine:
    """What does not change while the agent runs."""

    version: str
    protocol: int
    macs: Callable[[Iterable[str]], tuple[str, ...]]  # of the cards behind these addresses
    processors: Processors


class Introduction:
    """read, write: this host's slot record on the storage; both may block."""

    def __init__(
        self, mine: Mine, read: Callable[[], Held[SlotRecord] | None],
        write: Callable[[int, SlotRecord], Swap],
    ) -> None:  # fmt: skip
        self._mine, self._read, self._write = mine, read, write
        self._cpu = ""
        self._thread: threading.Thread | None = None
        self._not_before_s = 0.0
        self._macs: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())  # of which addresses

    def step(self, facts: Facts, guard_version: str) -> None:
        """Called at every tick; guard_version: of the guard that runs here, "" = not known."""
        record, has = facts.slots.get(facts.me.slot), facts.resources
        if record is None or not facts.registers_ready:
            return
        if self._cpu and self._says(record, guard_version, has):
            return
        now_s = time.monotonic()
        if now_s < self._not_before_s or (self._thread is not None and self._thread.is_alive()):
            return
        self._not_before_s = now_s + AGAIN_S
        self._thread = threading.Thread(
            target=self._run, args=(guard_version, has), name="introduction", daemon=True
        )
        self._thread.start()

    def _says(self, record: SlotRecord, guard_version: str, has: HostResources) -> bool:
        return record == self._edited(record, guard_version, has)

    def _edited(self, record: SlotRecord, guard_version: str, has: HostResources) -> SlotRecord:
        mine = self._mine
        if self._macs[0] != record.addresses:
            self._macs = (record.addresses, mine.macs(record.addresses))
        return replace(
            record, version=mine.version, protocol=mine.protocol, macs=self._macs[1],
            accelerator=mine.processors.accelerator, cpu=self._cpu or record.cpu,
            cores=has.cores or record.cores, memory_mib=has.memory_mib or record.memory_mib,
            guard_version=guard_version or record.guard_version,
        )  # fmt: skip

    def _run(self, guard_version: str, has: HostResources) -> None:
        try:
            self._cpu = self._cpu or self._mine.processors.own()
        except HypervisorTrouble as trouble:
            log.info("which processor VMs could see here is not known: %s", trouble.sentence)
        try:
            held = self._read()
            if held is not None and not self._says(held.value, guard_version, has):
                self._write(held.version, self._edited(held.value, guard_version, has))
        except StorageTrouble:
            return  # again at a later tick
