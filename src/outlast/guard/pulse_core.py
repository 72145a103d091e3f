"""The pulse's decisions: what this host writes of itself and what it tells its guard.

P: pure; every instant, every fresh term, every byte read is an argument. Rules:

 1. CONFIRM only for a cycle whose write was acknowledged, whose full read began after that and
    shows the own block exactly as written, in which no valid block of a listed slot names a view
    newer than the one loaded, and that view lists this slot and term. It carries the WRITE's start.
 2. A newer view that is named must be loaded before; views are never followed backwards.
 3. When the newest view does not list a term that was listed: CLOSE, block state closing. After the
    guard is closed and empty AND settle_ns of consecutive good cycles that began after that, in
    which storage did not even seem to stand still (`steady_ns`): block state closed. After one good
    cycle of it: a new term (prev_term = old), state joining.
 4. Start: own block of this boot and guard OPEN with its term: the term goes on, and so does seq
    (torn own block: the guard's word counts). Own block of this boot, not closed, guard not OPEN
    with that term: that term is closing (3). Otherwise a new term begins after settle_ns of good
    reads; over a stranger's block only after the stranger's own promise ran out as well.
 5. The guard is OPENed only for a joining term that the newest view lists, with rule 1's evidence.
 6. Windows: see pulse_windows. The own admission restarts all of them.
 7. Storage trouble: nothing is confirmed. When the guard then passes its deadline it closes by
    itself; the pulse adds that storage is sick, so that the guard resets the host if anything runs.
 8. A slot record that is missing, inactive, or names another host or generation: nothing is written
    and the guard is closed. Two sightings of a stranger in the own slot: the same, until restart.
 9. A term whose guard is not OPEN any more is closing, whoever closed it. No term ever comes back.
10. When the storage has answered for X since a guard with nothing left closed, it is told.
11. New timing is used at once by the rules of pulse_promise: a promise given is kept.

It does not judge other hosts and does not write views or leases.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from outlast.guard.pulse_facts import (
    Close,
    Command,
    Confirm,
    Desk,
    Drained,
    Gone,
    GuardFact,
    Identity,
    Life,
    Open,
    Retime,
    Sample,
)
from outlast.guard.pulse_promise import Promise
from outlast.guard.pulse_strangers import Strangers
from outlast.guard.pulse_windows import Instant, Windows, elapsed_least, not_before
from outlast.model import NO_TERM, Block, BlockState, GuardState, SlotRecord, View
from outlast.settings import MS, RHO, Timing
from outlast.storage.format import BadBlock, decode_block


class PulseCore:
    """One host's own term. A cycle: begin, (I/O), heed, finish, (commands), heed.

    While the I/O does not return: heed and watch, again and again.
    """

    def __init__(self, me: Identity, timing: Timing) -> None:
        self.me = me
        self._promise = Promise(timing)
        self.windows = Windows(self._decode, timing)
        self._strangers = Strangers(me, self._decode)
        self.life = Life.LOOKING
        self.term = self.prev_term = NO_TERM
        self.seq = self.work_seq = 0
        self.view: View | None = None
        self.guard: GuardFact | None = None
        self.good = False
        self.leaving = False
        self.denied = "the own slot record was not read yet"
        self.conflict = self.reason = ""  # reason: why the term is closing
        self.trouble = ""  # why the newest cycle confirmed nothing
        self.gone: dict[int, Gone] = {}
        self.announced: tuple[int, Instant] | None = None
        self._listed = False
        self._asked_open = False
        self._closed_good = False
        self._quiet_at: Instant | None = None
        self._calm: Instant | None = None
        self._last_written: bytes | None = None
        self._own: bytes | None = None
        self._record_read = False
        self._wrote: Block | None = None

    def _decode(self, raw: bytes, slot: int) -> Block | None:
        try:
            return decode_block(raw, self.me.pool_uuid, slot)
        except BadBlock:
            return None

    # what the shell tells -------------------------------------------------------------------

    @property
    def timing(self) -> Timing:
        return self._promise.timing

    def set_timing(self, timing: Timing) -> None:
        """Rule 11."""
        self._promise.want(timing)
        if self.life is Life.LOOKING:
            self.windows.timed(self._promise.begin())

    def retimed(self, timing: Timing) -> None:
        """The guard counts with it from now on."""
        self._promise.taken(timing)
        self.windows.timed(timing)

    def slot_record(self, record: SlotRecord | None) -> None:
        """Rule 8. None: there is no such register."""
        me, said = self.me, ""
        if record is None:
            said = f"slot {me.slot} is not registered in this pool"
        elif record.uuid != me.host_uuid:
            said = f"slot {me.slot} belongs to host {record.host} ({record.uuid})"
        elif record.generation != me.generation:
            said = (
                f"slot {me.slot} was given out again: generation {record.generation}, "
                f"this host has {me.generation}"
            )
        elif not record.active:
            said = f"slot {me.slot} is retired"
        self._record_read = True
        self._deny(self.conflict or said)

    def _deny(self, said: str) -> None:
        if bool(said) != bool(self.denied):  # what follows begins with a look at the disk
            self.life, self._calm = Life.LOOKING, None
            self._own = self._last_written = None
            self._strangers.begin()
        self.denied = said

    def leave(self, wish: bool) -> None:
        """True: close the term for good; False: a new one may begin."""
        self.leaving = wish
        if wish and self.life in (Life.JOINING, Life.MEMBER):
            self._close("the host leaves the pool")

    def open_refused(self, sentence: str) -> None:
        """The guard said no: it surely holds no such term."""
        self._asked_open = False
        self.trouble = f"the guard refused to open: {sentence}"

    def heed(self, guard: GuardFact | None, now: Instant) -> None:
        """The guard's newest word; None when it does not answer. Rules 5 and 9."""
        self.guard = guard
        if guard is None or not guard.quiet:
            self._quiet_at = None
        elif self._quiet_at is None:
            self._quiet_at = now
        if guard is None:
            return
        if self.life is Life.JOINING and guard.holds(self.term):
            self.life = Life.MEMBER
        lost = self.life is Life.MEMBER or (self.life is Life.JOINING and self._asked_open)
        if lost and not guard.holds(self.term):
            self._close(f"the guard is {guard.state.value}")

    # one cycle ------------------------------------------------------------------------------

    def begin(self, desk: Desk, fresh_term: str) -> Block | None:
        """The block to write now; None: only read. fresh_term: 32 hex digits never used before."""
        self.work_seq = max(self.work_seq, desk.work_seq)
        if self.denied:
            return None
        if self._may_begin_term():
            self._begin_term(fresh_term)
        if self.life is Life.LOOKING:
            return None
        self.seq += 1
        me = self.me
        self._wrote = Block(
            me.pool_uuid, me.host_uuid, me.boot_id, me.slot, me.generation, self.term,
            self.prev_term, self._block_state(), self.seq, self._promise.ms,
            self.timing.beat_ns // MS, self.view.version if self.view else 0, desk.heard,
            desk.agent_away_ms, desk.vm_count, desk.free_mib, desk.free_vcpus, self.work_seq,
            desk.hints, desk.witness,
        )  # fmt: skip
        return self._wrote

    def _block_state(self) -> BlockState:
        if self.life is Life.CLOSING and self.leaving:
            return BlockState.LEAVING
        return BlockState(self.life.value)

    def _may_begin_term(self) -> bool:
        if self.leaving or self.guard is None or not self.guard.quiet:
            return False
        if self.life is Life.CLOSED:
            return self._closed_good
        return self.life is Life.LOOKING and self._calm_for(self._start_wait_ns())

    def _start_wait_ns(self) -> int:
        own = self.windows.block(self.me.slot)
        foreign = own is not None and own.host_uuid != self.me.host_uuid
        if own is None or not foreign or own.state is BlockState.CLOSED:
            return self.timing.settle_ns
        return int(own.dead_after_ms * MS * (1 + RHO)) + self.timing.settle_ns

    def _begin_term(self, fresh_term: str) -> None:
        if self.life is Life.LOOKING:
            own = self.windows.block(self.me.slot)
            self.term = own.term if own else self.term
            self.seq = max(self.seq, own.seq if own else 0)
            self.work_seq = max(self.work_seq, own.work_seq if own else 0)
        self.prev_term, self.term = self.term, fresh_term
        self.life, self.reason = Life.JOINING, ""
        self._listed = self._asked_open = self._closed_good = False
        self.windows.timed(self._promise.begin())

    def finish(self, sample: Sample, now: Instant) -> list[Command]:
        """What the guard is to be told after this cycle, in this order."""
        self.trouble = sample.error or sample.view_error
        self._look(sample)
        self._follow(sample.views, now)
        self._announce(sample)
        self._count_calm(sample)
        if self.life is Life.LOOKING and not self.denied and self.good:
            self._recognise(sample.read_end)
        elif self.life is Life.CLOSING and self._settled():
            self.life, self._closed_good = Life.CLOSED, False
        elif self.life is Life.CLOSED and self.good and self._wrote is not None:
            self._closed_good |= self._wrote.state is BlockState.CLOSED
        self._heed_view()
        return self._feed(sample) + self.watch(now)

    def watch(self, now: Instant) -> list[Command]:
        """What the guard is to be told whether or not storage answers. Rules 3, 7, 8 and 10."""
        guard = self.guard
        if guard is None or guard.state is GuardState.IDLE:
            return []
        if guard.state is GuardState.CLOSED:
            drained = guard.undrained and self._settled()
            return [Drained(guard.term)] if drained else []
        sick = not self.windows.fresh(now)
        over = bool(self.denied) or self.life in (Life.CLOSING, Life.CLOSED)
        if guard.state is GuardState.OPEN:
            stray = self.life is Life.JOINING and guard.term != self.term
            if not over and not stray:
                return []
            if self.denied and not self._record_read:
                return []  # a restarted pulse that can't read yet must not end the term
            reason = self.denied or self.reason or "a term that this pulse does not know"
            return [Close(guard.term, reason, sick)]
        if guard.state is GuardState.CLOSING and sick:
            return [Close(guard.term, self.reason or "storage does not answer", True)]
        return []

    # inside ---------------------------------------------------------------------------------

    def _look(self, sample: Sample) -> None:
        self.good = False
        if sample.area is None:
            self._calm = None
            return
        own = sample.area[self.me.slot]
        if sample.written is None:
            self.good = bool(self.denied) or self._own is None or own == self._own
        else:
            after = sample.acked is not None and not_before(sample.read_start, sample.acked)
            self.good = after and own == sample.written
        self._mind_strangers(sample, own)
        if sample.written is not None and not self.good and not self.trouble:
            self.trouble = "the own block does not read back as it was written"
        self._own = own
        if sample.acked is not None:
            self._last_written = sample.written
        self.windows.observe(sample.area, sample.read_start, sample.read_end, good=self.good)

    def _mind_strangers(self, sample: Sample, own: bytes) -> None:
        """Rule 8."""
        if self.denied:
            return
        calm = self.windows.run_ns() >= self.timing.dead_ns
        found = self._strangers.look(sample, own, self._last_written, calm=calm)
        if found:
            self.good, self.trouble = False, found
        if self._strangers.conflict:
            self.conflict = f"slot conflict: {self.trouble}, {self._strangers.conflict}"
            self._deny(self.conflict)

    def _follow(self, views: Iterable[View], now: Instant) -> None:
        """Rules 2 and 6."""
        for view in views:
            old = self.view
            if old is not None and view.version <= old.version:
                continue
            for slot, member in (old.members if old else {}).items():
                if not view.lists(slot, member.term):
                    self.gone[slot] = Gone(member.term, view.version)
            for slot in [s for s, g in self.gone.items() if view.lists(s, g.term)]:
                del self.gone[slot]
            self.view = view
            if view.lists(self.me.slot, self.term) and not self._listed:
                self._listed = True
                self.windows.restart(now)

    def _heed_view(self) -> None:
        """Rule 3."""
        view, alive = self.view, self.life in (Life.JOINING, Life.MEMBER)
        if view and alive and self._listed and not view.lists(self.me.slot, self.term):
            self._close(f"view {view.version} does not list this term: {view.reason}")

    def _announce(self, sample: Sample) -> None:
        wrote = self._wrote
        if sample.area is None or wrote is None or sample.written is None:
            return
        if not self.good:  # what others read in the own slot is not known
            self.announced = None
            self.gone = {s: replace(g, since=None) for s, g in self.gone.items()}
            return
        if self.announced is None or self.announced[0] != wrote.view_version:
            self.announced = (wrote.view_version, sample.read_end)
        for gone in self.gone.values():
            if gone.since is None and wrote.view_version >= gone.version:
                gone.since = sample.read_end

    def _count_calm(self, sample: Sample) -> None:
        """Good cycles in a row, all begun after the guard was heard to be quiet."""
        heard = self._quiet_at
        if not self.good or heard is None or not not_before(sample.started, heard):
            self._calm = None
        elif self._calm is None or self.windows.run_reads == 1:
            self._calm = sample.read_end

    def _calm_for(self, needed_ns: int) -> bool:
        newest = self.windows.newest_start
        if self._calm is None or newest is None:
            return False
        return elapsed_least(self._calm, newest) >= needed_ns

    def _settled(self) -> bool:
        """Nothing that VMs here wrote is on its way: storage has answered for X since, and did not
        even seem to stand still."""
        settle_ns = self.timing.settle_ns
        return self._calm_for(settle_ns) and self.windows.steady_ns() >= settle_ns

    def _recognise(self, at: Instant) -> None:
        """Rule 4, for as long as no term was found or begun."""
        guard, own = self.guard, self.windows.block(self.me.slot)
        if guard is None:
            self.trouble = "the guard does not answer: whether a term is open is not known"
            return
        mine = own is not None and (own.host_uuid, own.boot_id) == (
            self.me.host_uuid, self.me.boot_id,
        )  # fmt: skip
        alive = own if mine and own and own.state is not BlockState.CLOSED else None
        if guard.state is GuardState.OPEN and (own is None or (alive and alive.term == guard.term)):
            self._resume(guard.term, alive, at, Life.MEMBER)
            if alive and alive.state in (BlockState.CLOSING, BlockState.LEAVING):
                self._close("it was closing when the pulse restarted")
        elif guard.state in (GuardState.OPEN, GuardState.CLOSING, GuardState.RESETTING):
            self._resume(guard.term, own, at, Life.CLOSING)
        elif alive:
            self._resume(alive.term, alive, at, Life.CLOSING)

    def _resume(self, term: str, own: Block | None, at: Instant, life: Life) -> None:
        """seq goes on; after a torn own block from the boot clock's milliseconds, which are larger
        than any seq this boot can have reached."""
        self.life, self.term, self._calm, self.reason = life, term, None, ""
        if life is Life.CLOSING:
            self.reason = "after a restart of the pulse, block and guard did not agree on a term"
        self._listed = self._asked_open = True
        if own is None:
            self.seq = max(self.seq, at.boot_ns // MS)
            return
        self.seq, self.work_seq = max(self.seq, own.seq), max(self.work_seq, own.work_seq)
        self.prev_term = own.prev_term if own.term == term else own.term
        self._promise.keep(own.dead_after_ms)

    def _close(self, reason: str) -> None:
        self.life, self.reason, self._calm = Life.CLOSING, reason, None

    def _feed(self, sample: Sample) -> list[Command]:
        """Rules 1 and 5."""
        view, guard, wrote = self.view, self.guard, self._wrote
        if not self.good or sample.written is None or sample.view_error or view is None:
            return []
        if guard is None or wrote is None or wrote.term != self.term:
            return []
        named = [(b.view_version, s) for s in view.slots if (b := self.windows.block(s))]
        newest, by = max(named, default=(0, 0))
        if newest > view.version:
            self.trouble = f"view {newest}, named by slot {by}, is not readable yet"
            return []
        if not view.lists(self.me.slot, self.term):
            return []
        if self.life is Life.MEMBER and guard.holds(self.term):
            new = self._promise.confirmed(wrote.dead_after_ms)
            told = [Retime(self.term, sample.started, new)] if new else []
            return [Confirm(self.term, sample.started), *told]
        if self.life is Life.JOINING and guard.quiet and not self._asked_open:
            self._asked_open = True
            return [Open(self.term, sample.started)]
        return []
