"""One pretend server without its programs: power, clocks, what runs, the guard and the watchdog.

Rules:
1. Power takes everything of the host at once: its VMs, its processes, its requests on the way.
2. A frozen host does nothing, its VMs included, but its requests on the way land.
3. The watchdog lives outside: it resets a host, a frozen one too, that did not pet it in time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from outlast.guard.core import GuardCore
from outlast.guard.facts import Facts as GuardSeen
from outlast.guard.facts import Reading
from outlast.guard.pulse_facts import GuardFact
from outlast.guard.pulse_windows import Instant
from outlast.guard.states import Duty
from outlast.model import GuardState, SlotRecord, VmRecord, VmState
from outlast.pool.facts import Held, Me, Sign
from outlast.pool.reporting import Found
from outlast.settings import MS, PoolSettings, S
from outlast.sim.clock import Clock
from outlast.sim.world import Path, World
from outlast.wire.grant import Packet

BUSY_NS = 10 * MS  # how soon the guard looks again: something is dying
NEAR_TICK_NS, NEAR_NS = 50 * MS, S  # a term is open and its deadline is near
QUIET_NS = 500 * MS  # else, but the watchdog is petted five times as often as it must be
BOOT_NS = 2 * S
TORN = 0.5  # the share of power cuts within a write that tear it, in a rough world
THAW_LOOK_NS = 50 * MS


@dataclass(slots=True)
class Copy:
    """What a move has brought here of a VM: it stands still until somebody lets it go on."""

    id: str
    complete: bool = False
    stale: bool = False  # the VM ran somewhere since the copy was complete


class Runs(dict[str, VmState]):
    """VM -> its state. Every change is one for the world to look at."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __setitem__(self, vm: str, state: VmState) -> None:
        self._world.changes += 1
        super().__setitem__(vm, state)

    def end(self, vm: str) -> VmState | None:
        self._world.changes += 1
        return self.pop(vm, None)


class Machine:
    """`begin` is called at each power-on, to start the host's programs."""

    def __init__(
        self, world: World, settings: PoolSettings, record: SlotRecord, memory_mib: int
    ) -> None:
        self.world, self.settings, self.record = world, settings, record
        self.name = record.host
        self.clock = Clock(world)
        self.me = Me(record.slot, record.host, record.uuid)
        self.memory_mib = memory_mib
        self.peers: dict[int, Machine] = {}
        self.running = Runs(world)  # what really runs here
        self.workers: set[str] = set()  # VMs whose disks a program works on here
        self.copies: dict[str, Copy] = {}  # what stands still here, come from elsewhere
        self.move_takes_ns = 400 * MS  # from a copy's start until it is complete
        self.replies_lost = 0  # one of so many words that a move from here worked never comes
        self.start_trouble: dict[str, str] = {}  # vm -> trouble of every start here
        self.heard: dict[int, int] = {}  # slot -> when its network beat came
        self.queued: set[str] = set()  # VMs that ended here with writes the storage has not had
        self._stuck_ns = 0
        self.ended: dict[str, int] = {}  # VM -> when its process went, its writes perhaps not yet
        self.writing: bytes | None = None  # the own block, on its way
        self.witness: bool | None = None  # does it reach the pool's? None: the pool has none
        self.frozen = False
        self.deaf: Callable[[], bool] = lambda: False  # its pulse sends and hears nothing
        self.power = False
        self.resets = 0
        self.petted_ns = 0
        self.guard = GuardCore()
        self._guard_looks = 0
        self._dying = False
        self.start_takes_ns = 200 * MS  # from libvirt's start to a QEMU that asks the guard
        self.pool_settings = settings  # as they are now
        self.busy_mcores = 0  # all that is measured here; 0 = nothing is
        self.mute: set[str] = set()  # VMs whose system does not answer
        self.boots: dict[str, int] = {}  # VM -> how long its system boots; empty: nobody looks
        self.began: dict[str, int] = {}  # VM that runs -> when it was started
        self.kill_takes_ns = 0  # from the guard's kill to the end of what it killed
        self.begin: Callable[[], None] = lambda: None
        self.packet: Callable[[Packet], None] = lambda packet: None  # for the pulse
        self.nudged: Callable[[], None] = lambda: None  # a peer says it wrote something
        world.lives[self.name] = 0

    def power_on(self) -> None:
        if self.power:
            return
        self.power = True
        self.world.lives[self.name] += 1
        self.clock.restart()
        self.guard = GuardCore()
        self.heard = {}
        self.petted_ns = self.world.now_ns
        self._watchdog()
        self.guard_soon()
        self.begin()

    def power_off(self) -> None:
        self.power = False
        self.frozen = False
        self._dying = False
        self.world.lives[self.name] += 1
        self._tear()
        self.running = Runs(self.world)
        self.queued.clear()
        self.ended.clear()
        self.copies.clear()
        self.workers.clear()

    def _tear(self) -> None:
        """A block that was being written may be half there."""
        raw, self.writing = self.writing, None
        if raw is not None and self.world.rough and self.world.random.random() < TORN:
            half = len(raw) // 2
            old = self.world.disk.area[self.me.slot]
            self.world.disk.write_block(self.me.slot, raw[:half] + old[half:])

    def reach_witness(self, reached: bool) -> None:
        """In a pool that has one."""
        if self.witness is not None:
            self.witness = reached

    def sleep(self, asleep: bool) -> None:
        """Suspended to memory, or not any more."""
        self.frozen = asleep
        self.clock.suspend(asleep)

    def reset(self) -> None:
        self.resets += 1
        self.power_off()
        life = self.world.lives[self.name]
        self.world.after(
            BOOT_NS, lambda: self.power_on() if self.world.lives[self.name] == life else None
        )

    def hear(self, packet: Packet) -> None:
        """A packet comes in by the network card."""
        if self.power:
            self.later(0, lambda: self.packet(packet))

    def later(self, delay_ns: int, act: Callable[[], None]) -> None:
        """Do it after a while, if this boot still lives; a frozen host does it when it thaws."""
        life = self.world.lives[self.name]

        def run() -> None:
            if self.world.lives[self.name] != life:
                return
            if self.frozen:
                self.world.after(THAW_LOOK_NS, run)
            else:
                act()

        self.world.after(delay_ns, run)

    def every(self, step_ns: int, act: Callable[[], None]) -> None:
        life = self.world.lives[self.name]

        def run() -> None:
            act()
            if self.world.lives[self.name] == life:  # it may just have ended this boot
                self.later(step_ns, run)

        self.later(self.world.random.randint(0, step_ns), run)

    def reading(self) -> Reading:
        return Reading(*self.clock.read())

    def instant(self) -> Instant:
        return Instant(*self.clock.read())

    # ---- guard

    @property
    def holds_term(self) -> bool:
        return self.power and self.guard.state is GuardState.OPEN

    def guard_seen(self) -> GuardSeen:
        here = self.here
        return GuardSeen(bool(here), here, 1, "", "watchdog")

    def guard_fact(self) -> GuardFact:
        memory = self.guard.memory()
        undrained = memory.undrained is not None
        return GuardFact(memory.state, memory.term, not self.here, undrained)

    @property
    def here(self) -> frozenset[str]:
        """VMs of which anything is here."""
        return frozenset(self.running) | frozenset(self.copies) | frozenset(self.workers)

    def guard_soon(self) -> None:
        """The guard looks now, and then again and again, as its own loop does."""
        self._guard_looks += 1
        mine, life = self._guard_looks, self.world.lives[self.name]

        def look() -> None:
            if self._guard_looks == mine:
                self._guard_tick()
                if self.world.lives[self.name] == life:  # it may just have ended this boot
                    self.later(self._guard_wait_ns(), look)

        self.later(0, look)

    def _guard_wait_ns(self) -> int:
        state = self.guard.state
        if state in (GuardState.CLOSING, GuardState.RESETTING):
            return BUSY_NS
        wait_ns = min(QUIET_NS, self.settings.timing.watchdog_s * S // 5)
        if state is not GuardState.OPEN:
            return wait_ns
        left_ns = self.guard.remaining_ns(self.reading())
        return max(0, min(NEAR_TICK_NS if left_ns < NEAR_NS else wait_ns, left_ns))

    def _guard_tick(self) -> None:
        duties = self.guard.tick(self.reading(), self.guard_seen())
        if Duty.KILL in duties and not self._dying:
            self._dying = True
            if self.kill_takes_ns:
                self.later(self.kill_takes_ns, self._died)
            else:
                self._died()
                return
        if Duty.SAVE in duties:
            self.guard.saved()
        if Duty.PET in duties:  # not beside RESET: the watchdog is what resets this host
            self.petted_ns = self.world.now_ns

    def runs(self, vm: str) -> None:
        """The VM runs here from now on: every copy of it is older than its disk."""
        self.running[vm] = VmState.RUNNING
        self.began[vm] = self.world.now_ns
        for machine in (self, *self.peers.values()):
            if vm in machine.copies:
                machine.copies[vm].stale = True
            if vm in machine.workers:
                self.world.accuse(f"I1: {vm} runs while {machine.name} works on its disks")

    def over(self, vm: str, *, flushed: bool = False) -> bool:
        """The VM's process is gone; what it had written may be on its way for X of answering time.

        QEMU waits for its writes before it stands still, and before it ends by itself.
        """
        state = self.running.end(vm)
        if state is VmState.RUNNING and not flushed:
            self._leaves_writes(vm)
        return state is not None

    def work_over(self, vm: str, *, flushed: bool = False) -> None:
        """The same of a program that worked on its disks."""
        if vm in self.workers:
            self.workers.discard(vm)
            if not flushed:
                self._leaves_writes(vm)

    def _leaves_writes(self, vm: str) -> None:
        self.ended[vm] = self.world.now_ns
        if self.world.paths[self.name] is Path.STUCK:
            self.queued.add(vm)

    def stuck(self) -> None:
        """The way to the storage ends here: what is on its way waits in this host's kernel."""
        self._stuck_ns = self.world.now_ns
        since_ns = self.world.now_ns - self.settings.timing.settle_ns
        self.queued |= {vm for vm, at_ns in self.ended.items() if at_ns > since_ns}

    def flows(self, holder: Callable[[str], str]) -> None:
        """The storage executes what waited here. holder: who has the lease then.

        Within X of now, or, after a pause too short to be sure to be seen, of the VM's end.
        """
        waited, self.queued = self.queued, set()
        timing, life, now_ns = self.settings.timing, self.world.lives[self.name], self.world.now_ns
        short = now_ns - self._stuck_ns <= timing.hang_ns

        def land(vm: str) -> None:
            other = holder(vm) if self.world.lives[self.name] == life else ""
            if other not in ("", self.name):
                self.world.accuse(f"I2: a write of {vm} from {self.name} lands under {other}")

        for vm in sorted(waited):
            begun_ns = max(self.ended[vm], now_ns - timing.settle_ns) if short else now_ns
            delay_ns = self.world.random.randint(0, begun_ns + timing.settle_ns - now_ns)
            self.world.after(delay_ns, lambda vm=vm: land(vm))  # type: ignore[misc]

    def end_vm(self, vm: str, then: Callable[[], None]) -> None:
        """The guard kills one VM; `then` when nothing of it is left."""

        def ended() -> None:
            self.over(vm)
            self.work_over(vm)
            then()

        self.later(self.kill_takes_ns, ended)

    def goes_on(self, vm: str) -> bool:
        """Somebody lets a copy go on that stands still here; False when there is none.

        Nobody asks the guard again: it let the copy in, and ends it with all the others. Whether it
        goes on an instant before the deadline or after it, it has until D + K, as every VM here.
        """
        copy = self.copies.pop(vm, None)
        if copy is None:
            return False
        if copy.stale or not copy.complete:
            self.world.accuse(f"V3: the copy of {vm} on {self.name} is older than its disk")
        if self.guard.state not in (GuardState.OPEN, GuardState.CLOSING):
            self.world.accuse(f"I5: {vm} goes on on {self.name} though its term has closed")
        self.runs(vm)
        return True

    def found(self, vms: Mapping[str, Held[VmRecord]]) -> Found | None:
        """What is measured here; None when nothing is and no VM wishes to be asked."""
        if not self.busy_mcores and not any(held.value.ready for held in vms.values()):
            return None
        return Found(self.busy_mcores, answered=dict.fromkeys(self.running.keys() - self.mute, 0))

    def signs(self) -> dict[str, Sign] | None:
        """Who has given a first sign of life; None when nobody looks."""
        if not self.boots:
            return None
        age_ns = {vm: self.world.now_ns - self.began[vm] for vm in self.running}
        return {
            vm: Sign(0, "console", self.boots[vm]) for vm, age in age_ns.items()
            if vm in self.boots and age >= self.boots[vm]
        }  # fmt: skip

    def works(self, vm: str) -> None:
        """A program works on the disks of a VM here from now on."""
        self.let_in(vm)
        self.workers.add(vm)
        if any(vm in machine.running for machine in (self, *self.peers.values())):
            self.world.accuse(f"I1: {self.name} works on the disks of {vm} while it runs")

    def let_in(self, vm: str) -> None:
        """The guard let a VM begin: by I5 its term must be open, with time left."""
        left_ns = self.guard.remaining_ns(self.reading())
        if self.guard.state is not GuardState.OPEN or left_ns <= 0:
            self.world.accuse(f"I5: {vm} begins on {self.name} whose term is over")

    def _died(self) -> None:
        """What the guard killed is gone."""
        for vm in tuple(self.running):
            self.over(vm)
        for vm in tuple(self.workers):
            self.work_over(vm)
        self.copies.clear()
        self._dying = False
        self.guard_soon()

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
