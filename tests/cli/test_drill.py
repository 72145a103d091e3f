"""Is the pool ready, and what would a failure do: from a real agent's answer, in words."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Outlast
from memory_service import MemoryService

from outlast.agent import health
from outlast.cli import host_facts
from outlast.errors import InvalidInput, NotFound
from outlast.model import GuardState
from outlast.placement.picture import Host, Picture, Vm
from outlast.pool.facts import Held
from outlast.readiness.drills import rehearse, start_seconds
from outlast.readiness.lights import (
    GREEN,
    RED,
    WELL,
    YELLOW,
    Light,
    pool_lights,
    well,
    worst,
)
from outlast.settings import PRESETS, S
from outlast.storage.drills import DrillRecord
from outlast.wire.margin import LightInfo, MarginInfo
from outlast.wire.shapes import HostStatus, PoolStatus, TimelineEntry

TIMING = PRESETS["standard"]


def status(**change: object) -> PoolStatus:
    hosts = [
        HostStatus(name=n, slot=k, state="member", sentence=f"{n} is a member", guard="open")
        for k, n in enumerate("abc", 1)
    ]
    whole = PoolStatus(
        name="lab", uuid="u", preset="standard", answered_by="a", sentence="", master="a",
        hosts=hosts,
    )  # fmt: skip
    return whole.model_copy(update=change)


def changed(name: str, **change: object) -> PoolStatus:
    whole = status()
    hosts = [h.model_copy(update=change) if h.name == name else h for h in whole.hosts]
    return whole.model_copy(update={"hosts": hosts})


def picture(vm_mib: int = 1000) -> Picture:
    hosts = tuple(Host(n, 4000, 8) for n in "abc")
    vms = tuple(Vm(f"web{n}", vm_mib, 1, host) for n, host in enumerate("abc"))
    return Picture(hosts, vms)


def entry(wall_s: float, code: str, vm: str) -> TimelineEntry:
    return TimelineEntry(wall_s=wall_s, host="a", code=code, sentence="", fields={"vm": vm})


# ---- lights


def test_a_sound_pool_is_green() -> None:
    lights = pool_lights(status(), picture())
    assert worst(lights) == GREEN
    assert [light.colour for light in lights] == [GREEN]


@pytest.mark.parametrize(
    ("seen", "colour", "said"),
    [
        (status(master=""), RED, "no master"),
        (status(trouble="the pulse is away", hosts=[]), RED, "the pulse is away"),
        (status(trouble="lease/web: damaged"), YELLOW, "lease/web: damaged"),
        (status(hosts=status().hosts[:1]), RED, "only a can run VMs"),
        (changed("c", state="silent", sentence="c is silent"), YELLOW, "c is silent"),
        (changed("c", state="unreadable", sentence="torn"), RED, "torn"),
        (changed("c", agent_away_ms=9000, sentence="its agent is away"), YELLOW, "away"),
        (changed("c", unheard=["a", "b"]), YELLOW, "c does not hear a and b"),
        (changed("a", answering=True, guard="closed"), RED, "the guard of a is closed"),
        (changed("a", answering=True, guard="open"), GREEN, "has a place"),
    ],
)
def test_each_trouble_has_its_light(seen: PoolStatus, colour: str, said: str) -> None:
    lights = pool_lights(seen, None)
    assert worst(lights) == colour
    assert any(said in light.sentence and light.colour == colour for light in lights)


def test_no_room_is_red() -> None:
    lights = pool_lights(status(), picture(3000))
    assert worst(lights) == RED
    assert any("does not fit" in light.sentence for light in lights)


def test_a_host_speaks_for_itself() -> None:
    said = LightInfo(colour=YELLOW, what="clock", sentence="its clock source is 'hpet'", hint="see")
    (light,) = pool_lights(changed("b", lights=[said]), None)
    assert (light.colour, light.what, light.hint) == (YELLOW, "host b", "see")
    assert light.sentence == "b: its clock source is 'hpet'"


@pytest.mark.parametrize(
    ("margin", "said"),
    [
        (MarginInfo(longest_ms=21000, fence_ms=40000), "a beat of b took 21.0 s"),
        (MarginInfo(unheard_ms=7000, link_lost_ms=12000), "b heard nothing of another host"),
        (MarginInfo(longest_ms=19000, fence_ms=40000, unheard_ms=5000, link_lost_ms=12000), ""),
    ],
)
def test_every_host_has_its_margin(margin: MarginInfo, said: str) -> None:
    (light,) = pool_lights(changed("b", margin=margin), None)
    assert (light.colour == YELLOW) == bool(said)
    assert said in light.sentence


def test_what_was_looked_at_and_is_well_is_told_with_its_hosts() -> None:
    def told(*lights: LightInfo) -> dict[str, str]:
        seen = changed("b", margin=MarginInfo(beats=9), lights=lights)
        return {light.what: light.sentence for light in well(seen, picture())}

    assert told()["watchdog"] == "armed on b", "the others have said nothing of themselves"
    assert {"guard", "registers", "clock", "certificate", "processor", "room"} <= told().keys()
    bad = told(LightInfo(colour=RED, what="guard", sentence="its guard does not answer"))
    assert not bad.keys() & {"guard", "watchdog"}, "only the guard knows whether it is armed"
    assert bad["clock"] == "a sound source on b"
    old = told(LightInfo(colour=YELLOW, what="registers", sentence="it has said nothing"))
    assert old.keys() == {"room"}
    assert "room" not in {light.what for light in well(status(), picture(3000))}


def test_every_kind_of_light_of_a_host_has_a_word_for_when_it_is_well() -> None:
    source = Path(health.__file__).read_text()
    kinds = re.findall(r'HostLight\(\s*(?:RED|YELLOW|colour|[^,]*), "(\w+)"', source)
    assert set(kinds) == set(WELL)


def test_the_worst_light_counts() -> None:
    assert worst([Light(YELLOW, "x", ""), Light(GREEN, "x", "")]) == YELLOW
    assert worst([]) == GREEN


# ---- drills


def test_starts_are_measured_from_the_notes() -> None:
    entries = [
        entry(1.0, "vm-starts", "web"), entry(2.0, "vm-starts", "db"), entry(3.5, "vm-runs", "web"),
        entry(4.0, "vm-runs", "db"), entry(9.0, "vm-runs", "web"),
    ]  # fmt: skip
    assert start_seconds(entries) == [2.5, 2.0]


@pytest.mark.parametrize(
    ("kind", "earliest_s"),
    [("power", 60.0), ("storage", 60.0), ("network", (TIMING.link_lost_ns / S) + 60.0)],
)
def test_seconds_follow_from_the_timing_and_the_measured_starts(
    kind: str, earliest_s: float
) -> None:
    slow, quick = (
        rehearse(status(), picture(), TIMING, "b", kind, starts) for starts in ([9.0] * 20, [])
    )
    assert slow.earliest_s == quick.earliest_s == earliest_s
    assert slow.latest_s is not None
    assert quick.latest_s is not None
    assert slow.latest_s - quick.latest_s == pytest.approx(9.0)
    assert quick.latest_s > earliest_s
    assert "no start was measured yet" in quick.course[-1]
    assert slow.failure is not None
    assert [r.vm for r in slow.failure.restarts] == ["web1"]


def test_a_link_that_came_late_is_down_sooner() -> None:
    def network(**margin: float) -> tuple[float, float]:
        found = rehearse(changed("a", margin=MarginInfo(**margin)), picture(), TIMING, "b",
                         "network", [])  # fmt: skip
        assert found.earliest_s is not None
        assert found.latest_s is not None
        return found.earliest_s, found.latest_s

    (soon, latest), (late, same) = network(unheard_p99_ms=3000), network()
    assert (late - soon, same) == (pytest.approx(3.0), latest)


def test_an_agent_that_dies_touches_no_vm_and_a_master_is_replaced() -> None:
    found = rehearse(status(), picture(), TIMING, "a", "agent", [])
    assert found.latest_s is None
    assert found.failure is None
    assert any("another host is master" in line for line in found.course)
    other = rehearse(status(), picture(), TIMING, "b", "agent", [])
    assert not any("another host is master" in line for line in other.course)


def test_a_host_that_is_not_there() -> None:
    with pytest.raises((InvalidInput, NotFound)):
        rehearse(status(), picture(), TIMING, "nobody", "power", [])


# ---- the commands


def test_check_says_yes_and_then_no(agent: MemoryService, outlast: Outlast) -> None:
    said = outlast("--json", "pool", "check")
    assert said.json["light"] in {GREEN, YELLOW}, said.out
    assert said.code == 0
    agent.guard = replace(agent.guard, state=GuardState.CLOSED)
    closed = outlast("--json", "pool", "check")  # two others are left to take over
    assert (closed.code, closed.json["light"]) == (0, YELLOW)
    agent.trouble = "the pulse of this host has not been heard yet"
    said = outlast("pool", "check")
    assert said.code == 1
    assert said.out.splitlines()[0].endswith(": red")
    assert said.out.splitlines()[1].startswith("  red")


def test_drill_rehearses_and_does_nothing_else(agent: MemoryService, outlast: Outlast) -> None:
    said = outlast("drill", "--host", "b", "--kind", "power", "--dry-run")
    assert said.code == 0, said.err
    assert "proven after 60 s" in said.out
    assert outlast("--json", "drill", "--host", "b", "--dry-run").json["earliest_s"] == 60
    assert outlast("drill", "--host", "b").code == 2
    assert outlast("drill", "--host", "b", "--kind", "meteor", "--dry-run").code == 2


def test_a_real_drill_is_asked_for_and_shown(agent: MemoryService, outlast: Outlast) -> None:
    assert outlast("drill", "--last").code == 3
    asked = outlast("drill", "--host", "b", "--kind", "network")
    assert asked.code == 2
    assert "--yes b does it" in asked.err
    assert outlast("drill", "--host", "b", "--kind", "network", "--yes", "c").code == 2
    assert agent.drill is None
    agent.slots[3] = replace(agent.slots[3], maintenance="new memory")
    refused = outlast("drill", "--host", "b", "--kind", "network", "--yes", "b")
    assert refused.code == 4
    assert "c is in maintenance" in refused.err
    hindered = outlast("--json", "drill", "--host", "b", "--dry-run").json["hindrances"]
    assert hindered == ["c is in maintenance"]
    assert agent.drill is None


@pytest.mark.parametrize(
    ("state", "matched", "code", "said"),
    [
        ("ended", True, 0, "went as foreseen"),
        ("ended", False, 1, "went otherwise than foreseen"),
        ("refused", False, 1, "did not take place"),
        ("begun", False, 0, "is under way"),
    ],
)
def test_the_newest_drill(
    agent: MemoryService, outlast: Outlast, state: str, matched: bool, code: int, said: str
) -> None:
    made = DrillRecord("ab" * 8, 2, "b", "power", by="anna", state=state, matched=matched,
                       report=("web runs on a after 61.0 s",))  # fmt: skip
    agent.drill = Held(1, made, 0)
    shown = outlast("drill", "--last")
    assert shown.code == code
    assert said in shown.out
    assert "web runs on a after 61.0 s" in shown.out
    assert outlast("--json", "drill", "--last").json["matched"] is matched


def test_regular_drills(agent: MemoryService, outlast: Outlast) -> None:
    assert outlast("drill", "--every", "sun 03:00").code == 2, "it needs a canary"
    assert outlast("drill", "--vm", "web", "--every", "sunday").code == 2
    said = outlast("drill", "--vm", "web", "--every", "sun 03:00")
    assert said.code == 0
    assert "'vm' of web takes place sun 03:00" in said.out
    settings = agent.settings
    assert (settings.drill_vm, settings.drill_kind, settings.drill_at) == ("web", "vm", "sun 03:00")
    assert "no regular drills" in outlast("drill", "--every", "").out
    assert agent.settings.drill_at == ""


def test_a_certificate_that_cannot_be_read_is_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTLAST_ETC", str(tmp_path))
    assert host_facts.certificate_days() is None
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki/cert.pem").write_text("no certificate")
    assert host_facts.certificate_days() is None
