"""What this host says of itself and of the others, in words (pure).

Rules:
1. The storage speaks first: a host whose block changes is alive, whatever the network says.
2. An unreadable block is called that; it is neither alive nor silent.
3. Ages are counted up to now, so that a stopped agent never shows fresh numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from outlast.agent.picture import Picture
from outlast.model import BlockState, GuardState, SlotRecord
from outlast.pool.facts import Facts, Seen
from outlast.pool.measured import report_by
from outlast.pool.silence import limit_ns
from outlast.settings import MS, S, Timing
from outlast.wire.shapes import HostStatus


@dataclass(frozen=True, slots=True)
class Clock:
    """One moment on both clocks: CLOCK_BOOTTIME and the wall."""

    boot_ns: int
    wall_s: float

    def wall_of(self, boot_ns: int) -> float:
        """The wall clock at an instant of CLOCK_BOOTTIME, as far as today's wall clock knows."""
        return round(self.wall_s - (self.boot_ns - boot_ns) / S, 3)


def host_statuses(picture: Picture, clock: Clock) -> list[HostStatus]:
    """All hosts that own a slot or stand in the view, by slot; empty without facts."""
    facts = picture.facts
    if facts is None:
        return []
    slots = {n for n, record in facts.slots.items() if record.active} | {facts.me.slot}
    slots |= facts.view.slots if facts.view else frozenset()
    names = {n: host_name(facts, n) for n in slots}
    return [_host(picture, facts, clock, names, n) for n in sorted(slots)]


def host_name(facts: Facts, slot: int) -> str:
    """The name of a slot's host, as people know it."""
    record = facts.slots.get(slot)
    if record:
        return record.host
    if facts.view and slot in facts.view.members:
        return facts.view.members[slot].host
    return facts.me.host if slot == facts.me.slot else f"slot {slot}"


def still_ns(facts: Facts, seen: Seen, clock: Clock) -> int:
    """How long a block is unchanged as far as this host can tell, up to now."""
    return max(0, seen.still_ns + clock.boot_ns - facts.sample.started_ns)


def silent_sentence(name: str, seen: Seen, timing: Timing) -> str:
    """Says for how long a host is silent and when that proves its death."""
    limit = limit_ns(seen, timing)
    sentence = f"{name} is silent for {seen.still_ns / S:.1f} s"
    if seen.still_ns < limit:
        left = (limit - seen.still_ns) / S
        return f"{sentence}; it counts as dead after {limit / S:g} s, {left:.1f} s from now"
    return f"{sentence}, longer than the limit of {limit / S:g} s"


def _host(
    picture: Picture, facts: Facts, clock: Clock, names: Mapping[int, str], slot: int
) -> HostStatus:
    record = facts.slots.get(slot) or SlotRecord(slot, names[slot], "", 0, True)
    view = facts.view
    common: dict[str, object] = {
        "name": names[slot],
        "slot": slot,
        "master": view is not None and view.master == slot and slot in view.members,
        "no_vms": record.no_vms,
        "maintenance": record.maintenance,
        "generation": record.generation,
        "addresses": list(record.addresses),
        "api": record.api,
        "version": record.version,
        "guard_version": record.guard_version,
        "protocol": record.protocol,
        "macs": list(record.macs),
        "cores": record.cores or None,
    } | _measured(facts, slot)
    members = view.slots if view else frozenset()
    if slot == facts.me.slot:
        heard = _heard_here(facts, picture.settings.timing)
        common |= _links(names, members, slot, heard) | _me(picture, facts, clock)
        return HostStatus.model_validate(common)
    seen = facts.seen.get(slot)
    if seen is not None and seen.block is not None:
        block = seen.block
        common |= _links(names, members, slot, block.heard) | {
            "beat_age_ms": still_ns(facts, seen, clock) // MS,
            "free_mib": block.free_mib,
            "free_vcpus": block.free_vcpus,
            "vm_count": block.vm_count,
            "agent_away_ms": block.agent_away_ms,
        }
    state, sentence = _state(picture, facts, names[slot], slot, seen)
    return HostStatus.model_validate(common | {"state": state, "sentence": sentence})


def _measured(facts: Facts, slot: int) -> dict[str, object]:
    """What the host reported of itself in this life."""
    report = report_by(facts, slot)
    if report is None:
        return {}
    return {
        "busy_cores": report.busy_mcores / 1000 if report.busy_mcores else None,
        "used_mib": report.used_mib or None,
        "lacks": [f"{k.kind} {k.missing}: {k.detail}" for k in report.lacks],
    }


def _links(
    names: Mapping[int, str], members: frozenset[int], slot: int, heard: frozenset[int]
) -> dict[str, object]:
    unheard = members - heard - {slot}
    return {
        "hears": [names[n] for n in sorted(heard) if n in names],
        "unheard": [names[n] for n in sorted(unheard)] if slot in members else [],
    }


def _heard_here(facts: Facts, timing: Timing) -> frozenset[int]:
    return frozenset(n for n, ago_ns in facts.links.items() if ago_ns <= timing.link_lost_ns)


def _me(picture: Picture, facts: Facts, clock: Clock) -> dict[str, object]:
    timing, guard = picture.settings.timing, facts.guard
    age_ns = max(0, clock.boot_ns - picture.taken_ns)
    left_ns = guard.remaining_ns - age_ns
    known = guard.state is GuardState.OPEN
    state, sentence = _my_state(facts, left_ns)
    return {
        "answering": True,
        "state": state,
        "sentence": sentence,
        "beat_age_ms": max(0, timing.fence_ns - left_ns) // MS if known else None,
        "free_mib": facts.resources.free_mib if facts.local_ready else None,
        "free_vcpus": facts.resources.free_vcpus if facts.local_ready else None,
        "vm_count": len(facts.local) if facts.local_ready else None,
        "guard": guard.state.value,
        "deadline_ms": left_ns // MS if known else None,
    }


def _my_state(facts: Facts, left_ns: int) -> tuple[str, str]:
    me, guard = facts.me.host, facts.guard
    listed = facts.view is not None and facts.view.lists(facts.me.slot, facts.term)
    if guard.state in {GuardState.CLOSING, GuardState.RESETTING}:
        return "closing", f"the guard of {me} ends all VMs here and then begins a new term"
    if listed and guard.state is GuardState.OPEN and guard.term == facts.term and left_ns > 0:
        if not facts.sample.good:
            return "member", (
                f"{me} is a member, but its storage does not answer; its VMs run for "
                f"{left_ns / S:.1f} s more at most"
            )
        if not facts.local_ready:
            return "member", f"{me} is a member, but its hypervisor does not answer"
        return "member", f"{me} is a member"
    if facts.block_state is BlockState.JOINING:
        return "joining", f"{me} waits until a member of the pool admits it"
    if guard.state is GuardState.CLOSED or facts.block_state is BlockState.CLOSED:
        return "closed", f"the term of {me} has ended and nothing runs here; it will join again"
    return facts.block_state.value, f"{me} is {facts.block_state.value} and runs nothing"


def _state(
    picture: Picture, facts: Facts, name: str, slot: int, seen: Seen | None
) -> tuple[str, str]:
    timing = picture.settings.timing
    member = facts.view.members.get(slot) if facts.view else None
    if seen is None:
        return "absent", f"{name} owns slot {slot} but has not been seen here"
    block = seen.block
    if block is None:
        return "unreadable", f"the block of {name} cannot be read; that proves nothing about it"
    if block.state is BlockState.CLOSED:
        return "closed", f"{name} ended its term in order and runs nothing"
    if seen.still_ns > timing.gap_ns:
        if member is None:
            return "silent", f"{name} is no member and silent for {seen.still_ns / S:.1f} s"
        return "silent", silent_sentence(name, seen, timing)
    if block.state is not BlockState.MEMBER:
        return block.state.value, _not_member(name, block.state)
    if member is None or member.term != block.term:
        return "closing", f"{name} was excluded and ends its VMs"
    if slot not in _heard_here(facts, timing):
        return "unreachable", (
            f"{name} writes to the storage, but its network beats do not arrive at {facts.me.host}"
        )
    if block.agent_away_ms:
        away_s = block.agent_away_ms / 1000
        return "member", f"{name} is a member; its agent is away for {away_s:.1f} s, VMs run on"
    return "member", f"{name} is a member"


def _not_member(name: str, state: BlockState) -> str:
    return {
        BlockState.JOINING: f"{name} waits until a member of the pool admits it",
        BlockState.CLOSING: f"{name} is ending its VMs",
        BlockState.LEAVING: f"{name} is leaving the pool",
    }.get(state, f"{name} is {state.value}")
