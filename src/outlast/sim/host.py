"""One pretend host: a machine and, while it has power, the programs on it.

The cores are the real ones; their shells do what the production shells do, without threads: one
storage cycle a beat, the guard's look as often as its own loop looks, the agent's tick when
something changed.
"""

from __future__ import annotations

from collections.abc import Callable

from outlast.model import SlotRecord
from outlast.pool.journal import Note
from outlast.settings import PoolSettings
from outlast.sim.agent import SimAgent
from outlast.sim.machine import Machine
from outlast.sim.world import World


class SimHost(Machine):
    def __init__(
        self,
        world: World,
        settings: PoolSettings,
        record: SlotRecord,
        memory_mib: int,
        tell: Callable[[str, Note], None],
    ) -> None:
        super().__init__(world, settings, record, memory_mib)
        self._tell = tell
        self.begin = self._boot

    def _boot(self) -> None:
        self.agent = SimAgent(self, self._tell)
