"""Who is in: when the chain of views gets a new link, and what it says.

Rules:
1. Only a host that the newest view lists, with its own open term, changes the view; everybody else
   waits to be admitted. Two exceptions: nothing was ever formed or the view is empty (any host
   with a slot forms it), and a listed host after everybody listed is proven dead (kind "cold").
2. A death needs a proof (proof.py), never a broken link; it is never delayed by a bad network.
3. Storm brake: more than half of the view silent at once, with no other proof, waits one more
   T_dead; the wait is announced.
4. A live host is excluded only when it is cut off, by the rules of parting.py. A single bad link
   between hosts that stay connected is told, not acted on.
5. A joiner shows a fresh block in state joining with a term no view has listed, matches its slot
   record, and is heard by and hears every live member.
6. The master stays while it lives and its agent is there; then the lowest slot takes over,
   hosts that run no VMs first.
7. Everybody computes the same; one swap wins, the others look again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from outlast.model import Block, BlockState, GuardState, Member, Proof, ProofKind, View
from outlast.pool.decision import Swap
from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note
from outlast.pool.links import linked, up_links
from outlast.pool.parting import Parting, heard_by_all
from outlast.pool.proof import of_death
from outlast.pool.silence import limit_ns
from outlast.pool.told import Told
from outlast.settings import MS, PoolSettings, S

ADMIT_BEATS = 3  # a joiner's links must have been up for so many beats
RANK_BEATS = 2  # how much later each next host proposes what is not urgent
PROPOSAL_BEATS = 3  # how long a proposal waits to see what came of it
REJOIN_BEATS = 30  # an excluded host waits so many beats before it is admitted again


@dataclass(frozen=True, slots=True)
class Membership:
    """What one step concluded."""

    swap: Swap | None = None
    notes: tuple[Note, ...] = ()
    dead: Mapping[int, Proof] = field(default_factory=dict)  # of hosts the view still lists
    extra_ns: int = 0  # the storm brake: add to every silence limit
    member: bool = False  # this host may act: listed, and its guard is open for that term


class Members:
    """The memory behind membership; one per agent life, safe to lose at any time."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._timing = settings.timing
        self.excluded: dict[tuple[int, str], int] = {}
        self._parting = Parting(settings)
        self._linked_since: dict[int, int] = {}
        self._excluded_at: dict[int, int] = {}
        self._followed: View | None = None
        self._since: dict[str, int] = {}  # when a not urgent proposal was first wanted
        self._told = Told(settings.timing)
        self._brake = False
        self._proposed = (-1, 0)  # view version and instant of the newest proposal

    def step(self, now_ns: int, facts: Facts) -> Membership:
        """Judge who is in and propose at most one change of the view."""
        view = facts.view
        if view is None or not view.members:
            return self._form(now_ns, facts)
        self._follow(now_ns, view)
        self._remember_excluded(facts, view)
        if not facts.sample.good:
            return Membership(member=self._member(facts, view))
        dead = self._dead(facts, view, 0)
        extra_ns, brake_notes = self._storm(facts, view, dead)
        if extra_ns:
            dead = self._dead(facts, view, extra_ns)
        notes = [*brake_notes, *self._told.deaths(facts, view, dead)]
        if not view.lists(facts.me.slot, facts.term):
            swap = self._cold(facts, view, dead)
            return Membership(swap, tuple(notes), dead, extra_ns)
        member = self._member(facts, view)
        if not member:
            return Membership(None, tuple(notes), dead, extra_ns)
        swap, more = self._propose(now_ns, facts, view, dead)
        return Membership(swap, tuple(notes + more), dead, extra_ns, member)

    def _follow(self, now_ns: int, view: View) -> None:
        """Every member knows since when a host is out: any of them might let it in again."""
        before, self._followed = self._followed, view
        if before is not None and before.version < view.version and view.kind == "exclude":
            for slot in before.slots - view.slots:
                self._excluded_at[slot] = now_ns

    # ---- who may act

    def _member(self, facts: Facts, view: View) -> bool:
        guard = facts.guard
        return (
            view.lists(facts.me.slot, facts.term)
            and guard.state is GuardState.OPEN
            and guard.term == facts.term
            and guard.remaining_ns > 0
        )

    def _form(self, now_ns: int, facts: Facts) -> Membership:
        if facts.block_state is not BlockState.JOINING or not facts.sample.good:
            return Membership()
        version = facts.view.version if facts.view else 0
        if facts.me.slot not in facts.slots or self._waits(now_ns, facts, version):
            return Membership()
        me = facts.me
        view = View(
            version + 1,
            {me.slot: Member(me.host, me.uuid, facts.term)},
            me.slot,
            "form",
            f"{me.host} forms the pool's first view" if version == 0 else f"{me.host} is back",
            me.slot,
        )
        return Membership(_swap(version, view))

    def _cold(self, facts: Facts, view: View, dead: Mapping[int, Proof]) -> Swap | None:
        me = facts.me
        mine = view.members.get(me.slot)
        if facts.block_state is not BlockState.JOINING or mine is None or mine.uuid != me.uuid:
            return None
        if any(slot not in dead for slot in view.members if slot != me.slot):
            return None
        new = View(
            view.version + 1,
            {me.slot: Member(me.host, me.uuid, facts.term)},
            me.slot,
            "cold",
            f"{me.host} returned and every host of view {view.version} is proven dead",
            me.slot,
        )
        return _swap(view.version, new)

    def _waits(self, now_ns: int, facts: Facts, version: int) -> bool:
        """True while a proposal for this view is under way, or its outcome not yet followed."""
        if ("swap", "view") in facts.busy:
            self._proposed = (version, now_ns)
            return True
        proposed, at_ns = self._proposed
        return proposed == version and now_ns - at_ns < PROPOSAL_BEATS * self._timing.beat_ns

    # ---- deaths

    def _dead(self, facts: Facts, view: View, extra_ns: int) -> dict[int, Proof]:
        # A block read before the view was known proves nothing about the terms it names; once the
        # own block announces the view, the newest read began after that.
        known_ns = facts.sample.started_ns - (1 if facts.announced_ns >= 0 else 0)
        found: dict[int, Proof] = {}
        for slot, member in view.members.items():
            if slot == facts.me.slot:
                continue
            proof = of_death(
                facts, self._timing, slot, member.term,
                known_ns=known_ns, excluded={}, extra_ns=extra_ns,
            )  # fmt: skip
            if proof:
                found[slot] = proof
        return found

    def _storm(self, facts: Facts, view: View, dead: Mapping[int, Proof]) -> tuple[int, list[Note]]:
        """dead: by silence as long as ever. What must be waited beyond that."""
        if all(p.kind is not ProofKind.SILENT for p in dead.values()):
            self._brake = False
            return 0, []
        # Who is silent for half of the limit already counts: what fails together is never seen
        # silent in one and the same read.
        sure = {s for s, p in dead.items() if p.kind is not ProofKind.SILENT}
        half = [
            s
            for s, m in view.members.items()
            if s not in sure and self._half_silent(facts, s, m.term)
        ]
        storm = 2 * len(half) > len(view.members)
        if storm and not self._brake:
            self._brake = True
            until_s = 2 * self._timing.dead_ns / S
            said = note("storm-brake", count=len(half), members=len(view.members), until_s=until_s)
            return self._timing.dead_ns, [said]
        if not storm:
            # once braking, only a host that writes again releases it: rule 3 has no other way out
            self._brake = False
        return (self._timing.dead_ns if self._brake else 0), []

    def _half_silent(self, facts: Facts, slot: int, term: str) -> bool:
        seen = facts.seen.get(slot)
        if seen is None or seen.block is None or slot == facts.me.slot:
            return False
        quiet = 2 * seen.still_ns >= limit_ns(seen, self._timing)
        return quiet and seen.block.term == term and seen.block.state is not BlockState.CLOSED

    def _remember_excluded(self, facts: Facts, view: View) -> None:
        """Rule P3: since when this host's own block announces views without a term."""
        named: dict[tuple[int, str], int] = {}  # since when the lease is known here
        for held in facts.leases.values():
            if held.value.held:
                key = (held.value.slot, held.value.term)
                named[key] = min(held.read_ns, named.get(key, held.read_ns))
        for key in list(self.excluded):
            if key not in named:
                del self.excluded[key]
        if facts.announced_ns < 0:
            return
        since = facts.sample.started_ns - facts.announced_ns
        for (slot, term), known_ns in named.items():
            # a term newer than the view this host follows is not excluded: let T_dead show it
            if not view.lists(slot, term) and slot != facts.me.slot:
                self.excluded.setdefault((slot, term), max(since, known_ns))

    # ---- proposals of a member

    def _propose(
        self, now_ns: int, facts: Facts, view: View, dead: Mapping[int, Proof]
    ) -> tuple[Swap | None, list[Note]]:
        if self._waits(now_ns, facts, view.version):
            return None, []
        if dead:
            return self._death_view(facts, view, dead), []
        notes = self._told.links(facts, view) + self._told.health(facts, view)
        parted, more = self._exclusion(now_ns, facts, view)
        notes += more
        if parted:
            return parted, notes
        joined = self._admission(now_ns, facts, view)
        if joined:
            return joined, notes
        return self._master_change(now_ns, facts, view), notes

    def _death_view(self, facts: Facts, view: View, dead: Mapping[int, Proof]) -> Swap:
        members = {s: m for s, m in view.members.items() if s not in dead}
        why = "; ".join(
            f"{view.members[s].host} is {_dead_word(p)}" for s, p in sorted(dead.items())
        )
        return self._next(facts, view, members, "death", why)

    def _admission(self, now_ns: int, facts: Facts, view: View) -> Swap | None:
        joiners = {}
        for slot, record in facts.slots.items():
            seen = facts.seen.get(slot)
            block = seen.block if seen else None
            if seen is None or block is None or not self._joins(facts, view, slot, block):
                self._linked_since.pop(slot, None)
                continue
            if seen.still_ns > self._timing.gap_ns or not record.active:
                continue
            if block.host_uuid != record.uuid or block.generation != record.generation:
                continue
            since = self._linked_since.setdefault(slot, now_ns)
            if now_ns - since < ADMIT_BEATS * self._timing.beat_ns:
                continue
            barred = self._excluded_at.get(slot)
            if barred is not None and now_ns - barred < REJOIN_BEATS * self._timing.beat_ns:
                continue
            joiners[slot] = Member(record.host, record.uuid, block.term)
        if not joiners or not self._my_turn(now_ns, facts, view, "admit", bool(joiners)):
            return None
        hosts = ", ".join(m.host for m in joiners.values())
        members = {**view.members, **joiners}
        verb = "joins" if len(joiners) == 1 else "join"
        return self._next(facts, view, members, "admit", f"{hosts} {verb}")

    def _joins(self, facts: Facts, view: View, slot: int, block: Block) -> bool:
        if block.state is not BlockState.JOINING or slot == facts.me.slot:
            return False
        if view.lists(slot, block.term):
            return False
        heard = heard_by_all(facts, self._timing.link_lost_ns)
        heard[slot] = block.heard
        pairs = up_links(heard)
        return all(linked(pairs, slot, s) for s in view.members if s != slot)

    def _exclusion(self, now_ns: int, facts: Facts, view: View) -> tuple[Swap | None, list[Note]]:
        parted, notes = self._parting.look(now_ns, facts, view)
        if parted is None or not self._my_turn(now_ns, facts, view, "exclude", True, parted.best):
            return None, notes
        self._parting.forget()
        hosts = ", ".join(view.members[s].host for s in sorted(parted.out))
        members = {s: view.members[s] for s in parted.best}
        why = (
            f"{hosts} cannot be reached for the whole grace; this side stays because {parted.rule}"
        )
        return self._next(facts, view, members, "exclude", why), notes

    def _master_change(self, now_ns: int, facts: Facts, view: View) -> Swap | None:
        seen = facts.seen.get(view.master)
        away_ns = seen.block.agent_away_ms * MS if seen and seen.block else 0
        gone = view.master not in view.members or away_ns >= self._timing.dead_ns
        if view.master == facts.me.slot or not self._my_turn(now_ns, facts, view, "master", gone):
            return None
        why = f"the agent of the master is away for {away_ns / S:.1f} s"
        return self._next(facts, view, dict(view.members), "master", why, avoid=view.master)

    def _my_turn(
        self, now_ns: int, facts: Facts, view: View, what: str, wanted: bool,
        among: frozenset[int] | None = None,
    ) -> bool:  # fmt: skip
        """True when this host should propose now: master first, the others later by rank."""
        if not wanted:
            self._since.pop(what, None)
            return False
        since = self._since.setdefault(what, now_ns)
        order = sorted(among or view.members, key=lambda s: (s != view.master, s))
        rank = order.index(facts.me.slot) if facts.me.slot in order else len(order)
        if now_ns - since < rank * RANK_BEATS * self._timing.beat_ns:
            return False
        self._since.pop(what, None)
        return True

    def _next(
        self, facts: Facts, view: View, members: Mapping[int, Member], kind: str, reason: str,
        avoid: int = 0,
    ) -> Swap:  # fmt: skip
        master = view.master
        if master not in members or master == avoid:
            master = min(
                (s for s in members if s != avoid or len(members) == 1),
                key=lambda s: (not _no_vms(facts, s), _away(facts, s), s),
            )
        new = View(view.version + 1, dict(members), master, kind, reason, facts.me.slot)
        return _swap(view.version, new)


def _swap(expected: int, view: View) -> Swap:
    return Swap("view", expected, view, view.reason)


def _dead_word(proof: Proof) -> str:
    words = {ProofKind.SILENT: "silent", ProofKind.FENCED: "off"}
    return words.get(proof.kind, "over")


def _no_vms(facts: Facts, slot: int) -> bool:
    record = facts.slots.get(slot)
    return record is not None and record.no_vms


def _away(facts: Facts, slot: int) -> bool:
    seen = facts.seen.get(slot)
    return bool(seen and seen.block and seen.block.agent_away_ms)
