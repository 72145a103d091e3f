"""A heartbeat area, a chain of views and a real guard core around one PulseCore, without I/O.

Time passes only where a test says so. After every step the world checks, by its own bookkeeping
and not by the core's, what the pulse must never do (see `_check_*`).
"""

from __future__ import annotations

import uuid
from dataclasses import replace

from outlast.guard.core import GuardCore
from outlast.guard.facts import Facts, Reading
from outlast.guard.pulse_core import PulseCore
from outlast.guard.pulse_facts import (
    Close,
    Command,
    Confirm,
    Desk,
    Drained,
    Extend,
    GuardFact,
    Identity,
    Open,
    Retime,
    Sample,
)
from outlast.guard.pulse_windows import Instant
from outlast.model import Block, BlockState, GuardState, Member, SlotRecord, View
from outlast.settings import preset
from outlast.storage.format import BadBlock, decode_block, encode_block

POOL = str(uuid.UUID(int=1))
ME, OTHER = str(uuid.UUID(int=2)), str(uuid.UUID(int=3))
BOOT, OTHER_BOOT = str(uuid.UUID(int=4)), str(uuid.UUID(int=5))
TIMING = preset("lab")
BEAT = TIMING.beat_ns
MS = 1_000_000
EMPTY = bytes(4096)


def peer_block(slot: int = 2, seq: int = 1, view: int = 0, **changes: object) -> Block:
    block = Block(
        POOL, OTHER, OTHER_BOOT, slot, 1, f"{slot:032x}", "0" * 32, BlockState.MEMBER, seq, 2503,
        200, view, frozenset(), 0, 0, 0, 0, 0,
    )  # fmt: skip
    return replace(block, **changes)  # type: ignore[arg-type]


class World:
    """Slot 1 is the pulse under test. `skew`: RAW nanoseconds per 1000 BOOTTIME nanoseconds."""

    def __init__(self, skew: int = 1000) -> None:
        self.boot_ns, self.skew = 10**12, skew
        self.area = [EMPTY] * 65
        self.views: dict[int, View] = {}
        self.guard = GuardCore()
        self.populated = False
        self.guard_answers = True
        self.guard_mute = False  # it does what it is told, but its replies are lost
        self.terms = 0
        self.boot = BOOT
        self.sample: Sample | None = None  # of the newest cycle
        self.restart_pulse()
        self.confirms = 0
        self.good_since_quiet: tuple[str, Instant] | None = None  # (term, first good cycle's end)
        self.good_run: list[tuple[Instant, Instant]] = []
        self.dead_terms: set[str] = set()
        self.drained: list[tuple[str, Instant]] = []  # terms of which the guard was told so
        self.closed_written: dict[str, int] = {}
        self.last_change: dict[int, tuple[bytes, Instant]] = {}

    # time and parts ---------------------------------------------------------------------------

    def now(self) -> Instant:
        return Instant(self.boot_ns, self.boot_ns * self.skew // 1000)

    def wait(self, ns: int) -> None:
        """Time passes, the guard ticks as it does by itself."""
        end = self.boot_ns + ns
        while self.boot_ns < end:
            self.boot_ns = min(end, self.boot_ns + 50 * MS)
            self._tick()

    def _reading(self) -> Reading:
        return Reading(*self.now())

    def _facts(self) -> Facts:
        return Facts(populated=self.populated, reset="none")

    def _tick(self) -> None:
        self.guard.tick(self._reading(), self._facts())

    def restart_pulse(self) -> None:
        me = Identity(POOL, ME, self.boot, 1, 1)
        self.core = PulseCore(me, TIMING)
        self.core.slot_record(SlotRecord(1, "a", ME, 1, True))
        self.good_run, self.last_change = [], {}
        self.good_since_quiet = None
        self.last_own: bytes | None = None

    def reboot(self) -> None:
        """Power off and on: new boot id, empty guard."""
        self.boot = str(uuid.uuid4())
        self.guard, self.populated = GuardCore(), False
        self.restart_pulse()

    def put(self, block: Block) -> None:
        self.area[block.slot] = encode_block(block)

    def view(self, *terms: tuple[int, str], kind: str = "test") -> View:
        """Write the next view listing these (slot, term)."""
        version = max(self.views, default=0) + 1
        members = {s: Member(f"h{s}", ME if s == 1 else OTHER, t) for s, t in terms}
        view = View(version, members, min(members, default=0), kind, kind, 2)
        self.views[version] = view
        return view

    def admit(self) -> View:
        return self.view((1, self.core.term), (2, f"{2:032x}"))

    def exclude(self) -> View:
        return self.view((2, f"{2:032x}"))

    def own(self) -> Block | None:
        try:
            return decode_block(self.area[1])
        except BadBlock:
            return None

    # cycles -----------------------------------------------------------------------------------

    def cycle(
        self, *, write: str = "ok", read: str = "ok", read_ns: int = 2 * MS, write_ns: int = 2 * MS,
        view_error: str = "", blind: bool = False, foreign: Block | None = None,
        old_view: int = 0,
    ) -> list[Command]:  # fmt: skip
        """One storage cycle.

        write: ok | lost (acknowledged, not stored) | error (not acknowledged, maybe stored) |
        torn. read: ok | error | stale (own block as before). blind: newer views are not found.
        old_view: this one is found instead.
        """
        self.terms += 1
        block = self.core.begin(Desk(), f"{self.terms:032x}")
        self._check_block(block)
        raw = encode_block(block) if block else None
        before_area, before = list(self.area), self.area[1] if raw else None
        self.quiet_at_start = self._quiet()
        started = self.now()
        self.wait(write_ns)
        acked = None
        if raw is not None:
            acked = self.now() if write != "error" else None
            if write in ("ok", "error"):
                self.area[1] = raw
            elif write == "torn":
                self.area[1] = raw[:512] + before_area[1][512:]
        if foreign is not None:
            self.put(foreign)
        read_start = self.now()
        area = list(self.area) if read != "stale" else [*before_area]
        self.wait(read_ns)
        read_end = self.now()
        known = self.core.view.version if self.core.view else 0
        newer = [] if blind else [v for n, v in sorted(self.views.items()) if n > known]
        newer = [self.views[old_view]] if old_view else newer
        sample = Sample(
            started, read_start, read_end, written=raw, acked=acked, before=before,
            area=area if read != "error" else None, views=tuple(newer),
            error="" if read != "error" and write != "error" else "EIO", view_error=view_error,
        )  # fmt: skip
        self.sample = sample
        self._keep_books(sample, block)
        self.heed()
        commands = self.core.finish(sample, self.now())
        self._check_commands(commands, sample, block)
        self._check_windows()
        self.obey(commands)
        return commands

    def cycle_unheard(self) -> list[Command]:
        """A cycle whose commands reach the guard while its replies are lost from then on."""
        obey, self.obey = self.obey, lambda _: None  # type: ignore[method-assign]
        commands = self.cycle()
        self.obey = obey  # type: ignore[method-assign]
        self.guard_mute = True
        self.obey(commands)
        return commands

    def hang(self, ns: int) -> list[Command]:
        """The storage does not answer for so long; the main thread goes on."""
        told: list[Command] = []
        end = self.boot_ns + ns
        while self.boot_ns < end:
            self.wait(BEAT)
            self.heed()
            commands = self.core.watch(self.now())
            assert all(isinstance(c, Close) for c in commands)
            self.obey(commands)
            told += commands
        return told

    def beats(self, count: int) -> list[Command]:
        told: list[Command] = []
        for _ in range(count):
            told += self.cycle()
            self.wait(BEAT - 4 * MS)
        return told

    def become_member(self) -> None:
        self.beats(6)
        assert self.core.life.value == "joining", self.core.trouble
        self.admit()
        self.beats(2)
        assert self.core.life.value == "member" and self.guard.state is GuardState.OPEN

    def heed(self) -> None:
        self._tick()
        if not self.guard_answers or self.guard_mute:
            self.core.heed(None, self.now())
            return
        memory = self.guard.memory()
        undrained = memory.undrained is not None
        fact = GuardFact(memory.state, memory.term, not self.populated, undrained)
        if fact.state is not GuardState.OPEN:
            self.dead_terms.add(memory.term)
        self.core.heed(fact, self.now())

    def obey(self, commands: list[Command]) -> None:
        for c in commands:
            if not self.guard_answers:
                continue
            request: dict[str, object] = {"term": c.term}
            if isinstance(c, Close):
                request |= {"reason": c.reason, "reset_if_running": c.reset_if_running}
                self.guard.close(self._reading(), self._facts(), request)
                continue
            if isinstance(c, Retime):
                self.retime(c)
                continue
            if isinstance(c, Drained):
                self.drained.append((c.term, self.now()))
                self.guard.drained(request)
                continue
            request |= {"start_boot_ns": c.start.boot_ns, "start_raw_ns": c.start.raw_ns}
            if isinstance(c, Confirm | Extend):
                self.guard.confirm(self._reading(), request, extend=isinstance(c, Extend))
                continue
            request |= {
                "fence_ns": TIMING.fence_ns, "kill_ns": TIMING.kill_ns,
                "margin_ns": TIMING.margin_ns, "watchdog_s": TIMING.watchdog_s, "drains": True,
            }  # fmt: skip
            said = self.guard.open(self._reading(), self._facts(), request)
            if said["ok"] is not True and not self.guard_mute:
                self.core.open_refused(str(said["error"]))
        self.heed()

    def retime(self, c: Retime) -> None:
        request: dict[str, object] = {
            "term": c.term, "start_boot_ns": c.start.boot_ns, "start_raw_ns": c.start.raw_ns,
            "fence_ns": c.timing.fence_ns, "kill_ns": c.timing.kill_ns,
            "margin_ns": c.timing.margin_ns, "watchdog_s": c.timing.watchdog_s,
        }  # fmt: skip
        if self.guard.retime(self._reading(), self._facts(), request)["ok"] is True:
            self.core.retimed(c.timing)

    def late_open(self) -> None:
        """An open that was sent long ago and waited in a socket reaches the guard."""
        self.obey([Open(self.core.term, self.now())])

    # the world's own books --------------------------------------------------------------------

    def _keep_books(self, sample: Sample, block: Block | None) -> None:
        if sample.area is None:
            self.good_since_quiet = None
            return
        own = sample.area[1]
        if sample.written is None:
            good = self.last_own is None or own == self.last_own
        else:
            good = sample.acked is not None and own == sample.written
        if self.last_own is not None and any(
            self._strange(raw) for raw in (sample.before, own) if raw != self.last_own
        ):
            good = False
        self.last_own = own
        for slot in range(2, 5):
            raw, known = sample.area[slot], self.last_change.get(slot)
            bad = raw != EMPTY and not _valid(raw)
            if raw != EMPTY and (known is None or known[0] != raw or bad):
                self.last_change[slot] = (raw, sample.read_end)
        if not good:
            self.good_run, self.good_since_quiet = [], None
            return
        if self.good_run:
            gap = max(b - a for a, b in zip(self.good_run[-1][0], sample.read_end, strict=True))
            if gap > TIMING.gap_ns:
                self.good_run, self.good_since_quiet = [], None
            if gap > TIMING.hang_ns:
                self.steady_since = sample.read_end
        if not self.good_run:
            self.steady_since = sample.read_end
        self.good_run.append((sample.read_start, sample.read_end))
        term = block.term if block else ""
        since = self.good_since_quiet
        if not self.quiet_at_start or not self._quiet():
            self.good_since_quiet = None
        elif since is None or since[0] != term:
            self.good_since_quiet = (term, sample.read_end)

    def _strange(self, raw: bytes | None) -> bool:
        if raw is None or not _valid(raw):
            return False
        block = decode_block(raw)
        return (block.host_uuid, block.boot_id) != (ME, self.boot)

    def _quiet(self) -> bool:
        return self.guard.state in (GuardState.IDLE, GuardState.CLOSED) and not self.populated

    def _check_block(self, block: Block | None) -> None:
        if block is None:
            return
        memory = self.guard.memory()
        if memory.state is GuardState.OPEN:
            assert block.term == memory.term, "the term changed while the guard is open with it"
        own = self.own()
        if own is not None and own.boot_id == self.boot and own.host_uuid == ME:
            assert block.seq > own.seq or block.term != own.term
            if block.term != own.term:
                assert own.state is BlockState.CLOSED, "a new term over one that was not closed"
                assert block.prev_term == own.term
        assert block.term not in self.closed_written or block.state is BlockState.CLOSED
        if block.state is BlockState.CLOSED:
            if block.term not in self.closed_written:
                since = self.good_since_quiet
                assert since is not None and since[0] == block.term
                self._check_calm()
            self.closed_written[block.term] = block.seq

    def _check_calm(self) -> None:
        """The storage has answered for X since the guard was quiet."""
        since, newest = self.good_since_quiet, self.good_run[-1][0] if self.good_run else None
        assert since is not None and newest is not None
        calm = min(b - a for a, b in zip(since[1], newest, strict=True))
        assert calm >= TIMING.settle_ns, f"after {calm} ns of calm"
        assert self.core.windows.steady_ns() >= TIMING.settle_ns, "storage may have stood still"

    def _check_commands(self, commands: list[Command], s: Sample, block: Block | None) -> None:
        for c in commands:
            if isinstance(c, Close):
                continue
            if isinstance(c, Drained):
                self._check_calm()
                continue
            assert isinstance(c, Open) or block is not None
            if isinstance(c, Retime):  # never more than what stands on the disk
                assert block is not None and c.timing.dead_after_ms <= block.dead_after_ms
                continue
            assert block is not None and s.written is not None and s.acked is not None
            assert s.area is not None and s.area[1] == s.written
            assert s.read_start.boot_ns >= s.acked.boot_ns
            view = self.core.view
            assert view is not None and view.lists(1, c.term) and block.term == c.term
            for slot in view.slots:
                seen = decode_block(s.area[slot]) if _valid(s.area[slot]) else None
                assert seen is None or seen.view_version <= view.version
            assert not s.view_error and c.start == s.started
            assert c.term not in self.closed_written
            if isinstance(c, Open):
                assert c.term not in self.dead_terms
            self.confirms += isinstance(c, Confirm)

    def _check_windows(self) -> None:
        windows = self.core.windows
        if not self.good_run:
            assert windows.run_ns() == 0
            return
        first, newest = self.good_run[0][1], self.good_run[-1][0]
        run = max(0, min(b - a for a, b in zip(first, newest, strict=True)))
        assert windows.run_ns() == run
        steady = min(b - a for a, b in zip(self.steady_since, newest, strict=True))
        assert windows.steady_ns() == max(0, steady)
        for slot, (_raw, at) in self.last_change.items():
            still = max(0, min(b - a for a, b in zip(at, newest, strict=True)))
            assert windows.still_ns(slot) <= still  # the own admission may have restarted it


def _valid(raw: bytes) -> bool:
    try:
        decode_block(raw)
    except BadBlock:
        return False
    return True
