"""One pretend host: real guard core, real pulse core, real pool core, pretended shells.

Rules:
1. Power takes everything of the host at once: its VMs, its processes, its requests on the way.
2. Guard and pulse outlive the agent; a killed agent comes back after AGENT_AWAY_NS with nothing
   remembered. A frozen host does nothing, its VMs included, but its requests on the way land.
3. The shells do what the production shells do, without threads: one storage cycle a beat, the
   guard's tick every GUARD_TICK_NS, the agent's tick when something changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from outlast.agent.tick import tick
from outlast.guard.core import Duty, GuardCore
from outlast.guard.facts import Facts as GuardSeen
from outlast.guard.facts import Reading
from outlast.guard.pulse_core import PulseCore
from outlast.guard.pulse_facts import Close, Desk, GuardFact, Identity, Open
from outlast.guard.pulse_facts import Sample as Cycle
from outlast.guard.pulse_windows import Instant, elapsed_least
from outlast.model import (
    BlockState,
    GuardState,
    HostResources,
    Lease,
    LocalVm,
    OrderBook,
    SlotRecord,
    View,
    VmRecord,
    VmState,
)
from outlast.pool.core import PoolCore
from outlast.pool.decision import Decision, Start, Stop, Swap
from outlast.pool.facts import Exit, Facts, GuardFacts, Held, Me, Result, Sample, Seen
from outlast.pool.journal import Note
from outlast.settings import MS, PoolSettings, S
from outlast.sim.world import World
from outlast.storage import format as fmt

GUARD_TICK_NS = 20 * MS
AGENT_AWAY_NS = S // 2
BOOT_NS = 2 * S
QEMU_START_NS = 200 * MS
START_WORDS = {
    "other": "QEMU ended at once",
    "locked": "the image is locked",
    "missing": "its image is not there",
    "refused": "the guard refused",
}
DECODE = {
    "vm": fmt.vm_from,
    "lease": fmt.lease_from,
    "slot": fmt.slot_from,
    "order": fmt.order_from,
}


def encode(value: View | Lease | OrderBook | VmRecord | SlotRecord) -> dict[str, object]:
    kinds: dict[type, Callable[[Any], dict[str, object]]] = {
        View: fmt.view_to,
        Lease: fmt.lease_to,
        OrderBook: fmt.order_to,
        VmRecord: fmt.vm_to,
        SlotRecord: fmt.slot_to,
    }
    return kinds[type(value)](value)


class SimHost:
    def __init__(
        self,
        world: World,
        settings: PoolSettings,
        record: SlotRecord,
        memory_mib: int,
        tell: Callable[[str, Note], None],
    ) -> None:
        self.world, self.settings, self.record = world, settings, record
        self.name = record.host
        self.me = Me(record.slot, record.host, record.uuid)
        self.memory_mib = memory_mib
        self.tell = tell
        self.peers: dict[int, SimHost] = {}
        self.running: dict[str, VmState] = {}  # what really runs here
        self.specs: dict[str, int] = {}
        self.start_trouble: dict[str, str] = {}  # vm -> trouble of every start here
        self.frozen = False
        self.power = False
        self.resets = 0
        world.lives[self.name] = 0

    # ---- power

    def power_on(self) -> None:
        if self.power:
            return
        self.power = True
        self.world.lives[self.name] += 1
        me, record = self.record, self.record
        boot_id = f"{self.world.random.getrandbits(128):032x}"
        self.guard = GuardCore()
        self.pulse = PulseCore(
            Identity(self.settings.uuid, record.uuid, boot_id, me.slot, me.generation),
            self.settings.timing,
        )
        self.pulse.slot_record(record)
        self.heard: dict[int, int] = {}
        self.cycle_busy = False
        self.cycle_seq = 0
        self.last_good: Cycle | None = None
        self.newest_good_seq = 0
        self.desk = Desk(free_mib=self.memory_mib, free_vcpus=64)
        self.petted_ns = self.world.now_ns
        self._watchdog()
        self.start_agent()
        self._every(GUARD_TICK_NS, self._guard_tick)
        self._every(self.settings.timing.beat_ns, self._beat)
        self._every(self.settings.timing.tick_ns, self._wake)

    def power_off(self) -> None:
        self.power = False
        self.frozen = False
        self.world.lives[self.name] += 1
        self.running.clear()

    def reset(self) -> None:
        self.resets += 1
        self.power_off()
        life = self.world.lives[self.name]
        self.world.after(
            BOOT_NS, lambda: self.power_on() if self.world.lives[self.name] == life else None
        )

    def kill_agent(self, *, for_good: bool = False) -> None:
        """As by kill -9; its supervisor starts it again, unless it is gone for good."""
        self.agent_life += 1
        self.agent_up = False
        self.agent_gone_ns = self.world.now_ns
        if not for_good:
            self._later(AGENT_AWAY_NS, self.start_agent)

    def start_agent(self) -> None:
        self.agent_life = getattr(self, "agent_life", 0) + 1
        self.agent_up = True
        self.core = PoolCore(self.settings)
        self.cache: dict[str, Held[Any]] = {}
        self.cache_ready = False
        self.busy: set[tuple[str, str]] = set()
        self.results: list[Result] = []
        self.exits: list[Exit] = []
        self.work_seq = 0
        self.tick_planned = False

    def _later(self, delay_ns: int, act: Callable[[], None]) -> None:
        """Do it after a while, if this boot still lives; a frozen host does it when it thaws."""
        life = self.world.lives[self.name]

        def run() -> None:
            if self.world.lives[self.name] != life:
                return
            if self.frozen:
                self.world.after(50 * MS, run)
            else:
                act()

        self.world.after(delay_ns, run)

    def _every(self, step_ns: int, act: Callable[[], None]) -> None:
        life = self.world.lives[self.name]

        def run() -> None:
            act()
            if self.world.lives[self.name] == life:  # it may just have ended this boot
                self._later(step_ns, run)

        self._later(self.world.random.randint(0, step_ns), run)

    def reading(self) -> Reading:
        return Reading(self.world.now_ns, self.world.now_ns)

    def instant(self) -> Instant:
        return Instant(self.world.now_ns, self.world.now_ns)

    # ---- guard

    def guard_seen(self) -> GuardSeen:
        return GuardSeen(bool(self.running), frozenset(self.running), 1, "", "watchdog")

    def _guard_tick(self) -> None:
        duties = self.guard.tick(self.reading(), self.guard_seen())
        if Duty.KILL in duties:
            self.running.clear()
            self._guard_tick()
            return
        if Duty.SAVE in duties:
            self.guard.saved()
        if Duty.RESET in duties:
            self.reset()
        elif Duty.PET in duties:
            self.petted_ns = self.world.now_ns

    def _watchdog(self) -> None:
        """The device: it lives outside the host and fires when nobody petted it in time."""
        life = self.world.lives[self.name]
        left_ns = self.petted_ns + self.settings.timing.watchdog_s * S - self.world.now_ns

        def look() -> None:
            if self.world.lives[self.name] == life:
                self._watchdog()

        if left_ns <= 0:
            self.reset()
        else:
            self.world.after(left_ns, look)

    def _guard_fact(self) -> GuardFact:
        return GuardFact(self.guard.state, self.guard.memory().term, not self.running)

    # ---- pulse

    def _beat(self) -> None:
        self.pulse.heed(self._guard_fact(), self.instant())
        for slot, peer in self.peers.items():
            if peer.power and not peer.frozen and self.world.hears(self.name, peer.name):
                del slot
                peer.heard[self.me.slot] = self.world.now_ns
        if self.cycle_busy:
            self._command(self.pulse.watch(self.instant()))
            return
        lost_ns = self.settings.timing.link_lost_ns
        heard = frozenset(s for s, at in self.heard.items() if self.world.now_ns - at < lost_ns)
        away_ms = 0 if self.agent_up else (self.world.now_ns - self.agent_gone_ns) // MS + 1
        hints = tuple(list(self._hints().items())[-16:])
        desk = replace(
            self.desk, heard=heard, agent_away_ms=away_ms, work_seq=self.work_seq, hints=hints
        )
        term = f"{self.world.random.getrandbits(128):032x}"
        block = self.pulse.begin(desk, term)
        raw = fmt.encode_block(block) if block else None
        started = self.instant()
        self.cycle_busy = True

        def read(acked: Instant | None) -> None:
            read_start = self.instant()
            self.world.ask(
                self.name,
                lambda: (tuple(self.world.disk.area), self._newer_views()),
                lambda got: self._finish(started, raw, acked, read_start, got),
                lambda error: self._failed(started, raw, acked, read_start, error),
            )

        if raw is None:
            read(None)
            return
        written = raw
        self.world.ask(
            self.name,
            lambda: self.world.disk.write_block(self.me.slot, written),
            lambda _: read(self.instant()),
            lambda error: self._failed(started, raw, None, self.instant(), error),
        )

    def _newer_views(self) -> tuple[View, ...]:
        known = self.pulse.view.version if self.pulse.view else 0
        newest = self.world.disk.version("view")
        return tuple(
            fmt.view_from(self.world.disk.value("view", v)) for v in range(known + 1, newest + 1)
        )

    def _finish(
        self, started: Instant, raw: bytes | None, acked: Instant | None, read_start: Instant,
        got: Any,
    ) -> None:  # fmt: skip
        area, views = got
        sample = Cycle(started, read_start, self.instant(), raw, acked, None, area, views)
        self._cycle_done(sample)

    def _failed(
        self, started: Instant, raw: bytes | None, acked: Instant | None, read_start: Instant,
        error: str,
    ) -> None:  # fmt: skip
        self._cycle_done(
            Cycle(started, read_start, self.instant(), raw, acked, None, None, (), error)
        )

    def _cycle_done(self, sample: Cycle) -> None:
        self.cycle_busy = False
        self.cycle_seq += 1
        self._command(self.pulse.finish(sample, self.instant()))
        if self.pulse.good:
            self.last_good, self.newest_good_seq = sample, self.cycle_seq
        self.pulse.heed(self._guard_fact(), self.instant())
        if self.agent_up:
            self._refresh(all_names=not self.cache_ready)

    def _command(self, commands: Any) -> None:
        timing = self.settings.timing
        for command in commands:
            at = {"term": command.term}
            if isinstance(command, Close):
                wish = {"reason": command.reason, "reset_if_running": command.reset_if_running}
                self.guard.close(self.reading(), self.guard_seen(), {**at, **wish})
            else:
                start = command.start
                at |= {"start_boot_ns": start.boot_ns, "start_raw_ns": start.raw_ns}
                if isinstance(command, Open):
                    at |= {
                        "fence_ns": timing.fence_ns, "kill_ns": timing.kill_ns,
                        "margin_ns": timing.margin_ns, "watchdog_s": timing.watchdog_s,
                    }  # fmt: skip
                    answer = self.guard.open(self.reading(), self.guard_seen(), at)
                    if not answer.get("ok"):
                        self.pulse.open_refused(str(answer.get("error")))
                else:
                    self.guard.confirm(self.reading(), at)

    def _hints(self) -> dict[str, int]:
        return {n: h.version for n, h in self.cache.items()}

    # ---- agent: registers

    def _refresh(self, *, all_names: bool = False) -> None:
        """Read what is newer; one request for all, as a thread of reads would have it."""
        del all_names
        life = self.agent_life
        read_ns = self.world.now_ns

        def act() -> dict[str, tuple[int, Any]]:
            found: dict[str, tuple[int, Any]] = {}
            for name in list(self.world.disk.registers):
                version = self.world.disk.version(name)
                known = self.cache.get(name)
                if name != "view" and (known is None or known.version < version):
                    found[name] = (version, self.world.disk.value(name, version))
            return found

        def done(found: Any) -> None:
            if life != self.agent_life or not self.agent_up:
                return
            for name, (version, value) in found.items():
                self._store(name, Held(version, DECODE[name.split("/")[0]](value), read_ns))
            self.cache_ready = True
            self._wake()

        self.world.ask(self.name, act, done, lambda _: self._wake())

    def _store(self, name: str, held: Held[Any]) -> None:
        known = self.cache.get(name)
        if known is None or known.version < held.version:
            self.cache[name] = held

    def _wake(self) -> None:
        if self.agent_up and not self.tick_planned:
            self.tick_planned = True
            life = self.agent_life
            self._later(1 * MS, lambda: self._tick() if life == self.agent_life else None)

    # ---- agent: tick

    def _tick(self) -> None:
        self.tick_planned = False
        if not self.agent_up or self.last_good is None:
            return
        picture = tick(self.world.now_ns, self.me, self.settings, self.core, self, self)
        if picture.decision:
            self.desk = replace(
                self.desk,
                free_mib=picture.decision.free_mib,
                vm_count=picture.decision.vm_count,
            )
            for one in picture.decision.notes:
                self.tell(self.name, one)

    def facts(self) -> Facts | str:
        newest, pulse = self.last_good, self.pulse
        if newest is None:
            return "nothing was read yet"
        windows = pulse.windows
        fresh = self.world.now_ns - newest.read_end.boot_ns <= self.settings.timing.gap_ns
        sample = Sample(
            self.newest_good_seq, newest.read_start.boot_ns, pulse.good and fresh, windows.run_ns()
        )
        seen = {
            slot: Seen(windows.block(slot), windows.still_ns(slot))
            for slot in windows.slots
            if slot != self.me.slot
        }
        results, self.results = tuple(self.results), []
        exits, self.exits = tuple(self.exits), []
        by_kind: dict[str, dict[str, Any]] = {k: {} for k in DECODE}
        for name, held in self.cache.items():
            kind, _, ident = name.partition("/")
            by_kind[kind][ident] = held
        used = sum(self.specs.get(vm, 0) for vm in self.running)
        guard = self.guard
        return Facts(
            me=self.me, term=pulse.term, block_state=self._block_state(), sample=sample, seen=seen,
            guard=GuardFacts(
                guard.state, guard.memory().term, guard.remaining_ns(self.reading()),
                frozenset(self.running),
            ),
            view=pulse.view, announced_ns=self._announced(),
            links={s: self.world.now_ns - at for s, at in self.heard.items()},
            slots={int(n): h.value for n, h in by_kind["slot"].items()},
            vms=by_kind["vm"], leases=by_kind["lease"],
            books={int(n): h for n, h in by_kind["order"].items()},
            registers_ready=self.cache_ready,
            local={n: LocalVm(n, s) for n, s in self.running.items()}, local_ready=True,
            resources=HostResources(self.memory_mib, 64, self.memory_mib - used, 64),
            busy=frozenset(self.busy), results=results, exits=exits,
        )  # fmt: skip

    def _block_state(self) -> BlockState:
        words = {s.value: s for s in BlockState}
        return words.get(self.pulse.life.value, BlockState.CLOSED)

    def _announced(self) -> int:
        announced, view = self.pulse.announced, self.pulse.view
        newest = self.pulse.windows.newest_start
        if announced is None or view is None or newest is None or announced[0] != view.version:
            return -1
        return max(0, elapsed_least(announced[1], newest))

    # ---- agent: hands

    def perform(self, decision: Decision) -> None:
        for kill in decision.kills:
            self._end(kill.vm)
        for stop in decision.stops:
            self._stop(stop)
        for swap in decision.swaps:
            self._swap(swap)
        for start in decision.starts:
            self._start(start)

    def _end(self, vm: str) -> None:
        self.running.pop(vm, None)
        self._wake()

    def qemu_ends(self, vm: str, kind: str) -> None:
        """kind: crashed (as by kill -9 of its process) | shutdown (from inside)."""
        if self.running.pop(vm, None):
            self.exits.append(Exit(vm, kind, "killed by signal 9" if kind == "crashed" else ""))
            self._later(20 * MS, self._wake)

    def _stop(self, stop: Stop) -> None:
        self.busy.add(("stop", stop.vm))
        life = self.agent_life

        def ended() -> None:
            self.running.pop(stop.vm, None)
            if life == self.agent_life:
                self.exits.append(Exit(stop.vm, "shutdown"))
                self._report(Result("stop", stop.vm, True))

        self._later(300 * MS, ended)

    def _swap(self, swap: Swap) -> None:
        if ("swap", swap.name) in self.busy:
            return
        self.busy.add(("swap", swap.name))
        life = self.agent_life
        value = encode(swap.value)

        def done(ok: object) -> None:
            if life != self.agent_life or not self.agent_up:
                return
            if ok:
                if isinstance(swap.value, View) and not self.cycle_busy:
                    self._beat()  # as the pulse does when its host has news
                if not isinstance(swap.value, View):
                    held = Held(swap.expected + 1, swap.value, self.world.now_ns)
                    self._store(swap.name, held)
                self.work_seq += 1
                self._nudge()
            result = Result("swap", swap.name, bool(ok), "" if ok else "conflict", swap.why)
            self._report(result)

        def failed(error: str) -> None:
            if life == self.agent_life:
                self._report(Result("swap", swap.name, False, "unknown", error))

        self.world.ask(
            self.name, lambda: self.world.disk.swap(swap.name, swap.expected, value), done, failed
        )

    def _nudge(self) -> None:
        for peer in self.peers.values():
            if peer.power and peer.agent_up and self.world.hears(self.name, peer.name):
                peer._later(2 * MS, peer._nudged)
        self._refresh()

    def _nudged(self) -> None:
        self._refresh()
        if not self.cycle_busy:
            self._beat()

    def _start(self, start: Start) -> None:
        if not self.guard.admit(self.reading(), start.vm).get("ok"):
            self._report(Result("start", start.vm, False, "refused", "the guard refused"))
            return
        self.busy.add(("start", start.vm))
        life = self.agent_life

        def launched() -> None:
            # libvirt's own process goes on even when the agent is gone
            trouble = self.start_trouble.get(start.vm, "")
            if trouble:
                self.guard.release(start.vm)
                if life == self.agent_life:
                    self._report(Result("start", start.vm, False, trouble, START_WORDS[trouble]))
                return
            entered = self.guard.enter(self.reading(), self.guard_seen(), start.vm).get("ok")
            if entered:
                self.running[start.vm] = VmState.RUNNING
                self.specs[start.vm] = start.spec.memory_mib
            if life == self.agent_life:
                trouble = "" if entered else "refused"
                words = START_WORDS.get(trouble, "")
                self._report(Result("start", start.vm, bool(entered), trouble, words))

        self._later(QEMU_START_NS, launched)

    def _report(self, result: Result) -> None:
        self.busy.discard((result.kind, result.subject))
        self.results.append(result)
        self._wake()

    @property
    def holds_term(self) -> bool:
        return self.power and self.guard.state is GuardState.OPEN
