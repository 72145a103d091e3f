"""What a host tells of others: deaths, links, members that are alive and yet not well.

Rules:
1. Each thing is told once, when it begins, and links also when they are back.
2. A host tells of its own links only, the master of everybody's health, so nothing is told twice.
"""

from __future__ import annotations

from collections.abc import Mapping

from outlast.model import Proof, ProofKind, View
from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note
from outlast.pool.silence import limit_ns
from outlast.settings import MS, S, Timing


class Told:
    """What was told already; losing it only repeats a note."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._told: set[tuple[object, ...]] = set()

    def deaths(self, facts: Facts, view: View, dead: Mapping[int, Proof]) -> list[Note]:
        notes: list[Note] = []
        for slot, proof in dead.items():
            key = ("dead", slot, proof.term)
            if key in self._told:
                continue
            self._told.add(key)
            host = view.members[slot].host
            seen = facts.seen[slot]
            if proof.kind is ProofKind.SILENT:
                limit_s = limit_ns(seen, self._timing) / S
                still_s = seen.still_ns / S
                notes.append(note("host-silent", host=host, still_s=still_s, limit_s=limit_s))
            elif proof.kind is ProofKind.FENCED:
                notes.append(note("host-off", host=host, why=proof.evidence))
            elif seen.block and seen.block.term == proof.term:
                notes.append(note("host-closed", host=host, state=seen.block.state.value))
            else:
                notes.append(note("host-anew", host=host))
        return notes

    def links(self, facts: Facts, view: View) -> list[Note]:
        notes: list[Note] = []
        for slot in sorted(view.slots - {facts.me.slot}):
            up = facts.links.get(slot, self._timing.dead_ns) < self._timing.link_lost_ns
            key = ("link", slot)
            if up == (key in self._told):
                code = "link-up" if up else "link-down"
                other = view.members[slot].host
                notes.append(note(code, host=facts.me.host, other=other))
                (self._told.discard if up else self._told.add)(key)
        return notes

    def health(self, facts: Facts, view: View) -> list[Note]:
        notes: list[Note] = []
        if view.master != facts.me.slot:
            return notes
        for slot, member in view.members.items():
            seen = facts.seen.get(slot)
            if seen is None:
                continue
            away_ns = seen.block.agent_away_ms * MS if seen.block else 0
            unwell = {
                "block-unreadable": seen.block is None,
                "agent-away": away_ns > self._timing.gap_ns,
            }
            for code, now in unwell.items():
                key = (code, slot)
                if now and key not in self._told:
                    self._told.add(key)
                    notes.append(note(code, host=member.host, away_s=away_ns / S))
                elif not now:
                    self._told.discard(key)
        return notes
