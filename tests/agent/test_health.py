"""What a host says of its own readiness: judged from what it found, written for all hosts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from memory_service import SETTINGS, MemoryService

from outlast.agent.api import Api
from outlast.agent.health import AGAIN_S, Health, judge
from outlast.errors import StorageTrouble, Unreachable
from outlast.pool.facts import Held
from outlast.readiness.lights import RED, YELLOW, pool_lights
from outlast.settings import PoolSettings
from outlast.storage.health import HostHealth
from outlast.storage.register import Outcome, Swap

WELL = {"state": "open", "reset": "watchdog", "problems": []}
HUNG = {**WELL, "reset": "none"}
NOW = 1_000_000.0


class Desk:
    """One host's health, with a register and a guard in memory."""

    def __init__(self, service: MemoryService) -> None:
        self.service = service
        self.held: dict[int, Held[HostHealth]] = {}
        self.guard: Mapping[str, object] | None = WELL
        self.endings, self.storage = dict[str, str](), ""
        self.writes, self.unwritten = 0, dict[str, str]()
        clock = Path(service.pool_dir) / "clocksource"
        clock.write_text("tsc\n")
        self.health = Health(
            service,
            lambda: self.held,
            self._swap,
            self._guard,
            lambda: self.endings,
            lambda: self.unwritten,
            clock,
        )

    def _swap(self, expected: int, own: HostHealth) -> Swap:
        if self.storage:
            raise StorageTrouble(self.storage)
        self.writes += 1
        self.held[own.slot] = Held(expected + 1, own, 0)
        return Swap(Outcome.OK, expected + 1)

    def _guard(self) -> Mapping[str, object]:
        if self.guard is None:
            raise Unreachable("no guard")
        return self.guard


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(MemoryService(tmp_path))


def whats(desk: Desk) -> list[tuple[str, str]]:
    return [(light.colour, light.what) for light in desk.health.known[1].lights]


def test_it_is_said_when_it_changes_and_now_and_then(desk: Desk) -> None:
    desk.health.look(NOW)
    desk.health.look(NOW + 20)
    assert (desk.writes, whats(desk)) == (1, [])
    desk.guard = HUNG
    desk.health.look(NOW + 40)
    assert (desk.writes, whats(desk)) == (2, [(YELLOW, "watchdog")])
    desk.health.look(NOW + 60)
    assert desk.writes == 2
    desk.health.look(NOW + 40 + AGAIN_S)
    assert desk.writes == 3


@pytest.mark.parametrize(
    ("guard", "settings", "clock", "endings", "free_mib", "found"),
    [
        (WELL, SETTINGS, "tsc", {}, 900, []),
        (None, SETTINGS, "", {}, 900, [(RED, "guard")]),
        (HUNG, SETTINGS, "tsc", {}, 900, [(YELLOW, "watchdog")]),
        (HUNG, replace(SETTINGS, watchdog="required"), "tsc", {}, 900, [(RED, "watchdog")]),
        ({**HUNG, "state": "idle"}, SETTINGS, "tsc", {}, 900, []),
        ({**WELL, "unsafe_reset": "a VM would not die"}, SETTINGS, "", {}, 900, [(RED, "guard")]),
        ({**WELL, "problems": ["no cgroup"]}, SETTINGS, "", {}, 900, [(YELLOW, "guard")]),
        (WELL, SETTINGS, "hpet", {}, 900, [(YELLOW, "clock")]),
        (WELL, SETTINGS, "tsc", {"it ends in 3 days": "renew"}, 900, [(YELLOW, "certificate")]),
        (WELL, SETTINGS, "tsc", {}, 300, [(YELLOW, "storage")]),
        (WELL, SETTINGS, "tsc", {}, 10, [(RED, "storage")]),
    ],
)
def test_each_light(
    desk: Desk, guard: Mapping[str, object] | None, settings: PoolSettings, clock: str,
    endings: dict[str, str], free_mib: int, found: list[tuple[str, str]],
) -> None:  # fmt: skip
    lights = judge(desk.service.facts(0), settings, guard, clock, endings, free_mib, {})
    assert [(light.colour, light.what) for light in lights] == found


@pytest.mark.parametrize(
    ("mine", "theirs", "settings", "said"),
    [
        (("tcg", ""), ("kvm", ""), SETTINGS, "emulated"),
        (("kvm", "<cpu>x</cpu>"), ("kvm", "<cpu>y</cpu>"), SETTINGS, "differs from that of b"),
        (("kvm", "x"), ("kvm", "y"), replace(SETTINGS, cpu="z"), ""),
        (("kvm", "x"), ("kvm", "x"), SETTINGS, ""),
        (("", ""), ("kvm", "x"), SETTINGS, ""),
    ],
)
def test_processors(
    desk: Desk, mine: tuple[str, str], theirs: tuple[str, str], settings: PoolSettings, said: str
) -> None:
    slots = desk.service.slots
    slots[1] = replace(slots[1], accelerator=mine[0], cpu=mine[1])
    slots[2] = replace(slots[2], accelerator=theirs[0], cpu=theirs[1])
    lights = judge(desk.service.facts(0), settings, WELL, "tsc", {}, 900, {})
    assert bool(lights) == bool(said)
    assert said in (lights[0].sentence if lights else "")


def test_a_journal_that_cannot_be_written_is_a_yellow_light(desk: Desk) -> None:
    desk.unwritten = {"notes on its own disk": "No space left on device"}
    desk.health.look(NOW)
    assert whats(desk) == [(YELLOW, "journal")]


def test_who_cannot_write_registers_says_so_itself(desk: Desk) -> None:
    desk.storage = "no space left on the device"
    desk.health.look(NOW)
    assert desk.held == {}
    (light,) = desk.health.known[1].lights
    assert (light.colour, light.what) == (RED, "registers")
    assert "no space left" in light.sentence


def test_everybody_shows_everybodys(desk: Desk) -> None:
    desk.guard = None
    desk.health.look(time.time())
    now_s = int(time.time())
    desk.held[3] = Held(1, HostHealth(3, beats=5, longest_ns=30_000_000_000, wall_s=now_s), 0)
    desk.held[2] = Held(1, HostHealth(2, wall_s=now_s - 2000), 0)
    desk.service.health = dict(desk.health.known)
    status = Api(desk.service).status({})
    said = [light.sentence for light in pool_lights(status, None)]
    assert "a: its guard does not answer" in said
    assert any("a beat of c took 30.0 s" in sentence for sentence in said)
    assert any("b: it has said nothing of its readiness for 33 min" in one for one in said)
    assert not any("c: it has said nothing" in one for one in said)
