"""The agent of a pretend host: the real tick around the real pool core, pretended senses and hands.

Rules:
1. Registers are read after each storage cycle and when a peer says that it wrote something.
2. A killed agent remembers nothing. What libvirt was told goes on without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from outlast.agent.tick import tick
from outlast.guard.pulse_facts import Desk
from outlast.guard.pulse_windows import elapsed_least
from outlast.model import BlockState, HostResources, Lease, LocalVm, StopMode, View, VmState
from outlast.pool.core import PoolCore
from outlast.pool.decision import Decision, Depart, Resume, Start, Stop, Swap
from outlast.pool.facts import Exit, Extension, Facts, GuardFacts, Held, Result, Sample, Seen
from outlast.pool.journal import Note
from outlast.pool.moving import STUCK, receiving
from outlast.pool.reporting import report_of
from outlast.settings import MS, S
from outlast.sim.codec import DECODE, encode
from outlast.sim.machine import Machine
from outlast.sim.moves import SimMove
from outlast.sim.pulse import SimPulse
from outlast.sim.world import Path
from outlast.storage import format as fmt

AGENT_AWAY_NS = S // 2
CRASHED = "its QEMU process ended unexpectedly"  # libvirt says no more
START_WORDS = {
    "other": "QEMU ended at once",
    "locked": "the image is locked",
    "missing": "its image is not there",
    "refused": "the guard refused",
}
STATES = {state.value: state for state in BlockState}
NUMBERED = {"slot", "order", "fence", "report"}  # registers of a slot
HINTS = 16
LATE_SWAP_NS = 120 * S  # on a late path a swap may land this much later


class SimAgent:
    """One boot's agent, over as many lives as it has."""

    def __init__(self, machine: Machine, tell: Callable[[str, Note], None]) -> None:
        self.machine, self.world, self.tell = machine, machine.world, tell
        self.memory: dict[str, int] = {}  # vm -> MiB
        self.free_mib, self.vm_count = machine.memory_mib, 0
        self.life = 0
        self.gone_ns = 0
        self.work_seq = 0
        self.begin()
        self.pulse = SimPulse(machine, self.to_publish, self.refresh)
        machine.nudged = self.nudged
        machine.packet = self.pulse.heed_packet
        timing = machine.settings.timing
        self._ticked_ns = machine.world.now_ns
        self._wait_ns = timing.tick_ns * (3 if timing.beat_ns <= timing.tick_ns else 2) // 2
        self._watch()

    def begin(self) -> None:
        self.life += 1
        self.up = True
        self.core = PoolCore(self.machine.settings)
        self.cache: dict[str, Held[Any]] = {}
        self.by_kind: dict[str, dict[Any, Held[Any]]] = {kind: {} for kind in DECODE}
        self.slots: dict[int, Any] = {}
        self.ready = False
        self.read_swaps = -1  # how many were done on the disk when all of it was read
        self.wrote: dict[str, int] = {}  # registers and versions, the newest last
        self.unread: frozenset[str] = frozenset()
        self.busy: set[tuple[str, str]] = set()
        self.results: list[Result] = []
        self.exits: list[Exit] = []
        self.moves: dict[str, SimMove] = {}
        self.planned = False
        self.work: dict[str, tuple[int, Lease]] = {}  # VMs whose disks are worked on; see disk_work

    def kill(self, *, for_good: bool = False) -> None:
        """As by kill -9; its supervisor starts it again, unless it is gone for good."""
        self.life += 1
        self.up = False
        self.gone_ns = self.machine.clock.boot_ns
        if not for_good:
            self.machine.later(AGENT_AWAY_NS, self.begin)

    def to_publish(self, heard: frozenset[int]) -> Desk:
        """What the pulse puts into the block."""
        hints = tuple(self.wrote.items())[-HINTS:]
        away_ms = 0 if self.up else (self.machine.clock.boot_ns - self.gone_ns) // MS + 1
        return Desk(
            agent_away_ms=away_ms, vm_count=self.vm_count, free_mib=self.free_mib, free_vcpus=64,
            work_seq=self.work_seq, hints=hints, heard=heard,
            witness=self.machine.witness,
        )  # fmt: skip

    # ---- registers

    def refresh(self) -> None:
        """Read what is newer; one request for all, as a thread of reads would have it."""
        if not self.up:
            return
        life = self.life
        read_ns = self.machine.clock.boot_ns

        def act() -> tuple[int, dict[str, tuple[int, Any]]]:
            found: dict[str, tuple[int, Any]] = {}
            disk = self.world.disk
            if disk.swaps == self.read_swaps and not disk.damaged and not self.unread:
                return disk.swaps, found
            for name in list(disk.registers):
                version = disk.version(name)
                known = self.cache.get(name)
                if name in disk.damaged:
                    found[name] = (version, None)
                elif name != "view" and (known is None or known.version < version):
                    found[name] = (version, disk.value(name, version))
            return disk.swaps, found

        def done(read: Any) -> None:
            if life != self.life or not self.up:
                return
            self.read_swaps, found = read
            self.unread = frozenset(name for name, (_, value) in found.items() if value is None)
            for name, (version, value) in found.items():
                if value is not None:
                    self._store(name, Held(version, self.world.meaning(name, value), read_ns))
            self.ready = True
            self.wake()

        self.world.ask(self.machine.name, act, done, lambda _: self.wake())

    def _store(self, name: str, held: Held[Any]) -> None:
        known = self.cache.get(name)
        if known is None or known.version < held.version:
            self.cache[name] = held
            kind, _, ident = name.partition("/")
            key = int(ident) if kind in NUMBERED else ident
            self.by_kind[kind] = {**self.by_kind[kind], key: held}  # a tick keeps what it saw
            if kind == "slot":
                self.slots = {**self.slots, int(ident): held.value}

    def _watch(self) -> None:
        """A look at least so often, counted from the newest, as in the agent's own loop."""
        left_ns = self._ticked_ns + self._wait_ns - self.world.now_ns
        if left_ns <= 0:
            self.wake()
            left_ns = self._wait_ns
        self.machine.later(left_ns, self._watch)

    def wake(self) -> None:
        if self.up and not self.planned:
            self.planned = True
            life = self.life
            self.machine.later(1 * MS, lambda: self._tick() if life == self.life else None)

    # ---- tick

    def _tick(self) -> None:
        self.planned = False
        self._ticked_ns = self.world.now_ns
        if not self.up or self.pulse.last_good is None:
            return
        me, settings = self.machine.me, self.machine.settings
        picture = tick(self.machine.clock.boot_ns, me, settings, self.core, self, self)
        if picture.decision:
            self.free_mib = picture.decision.free_mib
            self.vm_count = picture.decision.vm_count
            for one in picture.decision.notes:
                self.tell(self.machine.name, one)

    def facts(self) -> Facts | str:
        machine, newest, pulse = self.machine, self.pulse.last_good, self.pulse.core
        if newest is None or self.pulse.muted():
            return "nothing was read yet, or a drill takes the storage away"
        windows, reading = pulse.windows, machine.reading()
        fresh = reading.boot_ns - newest.read_end.boot_ns <= machine.settings.timing.gap_ns
        results, self.results = tuple(self.results), []
        exits, self.exits = tuple(self.exits), []
        by_kind, now_ns, here = self.by_kind, self.world.now_ns, machine.here
        guard, mib = machine.guard, machine.memory_mib
        facts = Facts(
            me=machine.me, term=pulse.term, block_state=self._block_state(),
            sample=Sample(
                self.pulse.good_seq, newest.read_start.boot_ns, pulse.good and fresh,
                windows.run_ns(), windows.steady_ns(),
            ),
            seen={
                slot: Seen(seen.block, windows.still_ns(slot))
                for slot, seen in windows.slots.items() if slot != machine.me.slot
            },
            guard=GuardFacts(
                guard.state, guard.memory().term, guard.remaining_ns(reading), here
            ),
            view=pulse.view, announced_ns=self._announced(),
            links={slot: now_ns - at for slot, at in machine.heard.items()},
            slots=self.slots, vms=by_kind["vm"], leases=by_kind["lease"], books=by_kind["order"],
            registers_ready=self.ready, local=self._local(), local_ready=True,
            resources=HostResources(mib, 64, mib - sum(self.memory.get(vm, 0) for vm in here), 64),
            busy=frozenset(self.busy), results=results, exits=exits, unread=self.unread,
            fences=by_kind["fence"], reports=by_kind["report"],
            witness=machine.witness, wall_s=machine.clock.wall_ns // S, pool=machine.pool_settings,
            extension=Extension(
                self.pulse.extensions.given, self.pulse.extensions.refusals()
            ),
            signs=self.machine.signs(),
        )  # fmt: skip
        found = machine.found(facts.vms)
        return replace(facts, report=report_of(facts, found)) if found else facts

    def _local(self) -> dict[str, LocalVm]:
        local = {
            vm: LocalVm(vm, state, STUCK if state is VmState.PAUSED else "")
            for vm, state in self.machine.running.items()
        }
        copies = self.machine.copies.items()
        return local | {vm: LocalVm(vm, VmState.PAUSED, incoming=c.id) for vm, c in copies}

    def _block_state(self) -> BlockState:
        return STATES.get(self.pulse.core.life.value, BlockState.CLOSED)

    def _announced(self) -> int:
        announced, view = self.pulse.core.announced, self.pulse.core.view
        newest = self.pulse.core.windows.newest_start
        if announced is None or view is None or newest is None or announced[0] != view.version:
            return -1
        return max(0, elapsed_least(announced[1], newest))

    # ---- hands

    def perform(self, decision: Decision) -> None:
        for kill in decision.kills:
            self._end(kill.vm)
        for stop in decision.stops:
            self._stop(stop)
        for abort in decision.aborts:
            if abort.vm in self.moves:
                self.moves[abort.vm].abort(abort.why)
        for swap in decision.swaps:
            self._swap(swap)
        for start in decision.starts:
            self._start(start)
        for depart in decision.departs:
            self._depart(depart)
        for resume in decision.resumes:
            self._resume(resume)

    def _end(self, vm: str) -> None:
        self.machine.over(vm)
        self.machine.copies.pop(vm, None)
        self.machine.work_over(vm)
        self.wake()

    def _depart(self, depart: Depart) -> None:
        vm, life = depart.vm, self.life
        self.busy.add(("move", vm))

        def report(ok: bool, why: str) -> None:
            if life == self.life and self.up:
                self.moves.pop(vm, None)
                self._report(Result("move", vm, ok, "" if ok else "other", why))

        target: Any = self.machine.peers[depart.to_slot]
        self.moves[vm] = SimMove(self.machine, self, target, target.agent, vm, depart.id, report)

    def refusal(self, vm: str, id_: str) -> str:
        """What this agent answers to the offer of a copy; "" = it may come."""
        world, disk = self.world, self.world.disk
        if not self.up or world.paths[self.machine.name] is not Path.OK:
            return "its agent does not answer"
        name = f"lease/{vm}"
        version = disk.version(name)
        lease = fmt.lease_from(disk.value(name, version))
        self._store(name, Held(version, lease, self.machine.clock.boot_ns))
        why = receiving(self.machine.me.slot, self.pulse.core.term, lease, id_)
        if why or vm in self.machine.here:
            return why or f"{vm} is here already"
        answer = self.machine.guard.admit(self.machine.reading(), vm, incoming=True)
        return str(answer.get("error", "")) if not answer.get("ok") else ""

    def _resume(self, resume: Resume) -> None:
        vm = resume.vm
        self.busy.add(("resume", vm))
        life = self.life

        def done() -> None:
            machine = self.machine
            ok = machine.goes_on(vm)
            if not ok and machine.running.get(vm) is VmState.PAUSED:
                machine.runs(vm)
                ok = True
            if life == self.life:
                self._report(Result("resume", vm, ok))

        self.machine.later(5 * MS, done)

    def qemu_ends(self, vm: str, kind: str) -> None:
        """kind: crashed (as by kill -9 of its process) | shutdown (from inside)."""
        if self.machine.over(vm, flushed=kind == "shutdown"):
            self.exits.append(Exit(vm, kind, CRASHED if kind == "crashed" else ""))
            self.machine.later(20 * MS, self.wake)

    def _stop(self, stop: Stop) -> None:
        self.busy.add(("stop", stop.vm))
        life, killed = self.life, stop.mode is StopMode.KILL

        def ended() -> None:
            self.machine.over(stop.vm, flushed=not killed)
            if life == self.life:
                self.exits.append(Exit(stop.vm, "killed" if killed else "shutdown"))
                self._report(Result("stop", stop.vm, True))

        self.machine.later(300 * MS, ended)

    def _swap(self, swap: Swap) -> None:
        if ("swap", swap.name) in self.busy:
            return
        self.busy.add(("swap", swap.name))
        if isinstance(swap.value, View):
            self.pulse.extensions.propose(swap.expected + 1)
        life = self.life
        value = encode(swap.value)

        def done(ok: object) -> None:
            if life != self.life or not self.up:
                return
            if ok:
                if isinstance(swap.value, View) and not self.pulse.busy:
                    self.pulse.beat()  # as the pulse does when its host has news
                if not isinstance(swap.value, View):
                    held = Held(swap.expected + 1, swap.value, self.machine.clock.boot_ns)
                    self._store(swap.name, held)
                self.work_seq += 1
                self.wrote.pop(swap.name, None)
                self.wrote[swap.name] = swap.expected + 1
                self._nudge()
            result = Result("swap", swap.name, bool(ok), "" if ok else "conflict", swap.why)
            self._report(result)

        def failed(error: str) -> None:
            if life == self.life:
                self._report(Result("swap", swap.name, False, "unknown", error))

        disk = self.world.disk
        self.world.ask(
            self.machine.name, lambda: disk.swap(swap.name, swap.expected, value), done, failed,
            LATE_SWAP_NS,
        )  # fmt: skip

    def _nudge(self) -> None:
        for peer in self.machine.peers.values():
            if peer.power and self.world.hears(self.machine.name, peer.name):
                peer.later(2 * MS, peer.nudged)
        self.refresh()

    def nudged(self) -> None:
        self.refresh()
        if not self.pulse.busy:
            self.pulse.beat()

    def _start(self, start: Start) -> None:
        machine = self.machine
        if not machine.guard.admit(machine.reading(), start.vm).get("ok"):
            self._report(Result("start", start.vm, False, "refused", "the guard refused"))
            return
        self.busy.add(("start", start.vm))
        life = self.life

        def launched() -> None:
            # libvirt's own process goes on even when the agent is gone
            trouble = machine.start_trouble.get(start.vm, "")
            if trouble:
                machine.guard.release(start.vm)
                if life == self.life:
                    self._report(Result("start", start.vm, False, trouble, START_WORDS[trouble]))
                return
            now, seen = machine.reading(), machine.guard_seen()
            entered = machine.guard.enter(now, seen, start.vm).get("ok")
            if entered:
                machine.let_in(start.vm)
                machine.runs(start.vm)
                self.memory[start.vm] = start.spec.memory_mib
            if life == self.life:
                trouble = "" if entered else "refused"
                words = START_WORDS.get(trouble, "")
                self._report(Result("start", start.vm, bool(entered), trouble, words))

        machine.later(machine.start_takes_ns, launched)

    def _report(self, result: Result) -> None:
        self.busy.discard((result.kind, result.subject))
        self.results.append(result)
        self.wake()
