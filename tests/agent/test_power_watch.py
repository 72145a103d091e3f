"""Power switches are watched: asked when new and when due, told once when silent and once after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from memory_service import MemoryService

from outlast.agent.api import Api
from outlast.agent.power_watch import EACH_S, PowerWatch
from outlast.equipment import PowerSwitch
from outlast.errors import StorageTrouble
from outlast.model import SlotRecord
from outlast.pool.journal import Note
from outlast.power.port import Fenced, Power, SwitchSaid
from outlast.readiness.lights import pool_lights


class Board:
    """Power switches that say what the test wants, of a pool of three hosts."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.power = Power.ON
        self.asked: list[int] = []
        self.told: list[Note] = []
        self.settings = {n: PowerSwitch(n, f"uuid-{n}", "fence_x") for n in (1, 2)}
        self.broken = False

    def slots(self) -> dict[int, SlotRecord]:
        return {n: SlotRecord(n, f"h{n}", f"uuid-{n}", 1, True) for n in (1, 2, 3)}

    def switch(self, slot: int) -> PowerSwitch | None:
        if self.broken:
            raise StorageTrouble("no")
        return self.settings.get(slot)

    def test(self, slot: int, uuid: str, limit_s: float) -> SwitchSaid:
        assert uuid == f"uuid-{slot}"
        self.asked.append(slot)
        return SwitchSaid(self.power, "no answer" if self.power is Power.UNKNOWN else "")

    def fence(self, slot: int, uuid: str, limit_s: float) -> Fenced:
        raise AssertionError("a watch never switches anything")

    def watch(self) -> PowerWatch:
        return PowerWatch(1, self.slots, self.switch, self, self.told.append, lambda: self.now_s)


def test_each_switch_of_others_is_asked_when_new_and_when_due() -> None:
    board = Board()
    watch = board.watch()
    watch.look()
    watch.look()
    assert board.asked == [2], "not its own, not one without a switch, not twice"
    board.settings[2] = replace(board.settings[2], options=("ip=10.0.0.9",))
    watch.look()
    assert board.asked == [2, 2]
    board.now_s = EACH_S - 1
    watch.look()
    assert board.asked == [2, 2]
    board.now_s = EACH_S
    watch.look()
    assert board.asked == [2, 2, 2]
    assert watch.known == {2: SwitchSaid(Power.ON)}
    board.broken = True
    board.now_s *= 2
    watch.look()
    assert watch.known == {2: SwitchSaid(Power.ON)}, "a storage in trouble says nothing of a switch"
    board.broken = False
    del board.settings[2]
    watch.look()
    assert watch.known == {}


def test_silence_is_told_once_and_so_is_its_end() -> None:
    board = Board()
    watch = board.watch()
    board.power = Power.UNKNOWN
    for _ in range(3):
        watch.look()
        board.now_s += EACH_S
    board.power = Power.ON
    for _ in range(2):
        watch.look()
        board.now_s += EACH_S
    assert [told.code for told in board.told] == ["power-silent", "power-answers"]
    assert "switch of h2 does not answer: no answer" in board.told[0].sentence


def test_a_silent_switch_is_a_yellow_light(tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    service.switches = {2: SwitchSaid(Power.UNKNOWN, "no answer"), 3: SwitchSaid(Power.OFF)}
    status = Api(service).status({})
    powers = {host.slot: host.power.power if host.power else "" for host in status.hosts}
    assert (powers[1], powers[2], powers[3]) == ("", "unknown", "off")
    lights = [light for light in pool_lights(status, None) if "power switch" in light.sentence]
    assert [(light.colour, "no answer" in light.sentence) for light in lights] == [("yellow", True)]
