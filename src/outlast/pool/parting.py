"""Live hosts that are cut off: which set stays together, and who of the others is excluded.

Rules:
1. A live host is excluded only when it was cut off for the whole grace, only by the best set
   (links.py), only when that is at least half of the live hosts and has room for its VMs. Whose
   block stands still is not known to live: that is a matter of proofs, or of its next beat.
2. When parts come together that were apart for a grace, those that are still missing get a grace
   anew: links come back one after the other.
3. Where the pool has a witness, an address outside of it such as its gateway, a host is excluded
   only when its own agent says that it does not reach it either: what runs there is of no use to
   anybody. A host that reaches it, or of which that is not known, stays; this is told once.
4. The policy `strict` asks neither for room nor for the witness; `hold` excludes nobody.
5. The grace begins when the last way to a host is lost, not when this host hears of it: its own
   link shows when, and what others say of theirs is a beat old, on average. No more than that is
   counted back.
"""

from __future__ import annotations

from dataclasses import dataclass

from outlast.model import View
from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note
from outlast.pool.links import best_set, reach, up_links
from outlast.settings import PoolSettings

NOBODY: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Parted:
    """Who stays together, who is to be excluded by them, and the rule that chose."""

    best: frozenset[int]
    out: frozenset[int]
    rule: str


class Parting:
    """The memory behind the grace; safe to lose at any time."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._timing = settings.timing
        self._apart: dict[int, int] = {}  # live hosts that cannot be reached, since when
        self._told: frozenset[int] = NOBODY  # of whom rule 3 was told

    def forget(self) -> None:
        self._apart.clear()

    def look(self, now_ns: int, facts: Facts, view: View) -> tuple[Parted | None, list[Note]]:
        """What is due now; None while nobody is to be excluded, or not by this host."""
        live = frozenset(view.members)
        heard = heard_by_all(facts, self._timing.link_lost_ns)
        if not self._apart and all(live - heard.get(s, NOBODY) <= {s} for s in live):
            self._told = NOBODY
            return None, []  # as ever: everybody hears everybody
        pairs = up_links(heard)
        here = reach(facts.me.slot, live, pairs)
        self._keep_apart(now_ns, facts, live, here)
        grace_ns = self._timing.partition_grace_ns
        over = {s for s, since in self._apart.items() if now_ns - since >= grace_ns}
        if not over or self._settings.partition == "hold":
            return None, []
        counts = {s: (b.block.vm_count if b.block else 0) for s, b in facts.seen.items()}
        counts[facts.me.slot] = len(facts.local)
        sure = {s: reaches_witness(facts, self._settings, s) for s in live}
        reached = frozenset(s for s in live if sure[s])
        best, rule = best_set(live, pairs, view.master, counts, reached)
        out = live - best
        if facts.me.slot not in best or 2 * len(best) < len(live) or not out - here <= over:
            return None, []
        if any(s in facts.seen and facts.seen[s].still_ns > self._timing.gap_ns for s in out):
            return None, []
        if self._settings.partition == "strict":
            return Parted(best, out, rule), []
        stay = frozenset(s for s in out if sure[s] is not False) if self._witness(facts) else NOBODY
        notes = self._tell_stay(facts, view, best, stay)
        if stay or not _room_for(facts, best, out):
            return None, notes
        return Parted(best, out, rule), notes

    def _witness(self, facts: Facts) -> str:
        return facts.agreed(self._settings).witness

    def _tell_stay(
        self, facts: Facts, view: View, best: frozenset[int], stay: frozenset[int]
    ) -> list[Note]:
        """By the one who would exclude them."""
        if stay == self._told:
            return []
        self._told = stay
        if not stay or facts.me.slot != min(best, key=lambda s: (s != view.master, s)):
            return []
        hosts = ", ".join(view.members[s].host for s in sorted(stay))
        return [note("cut-off-stays", hosts=hosts, witness=self._witness(facts))]

    def _keep_apart(
        self, now_ns: int, facts: Facts, live: frozenset[int], here: frozenset[int]
    ) -> None:
        """Rules 2 and 5: the grace is each host's own."""
        grace_ns = self._timing.partition_grace_ns
        before, self._apart = self._apart, {}
        healing = any(now_ns - since >= grace_ns for s, since in before.items() if s in here)
        for slot in live - here:
            new_ns = now_ns if healing else self._lost_ns(now_ns, facts, slot)
            self._apart[slot] = new_ns if healing else before.get(slot, new_ns)

    def _lost_ns(self, now_ns: int, facts: Facts, slot: int) -> int:
        """Rule 5: since when a host is cut off that was not a moment ago."""
        least_ns = now_ns - self._timing.beat_ns
        ago_ns = facts.links.get(slot)
        if ago_ns is None:
            return least_ns
        return max(least_ns, now_ns - max(0, ago_ns - self._timing.link_lost_ns))


def heard_by_all(facts: Facts, lost_ns: int) -> dict[int, frozenset[int]]:
    """Slot -> slots it hears: what others publish, and what this host hears itself."""
    heard = {s: b.block.heard for s, b in facts.seen.items() if b.block}
    heard[facts.me.slot] = frozenset(s for s, ago in facts.links.items() if ago < lost_ns)
    return heard


def reaches_witness(facts: Facts, settings: PoolSettings, slot: int) -> bool | None:
    """What this host measured, or another says of itself; None when that is not known."""
    if not facts.agreed(settings).witness:
        return None
    if slot == facts.me.slot:
        return facts.witness
    seen = facts.seen.get(slot)
    block = seen.block if seen else None
    return block.witness if block and not block.agent_away_ms else None


def _room_for(facts: Facts, best: frozenset[int], out: frozenset[int]) -> bool:
    held = [h.value.vm for h in facts.leases.values() if h.value.slot in out]
    need = sum(facts.vms[vm].value.spec.memory_mib for vm in held if vm in facts.vms)
    free = facts.resources.free_mib + sum(
        b.block.free_mib for s, b in facts.seen.items() if s in best and b.block
    )
    return need <= free
