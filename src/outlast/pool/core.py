"""The pool core: one step from what a host knows to what it does. The only thing with memory.

Rules:
1. `step` is pure but for the memory of the parts below; the same facts in the same order give the
   same decisions, byte for byte.
2. Order of thought: who is in (membership), what must run or end here (hosting), what the pool
   needs (plan, master only). Later parts see what earlier ones concluded, never the reverse.
3. All memory may be lost at any moment: it only saves repeated notes and repeated waiting.
"""

from __future__ import annotations

from outlast.model import GuardState
from outlast.pool.decision import Decision, Swap, check
from outlast.pool.facts import Facts
from outlast.pool.hosting import Hosting
from outlast.pool.journal import Note, note
from outlast.pool.membership import Members, Membership
from outlast.pool.plan import Plan
from outlast.pool.reporting import Reporting
from outlast.settings import PoolSettings, S
from outlast.words import plural


class PoolCore:
    """One host's thinking. Build one per agent life."""

    def __init__(self, settings: PoolSettings) -> None:
        self._members = Members(settings)
        self._hosting = Hosting(settings)
        self._plan = Plan(settings)
        self._reporting = Reporting()
        self._timing = settings.timing
        self._was_member: bool | None = None
        self._view_told = 0
        self._sick_since = 0
        self._sick_told = False
        self._time_told: set[str] = set()  # codes, since the storage is away
        self._swap_after: dict[str, int] = {}  # register -> when it may be written again

    def step(self, now_ns: int, facts: Facts) -> Decision:
        """What to do about the world as `facts` show it at `now_ns` (CLOCK_BOOTTIME)."""
        membership = self._members.step(now_ns, facts)
        notes = self._own_notes(now_ns, facts, membership) + self._swap_notes(now_ns, facts)
        notes += membership.notes
        excluded = self._members.excluded
        work = self._hosting.step(now_ns, facts, membership, excluded)
        orders, order_notes = self._plan.step(now_ns, facts, membership, excluded)
        swaps: list[Swap] = [membership.swap] if membership.swap else []
        hosted = [*work.swaps, *work.motion.swaps]
        mine = {s.name for s in hosted}
        swaps += [s for s in hosted if s.name.startswith("vm/")]
        swaps += [s for s in hosted if not s.name.startswith("vm/")]
        swaps += [s for s in orders if s.name not in mine]
        swaps += self._reporting.step(now_ns, facts, member=membership.member)
        motion = work.motion
        decision = Decision(
            kills=(*work.kills, *motion.kills),
            stops=tuple(work.stops),
            aborts=tuple(motion.aborts),
            swaps=tuple(s for s in swaps if self._may_swap(now_ns, facts, s)),
            starts=tuple(work.starts),
            departs=tuple(motion.departs),
            resumes=tuple(motion.resumes),
            notes=(*notes, *work.notes, *motion.notes, *order_notes),
            sentence=self._sentence(facts, membership),
            free_mib=facts.resources.free_mib if facts.local_ready else 0,
            free_vcpus=facts.resources.free_vcpus,
            vm_count=len(facts.local),
        )
        check(facts, decision)
        return decision

    def _may_swap(self, now_ns: int, facts: Facts, swap: Swap) -> bool:
        waits = now_ns < self._swap_after.get(swap.name, 0)
        return ("swap", swap.name) not in facts.busy and not waits

    def _swap_notes(self, now_ns: int, facts: Facts) -> list[Note]:
        """A write that failed is tried again after a beat, not in a tight loop; told once."""
        notes: list[Note] = []
        for result in facts.results:
            if result.kind != "swap":
                continue
            if result.ok:
                self._swap_after.pop(result.subject, None)
                continue
            told = result.subject in self._swap_after
            self._swap_after[result.subject] = now_ns + self._timing.beat_ns
            if not told and result.trouble != "conflict":
                notes.append(note("swap-unknown", name=result.subject))
        return notes

    def _own_notes(self, now_ns: int, facts: Facts, membership: Membership) -> list[Note]:
        notes: list[Note] = []
        view, me = facts.view, facts.me
        if view and view.version > self._view_told:
            self._view_told = view.version
            hosts = " ".join(view.members[s].host for s in sorted(view.members)) or "nobody"
            master = view.members[view.master].host if view.master in view.members else "nobody"
            told = {"view": view.version, "members": hosts, "master": master}
            notes.append(note("view-changed", **told, reason=view.reason))
        if membership.member and not self._was_member and view:
            notes.append(note("member", host=me.host, view=view.version, slot=me.slot))
        if self._was_member and not membership.member and facts.guard.state is not GuardState.OPEN:
            why = "its guard closed the term"
            notes.append(note("not-member", host=me.host, why=why))
        if membership.member or facts.guard.state is not GuardState.OPEN:
            self._was_member = membership.member
        notes += self._storage_notes(now_ns, facts)
        return notes

    def _storage_notes(self, now_ns: int, facts: Facts) -> list[Note]:
        """Storage that is away for longer than the gap is told, once, and so is its return."""
        host = facts.me.host
        if facts.sample.good:
            sick_since, self._sick_since = self._sick_since, 0
            self._time_told.clear()
            if self._sick_told:
                self._sick_told = False
                return [note("storage-back", host=host, away_s=(now_ns - sick_since) / S)]
            return []
        self._sick_since = self._sick_since or now_ns
        if now_ns - self._sick_since < self._timing.gap_ns:
            return []
        if self._sick_told:
            return self._time_notes(facts)
        self._sick_told = True
        return [note("storage-sick", host=host, why="its heartbeats are not confirmed")]

    def _time_notes(self, facts: Facts) -> list[Note]:
        """What came of asking the others for time: each told once for one absence."""
        host, refused = facts.me.host, facts.extension.refused
        why = ", ".join(f"{facts.host(slot)} {said}" for slot, said in sorted(refused.items()))
        wanted = {"time-given": facts.extension.given > 0, "time-refused": bool(refused)}
        codes = [c for c, so in wanted.items() if so and c not in self._time_told]
        self._time_told.update(codes)
        return [note(code, host=host, why=why) for code in codes]

    def _sentence(self, facts: Facts, membership: Membership) -> str:
        host, view = facts.me.host, facts.view
        if not membership.member or view is None:
            return f"{host} is {facts.block_state.value} and runs nothing"
        master = view.members[view.master].host if view.master in view.members else "nobody"
        return (
            f"{host} is a member of view {view.version}; master is {master}; "
            f"{plural(len(facts.local), 'VM')} here"
        )
