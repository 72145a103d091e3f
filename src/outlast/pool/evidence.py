"""The evidence behind a note: what its host saw at that moment, as plain JSON.

Rules:
1. Only what was seen, with the limits it was held against; nothing is concluded here.
2. Spans in seconds, hosts by name; what could not be read says so and is never left out.
3. Each note has what its host stood on itself, and of a VM its lease and its process. Notes that
   decide something, or tell that hosts hear or see each other otherwise than before (DECISIVE),
   have all that was seen of other hosts too; the rest would repeat it.
"""

from __future__ import annotations

from outlast.model import Lease, View
from outlast.pool.facts import Facts, Seen
from outlast.pool.journal import Note
from outlast.pool.silence import limit_ns
from outlast.pool.traces import Traces
from outlast.settings import S, Timing

Json = dict[str, object]
ABOUT_VMS = frozenset({"order-given", "lease-taken", "vm-starts", "vm-killed", "no-room"})
DECISIVE = ABOUT_VMS | {
    "host-silent", "host-off", "host-closed", "host-anew", "view-changed", "storm-brake",
    "storage-sick", "not-member", "link-down", "block-unreadable", "order-late", "order-refused",
    "link-up", "beats-lost", "beats-back", "member", "storage-back", "time-given", "time-refused",
    "fence-begins", "fence-failed", "cut-off-stays", "agent-away",
}  # fmt: skip


def evidence(
    facts: Facts, timing: Timing, note: Note, before: View | None = None,
    traces: Traces | None = None,
) -> Json:  # fmt: skip
    """What stood behind the note. before: the view that was followed before this one."""
    guard = facts.guard
    found: Json = {
        "reads": {"good": facts.sample.good, "good_for_s": _s(facts.sample.run_ns)},
        "guard": {"state": guard.state.value, "remaining_s": _s(guard.remaining_ns)},
        "view": _view(facts.view),
    }
    held, local = facts.leases.get(note.vm), facts.local.get(note.vm)
    if held is not None:
        found["lease"] = {"version": held.version, **_lease(facts, held.value)}
    if local is not None:
        found["process"] = {"state": local.state.value, "pid": local.pid, "reason": local.reason}
    if note.code not in DECISIVE:
        return found
    told = {_host(facts, slot): traces.told(slot) for slot in sorted(facts.seen)} if traces else {}
    return found | _others(facts, timing, before) | {"traces": told}


def _others(facts: Facts, timing: Timing, before: View | None) -> Json:
    """What was seen of other hosts, and the limits it was held against."""
    free = {_host(facts, n): s.block.free_mib for n, s in sorted(facts.seen.items()) if s.block}
    return {
        "blocks": {
            _host(facts, n): _block(facts, seen, timing) for n, seen in sorted(facts.seen.items())
        },
        "heard_s_ago": {_host(facts, n): _s(ago) for n, ago in sorted(facts.links.items())},
        "limits": {
            "dead_s": _s(timing.dead_ns), "fence_s": _s(timing.fence_ns),
            "kill_s": _s(timing.kill_ns), "settle_s": _s(timing.settle_ns),
            "link_lost_s": _s(timing.link_lost_ns), "beat_s": _s(timing.beat_ns),
        },
        "view_before": _view(before),
        "free_mib": {**free, facts.me.host: facts.resources.free_mib},
    }  # fmt: skip


def _view(view: View | None) -> Json | None:
    if view is None:
        return None
    names = {n: member.host for n, member in sorted(view.members.items())}
    return {
        "version": view.version, "master": names.get(view.master, ""), "reason": view.reason,
        "members": list(names.values()),
    }  # fmt: skip


def _block(facts: Facts, seen: Seen, timing: Timing) -> Json:
    block = seen.block
    if block is None:
        return {"readable": False, "unchanged_s": _s(seen.still_ns)}
    return {
        "readable": True, "state": block.state.value, "term": block.term[:8],
        "unchanged_s": _s(seen.still_ns), "limit_s": _s(limit_ns(seen, timing)),
        "hears": [_host(facts, n) for n in sorted(block.heard)], "vms": block.vm_count,
        "witness": block.witness,
        "seq": block.seq, "view": block.view_version, "agent_away_s": block.agent_away_ms / 1000,
    }  # fmt: skip


def _lease(facts: Facts, lease: Lease) -> Json:
    holder = _host(facts, lease.slot) if lease.held else ""
    proof = lease.proof
    said = None if proof is None else {"kind": proof.kind.value, "evidence": proof.evidence}
    return {"holder": holder, "via": lease.via, "proof": said}


def _host(facts: Facts, slot: int) -> str:
    if facts.view and slot in facts.view.members:
        return facts.view.members[slot].host
    record = facts.slots.get(slot)
    return record.host if record else f"slot {slot}"


def _s(ns: int) -> float:
    return round(ns / S, 3)
