"""Wishes about the whole pool: they stand in its settings, the register `pool`."""

from __future__ import annotations

import time
from dataclasses import replace

from outlast.agent.service import Service
from outlast.errors import Conflict, StorageTrouble
from outlast.model import HaOff
from outlast.storage.register import Outcome
from outlast.wire.shapes import HaSwitch, PoolWish

TRIES, PAUSE_S = 5, 0.05


def switch(wish: HaSwitch, by: str, wall_s: float) -> HaOff | None:
    """What is written for this wish; None: HA is on."""
    if wish.on:
        return None
    return HaOff(wish.why.strip(), by, int(wall_s) + wish.for_s if wish.for_s else 0)


class PoolWishes:
    def __init__(self, service: Service) -> None:
        self._service = service

    def set_ha(self, off: HaOff | None) -> PoolWish:
        """Switch HA of all VMs off, or on with None. Raises StorageTrouble, Conflict."""
        said = f"HA of the pool is {'off' if off else 'on'}"
        for _ in range(TRIES):
            held = self._service.read_pool()
            if held is None:
                raise StorageTrouble("the pool has no settings")
            if held.value.ha_off == off:
                return PoolWish(changed=False, sentence=f"{said} already")
            answer = self._service.write_pool(held.version, replace(held.value, ha_off=off))
            if answer.outcome is Outcome.OK:
                return PoolWish(changed=True, sentence=said)
            if answer.outcome is Outcome.UNKNOWN:
                raise StorageTrouble(
                    "the storage did not say whether the wish was written",
                    hint="look with 'outlast status'; wishing it again does no harm",
                )
            time.sleep(PAUSE_S)
        raise Conflict("others change the pool's settings all the time", hint="try again")
