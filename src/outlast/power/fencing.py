"""The port to power switches (port.py), kept by the fence agents of the distribution.

Rules:
1. First `status`: a machine that is off is a success and is not touched. Then `off`, and `status`
   until the switch itself says off; only that is believed, never the exit status of `off`.
2. One limit for all of it. `off` gets OFF_SHARE of what is left, so that time remains to look.
3. Settings are read anew for each call: a changed password counts at once. A storage that hangs
   keeps nobody longer than the limit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from outlast.errors import OutlastError, StorageTrouble
from outlast.power import agents
from outlast.power.agents import Answer
from outlast.power.port import Fenced, Outcome, Power, SwitchSaid
from outlast.power.switches import Settings, load
from outlast.storage.register import Register

POLL_S = 0.5
OFF_SHARE = 0.75

Say = Callable[[str], Answer]


class FencePower:
    """Each call reads the settings in `register` and their secrets below `pool_dir`."""

    def __init__(self, register: Register, pool_dir: Path) -> None:
        self._register, self._pool_dir = register, pool_dir

    def fence(self, slot: int, uuid: str, limit_s: float) -> Fenced:
        began = time.monotonic()
        asked = self._switch(slot, uuid, began + limit_s)
        if isinstance(asked, str):
            return Fenced(Outcome.UNKNOWN, asked)
        agent, call = asked
        outcome, reason = self._fence(agent, call, began + limit_s)
        return Fenced(outcome, reason, round(1000 * (time.monotonic() - began)))

    def test(self, slot: int, uuid: str, limit_s: float) -> SwitchSaid:
        began = time.monotonic()
        asked = self._switch(slot, uuid, began + limit_s)
        if isinstance(asked, str):
            return SwitchSaid(Power.UNKNOWN, asked)
        power, reason = _power(asked[0], asked[1]("status"))
        return SwitchSaid(power, reason, round(1000 * (time.monotonic() - began)))

    def _fence(self, agent: str, call: Say, until_s: float) -> tuple[Outcome, str]:
        power, reason = _power(agent, call("status"))
        if power is Power.OFF:
            return Outcome.ALREADY_OFF, f"{agent}: it was off already"
        if power is Power.UNKNOWN:  # a switch that does not even say how it stands proves nothing
            return Outcome.UNKNOWN, reason
        done = call("off")
        while True:
            power, reason = _power(agent, call("status"))
            if power is Power.OFF:
                return Outcome.OFF, f"{agent}: switched off, and it says so"
            if time.monotonic() + POLL_S > until_s:
                break
            time.sleep(POLL_S)
        if power is Power.ON:
            said = f" ({done.said})" if done.said else ""
            return Outcome.UNKNOWN, f"{agent}: told to switch off, it still says on{said}"
        return Outcome.UNKNOWN, reason

    def _switch(self, slot: int, uuid: str, until_s: float) -> tuple[str, Say] | str:
        """The name of the agent and a way to call it, or why there is none."""
        try:
            found = self._load(slot, until_s - time.monotonic())
            if found is None:
                return f"slot {slot} has no power switch"
            if found.record.uuid != uuid:
                return f"the power switch of slot {slot} was set for another machine"
            program = agents.check_agent(found.record.agent)
        except OutlastError as trouble:
            return trouble.sentence
        return found.record.agent, _caller(program, found, until_s)

    def _load(self, slot: int, limit_s: float) -> Settings | None:
        """Raises StorageTrouble, also when the storage does not answer in time."""
        box: list[Settings | OutlastError | None] = []

        def read() -> None:
            try:
                box.append(load(self._register, self._pool_dir, slot))
            except OutlastError as trouble:
                box.append(trouble)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(max(0.0, limit_s))
        if not box:
            raise StorageTrouble("the pool's storage does not say how to reach the power switch")
        if isinstance(box[0], OutlastError):
            raise box[0]
        return box[0]


def _caller(program: Path, settings: Settings, until_s: float) -> Say:
    def call(action: str) -> Answer:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return Answer(None, "there is no time left", 0)
        limit_s = left_s * OFF_SHARE if action == "off" else left_s
        return agents.call(program, action, settings.options, settings.secrets, limit_s)

    return call


def _power(agent: str, answer: Answer) -> tuple[Power, str]:
    if answer.code == agents.ON:
        return Power.ON, ""
    if answer.code == agents.OFF:
        return Power.OFF, ""
    said = answer.said or f"it failed with exit status {answer.code}"
    return Power.UNKNOWN, f"{agent}: {said}"
