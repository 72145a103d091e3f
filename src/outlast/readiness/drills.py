"""Fire drills: what a failure would do, whether it may be tried now, whether it went as foreseen.

Rules:
1. Predictions are made of the pool's own timing, its own measured starts and beats, and by the
   placement that the master itself asks. No network, no clock.
2. A drill is refused unless the pool is whole, nothing is under way, and every VM it ends has a
   place. One that a canary VM chose ends no other VM.
3. The comparison takes notes only: which VMs, where, in which order, how soon. LATE_S is allowed,
   for the wall clocks of the hosts that wrote them. Sooner is never wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from outlast.errors import InvalidInput, NotFound
from outlast.placement.picture import Picture
from outlast.placement.spare import Failure, what_if
from outlast.settings import S, Timing
from outlast.storage.drills import DrillRecord, Foreseen
from outlast.wire.margin import MarginInfo
from outlast.wire.shapes import HostStatus, PoolStatus, TimelineEntry, VmStatus
from outlast.words import plural

ENDING = ("power", "network", "storage")  # kinds that end the VMs of a host
HOST_KINDS = (*ENDING, "agent")
KINDS = (*HOST_KINDS, "vm")
ACT_BEATS = 4  # silence seen, order, lease, start: each shows at the next beat or sooner
STARTS_MAX = 200  # newest starts that count for a prediction ...
HISTORY_S, NOTES_MAX = 30 * 86400.0, 5000  # ... among the notes of so long
LATE_S = 5.0
ALONE_S = 15.0  # for an agent, and for a VM, to be back
TOUCHED = ("vm-starts", "vm-killed", "vm-crashed")


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a failure would do. Seconds are counted from the failure to the last VM's start."""

    host: str
    kind: str
    sentence: str
    course: tuple[str, ...]
    earliest_s: float | None  # None: no VM is started anew
    latest_s: float | None
    failure: Failure | None  # who goes where; None: nobody goes
    foreseen: tuple[Foreseen, ...] = ()  # in the order of the starts

    @property
    def for_s(self) -> int:
        """How long a drill has to last."""
        return math.ceil(max(self.latest_s or 0.0, ALONE_S if self.kind in ("agent", "vm") else 0))


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
    starts_s: Sequence[float], vm: str = "",
) -> Rehearsal:  # fmt: skip
    """What the failure would do now. Raises InvalidInput, NotFound for what is not there."""
    if kind not in KINDS:
        raise InvalidInput(f"there is no failure '{kind}'", hint="one of: " + ", ".join(KINDS))
    failure = what_if(picture, [host])
    if kind == "agent":
        return _agent(status, timing, host)
    if kind == "vm":
        latest = ACT_BEATS * timing.beat_ns / S + start_s(starts_s)
        said = f"if {vm} dies: {host} starts it again at once"
        course = (f"its own host keeps the lease; {vm} runs again within {latest:.0f} s",)
        return Rehearsal(host, kind, said, course, 0.0, latest, None, (Foreseen(vm, host),))
    earliest, steps = _course(timing, host, kind)
    if kind == "network" and len([h for h in status.hosts if h.state == "member"]) == 2:
        steps.append("of two hosts the one stays that is master, or has more VMs")
    latest = earliest + act_s(status, timing, host, starts_s)
    if kind == "network":
        latest += timing.kill_ns / S
        earliest -= min(heard_s(status, host), timing.link_lost_ns / S)
    measured = f"starts took {start_s(starts_s):.1f} s (95 % of {len(starts_s)})" if starts_s else (
        "no start was measured yet"
    )  # fmt: skip
    foreseen = tuple(Foreseen(r.vm, r.target) for r in failure.restarts if r.target)
    many = plural(len(foreseen), "VM is", "VMs are") if foreseen else "no VM is"
    steps.append(f"{many} started elsewhere within {latest:.0f} s; {measured}")
    return Rehearsal(
        host, kind, failure.sentence, tuple(steps), earliest, latest, failure, foreseen
    )


def _agent(status: PoolStatus, timing: Timing, host: str) -> Rehearsal:
    course = [f"the VMs of {host} run on: its guard and its pulse need no agent"]
    if status.master == host:
        course.append(f"another host is master after {timing.dead_ns / S:g} s at the latest")
    course.append(f"new VMs are not given to {host} until its agent is back")
    said = f"if the agent of {host} dies: no VM is touched"
    return Rehearsal(host, "agent", said, tuple(course), None, None, None)


def _course(timing: Timing, host: str, kind: str) -> tuple[float, list[str]]:
    """When the first VM may start elsewhere, and what happens until then."""
    dead_s, lost_s = timing.dead_ns / S, timing.link_lost_ns / S
    silent = f"{host} is silent: its death is proven after {dead_s:g} s"
    if kind == "network":
        grace_s = timing.partition_grace_ns / S
        return lost_s + grace_s, [
            f"links to {host} count as down {lost_s:g} s after the last beat that came over them",
            f"{host} is excluded {grace_s:g} s later, ends its VMs in order, and others take over",
        ]
    if kind == "storage":
        fence_s = timing.fence_ns / S
        return dead_s, [f"the guard of {host} ends its VMs {fence_s:g} s after its last beat",
                        silent]  # fmt: skip
    return dead_s, [f"{silent}; sooner when it is back sooner, with a new term"]


def start_s(starts_s: Sequence[float]) -> float:
    """What 95 of 100 starts took at most; 0 while none was measured."""
    return sorted(starts_s)[int(len(starts_s) * 0.95)] if starts_s else 0.0


def act_s(status: PoolStatus, timing: Timing, host: str, starts_s: Sequence[float]) -> float:
    """From the proof that a host is dead until its VMs run, with beats as slow as the slowest other
    host's were in 99 of 100 cases."""
    others = _margins(status, host)
    slow_s = max((max(0.0, m.p99_ms - m.beat_ms) / 1000 for m in others), default=0.0)
    return ACT_BEATS * (timing.beat_ns / S + slow_s) + start_s(starts_s)


def heard_s(status: PoolStatus, host: str) -> float:
    """How old the newest network beat of a host may be when it fails: so much sooner do links to it
    count as down. In 99 of 100 cases, on the one that hears worst of all others."""
    return max((m.unheard_p99_ms / 1000 for m in _margins(status, host)), default=0.0)


def _margins(status: PoolStatus, host: str) -> list[MarginInfo]:
    """What all hosts but this one have measured."""
    return [h.margin for h in status.hosts if h.name != host and h.margin is not None]


# ---- may it be tried?


def planned(
    status: PoolStatus, picture: Picture, timing: Timing, entries: Sequence[TimelineEntry],
    host: str, kind: str, vm: str,
) -> tuple[Rehearsal, list[str]]:  # fmt: skip
    """What a drill would do, and why it may not take place now. vm: a canary, which chooses the
    host; or the one VM that is to fail.

    Raises InvalidInput, NotFound for what is not there.
    """
    host = host or next((v.host for v in status.vms if v.name == vm), "")
    if not host and vm:
        raise NotFound(f"there is no VM '{vm}' that runs", hint="outlast vm list")
    if not host:
        raise InvalidInput("say which host is to fail", hint="--host b, or --vm canary")
    if kind == "vm" and vm not in {v.name for v in status.vms if v.host == host and v.ha}:
        raise InvalidInput(
            f"a drill of the kind 'vm' ends one VM that runs on {host}, with HA",
            hint="say which, with --vm",
        )
    found = rehearse(status, picture, timing, host, kind, start_seconds(entries), vm)
    return found, hindrances(status, found, vm)


def hindrances(status: PoolStatus, found: Rehearsal, vm: str = "") -> list[str]:
    """Why this drill may not take place now; nothing: it may. vm: the canary that chose it."""
    said = [status.trouble] if status.trouble else []
    if not status.master:
        said.append("the pool has no master")
    if status.ha_off:
        said.append("HA of the pool is switched off")
    said += [why for host in status.hosts if (why := _unfit(host))]
    said += [why for one in status.vms if (why := _under_way(one))]
    members = [h.name for h in status.hosts if h.state == "member"]
    if found.host not in members:
        said.append(f"{found.host} is no member")
    if found.kind in ENDING:
        said += _ending(status, found, vm)
    if found.kind == "network" and len(members) == 2 and status.master == found.host:
        said.append(f"{found.host} is master of two hosts: the other one would be excluded")
    if found.kind == "network" and status.settings.partition == "hold":
        said.append("the pool excludes nobody who is cut off (partition 'hold')")
    return said


def _ending(status: PoolStatus, found: Rehearsal, canary: str) -> list[str]:
    """What speaks against ending the VMs of this host."""
    assert found.failure is not None  # of every kind in ENDING
    said = []
    stay = [r for r in found.failure.restarts if not r.target]
    said += [f"{r.vm} would stay off: {r.why}" for r in stay]
    if canary:
        others = sorted(v.name for v in status.vms if v.host == found.host and v.name != canary)
        if others:
            names = ", ".join(others[:6])
            said.append(f"it would end more than its canary {canary}: {names} run there too")
    return said


def _unfit(host: HostStatus) -> str:
    if host.state != "member" or host.agent_away_ms:
        return host.sentence
    if host.maintenance:
        return f"{host.name} is in maintenance"
    return f"{host.name} does not hear {' and '.join(host.unheard)}" if host.unheard else ""


def _under_way(vm: VmStatus) -> str:
    if vm.move is not None and not vm.move.failed:
        return f"{vm.name} shall move"
    if vm.state in ("starting", "stopping", "waiting"):
        return f"{vm.name} is {vm.state}"
    return ""


# ---- did it go as foreseen?


@dataclass(frozen=True, slots=True)
class Outcome:
    matched: bool
    report: tuple[str, ...]


def compare(drill: DrillRecord, entries: Sequence[TimelineEntry]) -> Outcome:
    """What the notes say of a drill that is over, against what was foreseen."""
    since = [e for e in entries if e.wall_s >= drill.begun_s - LATE_S]
    wrong: list[str] = []
    right: list[str] = []
    for one in drill.foreseen:
        line, good = _came_back(drill, one, since)
        (right if good else wrong).append(line)
    names = [one.vm for one in drill.foreseen]
    for entry in since:
        vm = str(entry.fields.get("vm", ""))
        if entry.code in TOUCHED and vm not in names and entry.wall_s >= drill.begun_s:
            wrong.append(f"it was not to touch {vm}: {entry.sentence}")
    if drill.kind in ENDING:
        ordered = [str(e.fields.get("vm")) for e in since if e.code == "order-given"]
        began = [vm for vm in dict.fromkeys(ordered) if vm in names]
        (right if began == names else wrong).append(f"order of starts: {', '.join(began) or '-'}")
    if drill.kind == "agent":
        anew = [e for e in since if e.code == "agent-started" and e.host == drill.host]
        said = f"the agent of {drill.host} began again after "
        said += f"{anew[-1].wall_s - drill.begun_s:.1f} s" if anew else "no time that was seen"
        (right if anew else wrong).append(said)
    return Outcome(not wrong, (*(f"NOT as foreseen: {w}" for w in wrong), *right))


def _came_back(
    drill: DrillRecord, one: Foreseen, since: Sequence[TimelineEntry]
) -> tuple[str, bool]:
    runs = [
        e for e in since
        if e.code == "vm-runs" and e.fields.get("vm") == one.vm and e.wall_s >= drill.begun_s
    ]  # fmt: skip
    window = f"foreseen: {one.host}, within {drill.latest_s:.1f} s"
    if not runs:
        return f"{one.vm} did not run again ({window})", False
    host, took_s = str(runs[0].fields.get("host")), runs[0].wall_s - drill.begun_s
    good = host == one.host and took_s <= drill.latest_s + LATE_S and len(runs) == 1
    said = f"{one.vm} runs on {host} after {took_s:.1f} s ({window})"
    said += f", started {len(runs)} times" if len(runs) > 1 else ""
    alive = [e for e in since if e.code == "vm-alive" and e.fields.get("vm") == one.vm]
    if alive and alive[-1].wall_s >= runs[-1].wall_s:
        lived_s = alive[-1].wall_s - drill.begun_s
        said += f"; first sign of life after {lived_s:.1f} s ({alive[-1].fields.get('sign')})"
    return said, good
