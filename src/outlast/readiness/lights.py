"""Could the pool fail over now? Judged from an agent's answer, as lights with their reasons.

Rules:
1. Red: a failure now would leave a wanted VM down, or nobody could act on it. Yellow: something is
   not as it should be, failover works. Green: neither. The worst light is the pool's.
2. Each light has a sentence with its reason. What the agent does not say is not judged.
3. `well` tells each thing that is as it should be once, with the hosts on which it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from outlast.placement.picture import Picture
from outlast.placement.spare import every
from outlast.wire.margin import MarginInfo
from outlast.wire.shapes import HostStatus, PoolStatus
from outlast.words import listed

RED, YELLOW, GREEN = "red", "yellow", "green"
RANK = {RED: 2, YELLOW: 1, GREEN: 0}
CERTIFICATE_DAYS = 30
NAMED = 6  # hosts in a sentence
MARGIN_SHARE = 0.5  # of the fence window
# what hosts say of themselves by their lights (agent/health.py), where there is none
WELL = {
    "guard": "answers on {}",
    "watchdog": "armed on {}",
    "registers": "written by {}",
    "clock": "a sound source on {}",
    "certificate": "not near its end on {}",
    "processor": "no hindrance to moves on {}",
    "storage": "has room, as seen by {}",
    "journal": "written by {}",
}
SOUND_CLOCKS = frozenset({"tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"})


@dataclass(frozen=True, slots=True)
class Light:
    colour: str
    what: str
    sentence: str
    hint: str = ""  # what to do next; "" = nothing, or the sentence says it


def worst(lights: Iterable[Light]) -> str:
    return max((light.colour for light in lights), key=RANK.__getitem__, default=GREEN)


def pool_lights(status: PoolStatus, picture: Picture | None) -> list[Light]:
    """Judged from what an agent says; `picture` None: it knows too little for one."""
    lights: list[Light] = []
    if status.trouble:
        colour = RED if not status.hosts else YELLOW
        lights.append(Light(colour, "knowledge", f"{status.answered_by}: {status.trouble}"))
    if not status.master:
        lights.append(Light(RED, "master", "the pool has no master: nobody would decide"))
    members = [h for h in status.hosts if h.state == "member"]
    takers = [h for h in members if not (h.no_vms or h.agent_away_ms or h.maintenance)]
    if status.ha_off:
        lights.append(Light(RED, "HA", f"HA of the pool is switched off: {status.ha_off.why}"))
    if len(takers) < 2:
        names = " and ".join(h.name for h in takers) or "no host"
        lights.append(Light(RED, "hosts", f"only {names} can run VMs: nobody could take over"))
    for host in status.hosts:
        answering = host.name == status.answered_by
        lights += _margin(host.name, status.margin if answering else host.margin)
        lights += _host_lights(host)
    if picture is not None:
        lights += _room(picture)
    lights += [
        Light(YELLOW, f"vm {vm.name}", vm.sentence)
        for vm in status.vms
        if vm.state in {"waiting", "down"} and vm.ha
    ]
    return lights or [Light(GREEN, "pool", "any one host may fail: every VM has a place")]


def well(status: PoolStatus, picture: Picture | None) -> list[Light]:
    """Green lights: what was looked at and is as it should be."""
    members = [h for h in status.hosts if h.state == "member"]
    own = {h.name: {light.what for light in h.lights} for h in members if h.margin is not None}
    found = []
    for what, words in WELL.items():
        bad = {what, "registers"}  # whose word is old is not told well of
        if what == "watchdog":
            bad.add("guard")  # only a guard knows it
        if names := [name for name, lights in own.items() if not bad & lights]:
            found.append(Light(GREEN, what, words.format(listed(names, NAMED))))
    switches = [h.name for h in members if h.power is not None and h.power.power != "unknown"]
    if switches:
        found.append(Light(GREEN, "power", f"the switches of {listed(switches, NAMED)} answer"))
    if picture is not None and not _room(picture):
        found.append(Light(GREEN, "room", "any one host may fail: every VM has a place"))
    return found


def _margin(name: str, margin: MarginInfo | None) -> list[Light]:
    """A storage that comes near to ending VMs, a network that comes near to losing a host."""
    if margin is None:
        return []
    found: list[Light] = []
    if margin.fence_ms and margin.longest_ms >= MARGIN_SHARE * margin.fence_ms:
        said = (
            f"a beat of {name} took {margin.longest_ms / 1000:.1f} s within a day; "
            f"after {margin.fence_ms / 1000:g} s its VMs are ended"
        )
        if margin.advice:
            said += f"; preset '{margin.advice}' would suit this storage better"
        found.append(Light(YELLOW, "margin", said, "outlast pool timing"))
    if margin.link_lost_ms and margin.unheard_ms >= MARGIN_SHARE * margin.link_lost_ms:
        said = (
            f"{name} heard nothing of another host for {margin.unheard_ms / 1000:.1f} s within a "
            f"day; after {margin.link_lost_ms / 1000:g} s a link counts as down"
        )
        found.append(Light(YELLOW, "margin", said, "outlast pool timing"))
    return found


def _host_lights(host: HostStatus) -> list[Light]:
    what = f"host {host.name}"
    if host.state != "member":
        colour = YELLOW if host.state != "unreadable" else RED
        return [Light(colour, what, host.sentence)]
    found: list[Light] = []
    if host.maintenance:
        found.append(Light(YELLOW, what, f"{host.name} is in maintenance: {host.maintenance}"))
    if host.agent_away_ms:
        found.append(Light(YELLOW, what, host.sentence))
    if host.unheard:
        said = f"{host.name} does not hear {' and '.join(host.unheard)}"
        found.append(Light(YELLOW, what, said))
    if host.power is not None and host.power.power == "unknown":
        said = f"the power switch of {host.name} does not answer: {host.power.why}"
        found.append(Light(YELLOW, what, said, f"outlast host fence test {host.name}"))
    if host.answering and host.guard != "open":
        found.append(Light(RED, what, f"the guard of {host.name} is {host.guard or 'not known'}"))
    said_itself = [Light(o.colour, what, f"{host.name}: {o.sentence}", o.hint) for o in host.lights]
    return [*found, *said_itself]


def _room(picture: Picture) -> list[Light]:
    lost = [f for f in every(picture).values() if not f.survived]
    return [
        Light(RED if f.proven else YELLOW, "room",
              f.sentence if f.proven else f"{f.sentence} (a cleverer search might find room)")
        for f in lost
    ]  # fmt: skip
