"""Could the pool fail over now, and what would a failure do? Judged from an agent's answer.

Rules:
1. Red: a failure now would leave a wanted VM down, or nobody could act on it. Yellow: something is
   not as it should be, failover works. Green: neither. The worst light is the pool's.
2. Each light has a sentence with its reason. What the agent does not say is not judged: watchdogs
   and CPU models are no part of its answer yet.
3. Predictions are made of the pool's own timing and its own measured starts; no network, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from outlast.placement.picture import Picture
from outlast.placement.spare import Failure, every, what_if
from outlast.settings import S, Timing
from outlast.wire.shapes import HostStatus, PoolStatus, TimelineEntry

RED, YELLOW, GREEN = "red", "yellow", "green"
RANK = {RED: 2, YELLOW: 1, GREEN: 0}
KINDS = ("power", "network", "storage", "agent")
CERTIFICATE_DAYS = 30
MARGIN_SHARE = 0.5  # of the fence window
ACT_BEATS = 4  # silence seen, order, lease, start: each shows at the next beat or sooner
STARTS_MAX = 200  # newest starts that count for a prediction
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
    lights += _margin(status)
    lights += [light for host in status.hosts for light in _host_lights(host)]
    if picture is not None:
        lights += _room(picture)
    lights += [
        Light(YELLOW, f"vm {vm.name}", vm.sentence)
        for vm in status.vms
        if vm.state in {"waiting", "down"} and vm.ha
    ]
    return lights or [Light(GREEN, "pool", "any one host may fail: every VM has a place")]


def _margin(status: PoolStatus) -> list[Light]:
    """A storage that comes near to ending VMs, as the answering host measured it."""
    margin = status.margin
    if margin is None or margin.longest_ms < MARGIN_SHARE * margin.fence_ms:
        return []
    said = (
        f"a beat of {status.answered_by} took {margin.longest_ms / 1000:.1f} s within a day; "
        f"after {margin.fence_ms / 1000:g} s its VMs are ended"
    )
    if margin.advice:
        said += f"; preset '{margin.advice}' would suit this storage better"
    return [Light(YELLOW, "margin", said)]


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
    return found


def _room(picture: Picture) -> list[Light]:
    lost = [f for f in every(picture).values() if not f.survived]
    return [
        Light(RED if f.proven else YELLOW, "room",
              f.sentence if f.proven else f"{f.sentence} (a cleverer search might find room)")
        for f in lost
    ]  # fmt: skip


def local_lights(clock: str, certificate_days: float | None) -> list[Light]:
    """What only this machine knows. clock: its clock source; "" = not known."""
    found: list[Light] = []
    if clock and clock not in SOUND_CLOCKS:
        said = f"this host's clock source is '{clock}': it may be slow or drift"
        found.append(Light(YELLOW, "clock", said))
    if certificate_days is not None and certificate_days < CERTIFICATE_DAYS:
        said = f"this host's certificate ends in {certificate_days:.0f} days"
        if certificate_days < 0:
            said = "this host's certificate has ended: other hosts do not speak to it"
        found.append(Light(YELLOW, "certificate", said))
    return found


# ---- drills


@dataclass(frozen=True, slots=True)
class Drill:
    """What a failure would do. Seconds are counted from the failure to the last VM's start."""

    host: str
    kind: str
    sentence: str
    course: tuple[str, ...]
    earliest_s: float | None  # None: no VM is started anew
    latest_s: float | None
    failure: Failure | None  # who goes where; None: nobody goes


def start_seconds(entries: Sequence[TimelineEntry]) -> list[float]:
    """How long this pool's VMs took from "is being started" to "runs", oldest first."""
    begun: dict[str, float] = {}
    took: list[float] = []
    for entry in entries:
        vm = str(entry.fields.get("vm", ""))
        if entry.code == "vm-starts":
            begun[vm] = entry.wall_s
        elif entry.code == "vm-runs" and vm in begun:
            took.append(max(0.0, entry.wall_s - begun.pop(vm)))
    return took[-STARTS_MAX:]


def rehearse(
    status: PoolStatus, picture: Picture, timing: Timing, host: str, kind: str,
    starts_s: Sequence[float],
) -> Drill:  # fmt: skip
    """What the failure would do now. Raises InvalidInput for a host that is not there."""
    failure = what_if(picture, [host])
    beat_s, dead_s = timing.beat_ns / S, timing.dead_ns / S
    vms = [r for r in failure.restarts if r.target]
    if kind == "agent":
        course = [f"the VMs of {host} run on: its guard and its pulse need no agent"]
        if status.master == host:
            course.append(f"another host is master after {dead_s:g} s at the latest")
        course.append(f"new VMs are not given to {host} until its agent is back")
        said = f"if the agent of {host} dies: no VM is touched"
        return Drill(host, kind, said, tuple(course), None, None, None)
    start_s = sorted(starts_s)[int(len(starts_s) * 0.95)] if starts_s else 0.0
    earliest, course = {
        "power": (dead_s, [f"{host} is silent: its death is proven after {dead_s:g} s"]),
        "storage": (dead_s, [
            f"the guard of {host} ends its VMs {timing.fence_ns / S:g} s after its last beat",
            f"{host} is silent: its death is proven after {dead_s:g} s",
        ]),
        "network": (
            (timing.link_lost_ns + timing.partition_grace_ns) / S,
            [f"links to {host} count as down after {timing.link_lost_ns / S:g} s",
             f"{host} is excluded {timing.partition_grace_ns / S:g} s later, ends its VMs in "
             "order, and others take over"],
        ),
    }[kind]  # fmt: skip
    if kind == "network" and len([h for h in status.hosts if h.state == "member"]) == 2:
        course.append("of two hosts the one stays that is master, or has more VMs")
    latest = earliest + ACT_BEATS * beat_s + (timing.kill_ns / S if kind == "network" else 0)
    latest += start_s
    measured = f"starts took {start_s:.1f} s (95 % of {len(starts_s)})" if starts_s else (
        "no start was measured yet"
    )  # fmt: skip
    course.append(f"{len(vms)} VMs are started elsewhere within {latest:.0f} s; {measured}")
    return Drill(host, kind, failure.sentence, tuple(course), earliest, latest, failure)
