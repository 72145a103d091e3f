"""Wishes about the whole pool: they stand in its settings, the register `pool`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from outlast.agent.service import Service
from outlast.errors import Conflict, InvalidInput, PoolTrouble, StorageTrouble
from outlast.model import HaOff
from outlast.network.echo import addresses
from outlast.readiness.appointments import check_when
from outlast.settings import PoolSettings, Timing, preset
from outlast.storage.beneath import check_outlasts
from outlast.storage.register import Outcome
from outlast.wire.shapes import HaSwitch, PoolChange, PoolWish

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
        return self._change(lambda settings: replace(settings, ha_off=off), said)

    def set(self, wish: PoolChange) -> PoolWish:
        """Change settings. Raises InvalidInput when nothing is given, and as set_ha does."""
        wanted = wish.model_dump(exclude_none=True)
        if not wanted:
            raise InvalidInput("there is nothing to change", hint="outlast pool set --help")
        if wish.drill_at:
            check_when(wish.drill_at)
        if wish.witness is not None:
            wanted["witness"] = ",".join(addresses(wish.witness))
        said = ", ".join(f"{n} is {'none' if v == '' else v}" for n, v in wanted.items())
        if wish.timing is not None:
            wanted["timing"] = self._timing(wish.timing)
        return self._change(lambda settings: replace(settings, **wanted), said)

    def _timing(self, name: str) -> Timing:
        """Raises InvalidInput for one that is not there, or not for this pool."""
        timing, now = preset(name), self._service.picture.settings.timing
        if name == "lab" and now.preset != "lab":
            raise InvalidInput(
                "the timing 'lab' is for hosts that are emulated on one machine",
                hint="'quick' is the fastest for real ones",
            )
        check_outlasts(Path(self._service.pool_dir), timing.fence_ns)
        return timing

    def upgrade(self) -> PoolWish:
        """Speak the newest protocol that all hosts speak. Raises as set_ha does, PoolTrouble."""
        facts = self._service.picture.facts
        if facts is None or not facts.registers_ready:
            raise PoolTrouble("this host knows nothing of the pool yet", hint="try again")
        speak = {record.host: record.protocol for record in facts.slots.values() if record.active}
        able = min(speak.values(), default=1)
        slow = ", ".join(sorted(host for host, protocol in speak.items() if protocol == able))

        def edit(settings: PoolSettings) -> PoolSettings:
            return replace(settings, protocol=max(settings.protocol, able))

        return self._change(edit, f"the pool speaks protocol {able}, as {slow} can at best")

    def _change(self, edit: Callable[[PoolSettings], PoolSettings], said: str) -> PoolWish:
        for _ in range(TRIES):
            held = self._service.read_pool()
            if held is None:
                raise StorageTrouble("the pool has no settings")
            settings = edit(held.value)
            if settings == held.value:
                return PoolWish(changed=False, sentence=f"{said} already")
            answer = self._service.write_pool(held.version, settings)
            if answer.outcome is Outcome.OK:
                return PoolWish(changed=True, sentence=said)
            if answer.outcome is Outcome.UNKNOWN:
                raise StorageTrouble(
                    "the storage did not say whether the wish was written",
                    hint="look with 'outlast status'; wishing it again does no harm",
                )
            time.sleep(PAUSE_S)
        raise Conflict("others change the pool's settings all the time", hint="try again")
