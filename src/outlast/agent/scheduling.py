"""When VMs are backed up by themselves, as it is asked and wished (images/schedules.py).

Whether the folder is there is not asked: each host has its own, and the one that makes a backup
says so (backup_timer.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

from outlast.agent.service import Service
from outlast.images import schedules
from outlast.images.schedules import Schedule
from outlast.wire.backups import ScheduleInfo, ScheduleWish
from outlast.wire.shapes import PoolWish


class Scheduling:
    """Methods block; for worker threads."""

    def __init__(self, service: Service, wall: Callable[[], float] = time.time) -> None:
        self._service, self._wall = service, wall

    def all(self) -> list[ScheduleInfo]:
        """By VM. Raises StorageTrouble."""
        found = self._service.agreed(schedules.in_force)
        return [ScheduleInfo.model_validate(asdict(one)) for one in found]

    def set(self, vm: str, wish: ScheduleWish) -> PoolWish:
        """Raises NotFound, InvalidInput, Conflict, StorageTrouble."""
        wished = Schedule(vm, **wish.model_dump(), since_wall_s=int(self._wall()))
        self._service.agreed(lambda register: schedules.begin(register, (wished,)))
        return PoolWish(changed=True, sentence=f"{vm} is backed up {wished.told}")

    def remove(self, vm: str) -> PoolWish:
        """Raises NotFound, Conflict, StorageTrouble."""
        self._service.agreed(lambda register: schedules.remove(register, (vm,)))
        return PoolWish(changed=True, sentence=f"{vm} is backed up no more by itself")
