"""A Service with a memory for storage and hypervisor: a pool of three hosts, seen by host a.

An obedient one carries out each wish at once, on host a (or where `home` says); one that is not
leaves the world as the test puts it. Registers are the real MemoryRegister with the real values.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from memory_disks import MemoryDisks, MemoryForeigners

from outlast.agent.api import Api
from outlast.agent.drilling import Drills, Means
from outlast.agent.margin import Measured
from outlast.agent.picture import Picture
from outlast.agent.service import Borrowed, NetworkHere
from outlast.agent.snapshot_acts import finish
from outlast.errors import Conflict, NotFound
from outlast.hypervisor.fake_console import connect
from outlast.hypervisor.mover import Progress
from outlast.hypervisor.socket_console import SocketConsole
from outlast.model import (
    Block,
    BlockState,
    Fence,
    GuardState,
    HostResources,
    Lease,
    LocalVm,
    Member,
    OrderBook,
    SlotRecord,
    View,
    VmRecord,
    VmState,
)
from outlast.pool.decision import DISKS, Decision
from outlast.pool.facts import Answering, Facts, GuardFacts, Held, Me, Sample, Seen
from outlast.pool.journal import Note
from outlast.power.port import SwitchSaid
from outlast.settings import PRESETS, PoolSettings, S
from outlast.storage.drills import DrillRecord
from outlast.storage.health import HostHealth
from outlast.storage.memory import MemoryRegister
from outlast.storage.records import vm_from, vm_to
from outlast.storage.register import Outcome, Register, Swap

TERMS = {1: "a" * 32, 2: "b" * 32, 3: "c" * 32}
NAMES = {1: "a", 2: "b", 3: "c"}
SETTINGS = PoolSettings("lab", "00000000-0000-4000-8000-000000000001", PRESETS["standard"])


class EchoConsole:
    """A serial line that greets and answers with what it gets."""

    def __init__(self, greeting: bytes) -> None:
        self._queue: queue.Queue[bytes] = queue.Queue()
        self._queue.put(greeting)
        self.closed = False

    def recv(self, limit: int) -> bytes:
        return b"" if self.closed else self._queue.get()

    def send(self, data: bytes) -> None:
        self._queue.put(data.upper())

    def close(self) -> None:
        self.closed = True
        self._queue.put(b"")


class MemoryService:
    def __init__(
        self, pool_dir: Path, *, slot: int = 1, home: int = 1, obedient: bool = True
    ) -> None:
        self.register = MemoryRegister()
        self.obedient, self.home = obedient, home
        self.me = Me(slot, NAMES[slot], f"uuid-{slot}")
        self._pool_dir = pool_dir
        self.leases: dict[str, Held[Lease]] = {}
        self.local: dict[str, LocalVm] = {}
        self.books: dict[int, Held[OrderBook]] = {}
        self.slots = {n: SlotRecord(n, NAMES[n], f"uuid-{n}", 1, True) for n in NAMES}
        self.view: View | None = View(
            7, {n: Member(NAMES[n], f"uuid-{n}", TERMS[n]) for n in NAMES}, 1, "form", "it began", 1
        )
        self.seen = {n: Seen(block(n), S) for n in NAMES if n != slot}
        self.links = {n: S // 5 for n in NAMES if n != slot}
        self.guard = GuardFacts(GuardState.OPEN, TERMS[slot], 39 * S, frozenset())
        self.trouble = ""
        self.told: list[Note] = []
        self.beats = Measured()
        self.switches: dict[int, SwitchSaid] = {}
        self.notes: list[Mapping[str, object]] = []
        self.consoles: list[EchoConsole] = []
        self.settings, self.pool_version = SETTINGS, 1
        self.fences: dict[int, Held[Fence]] = {}
        self.fence_fate = Outcome.OK
        self.slot_versions: dict[int, int] = {}
        self.admitted: list[str] = []
        self.written: list[tuple[str, ...]] = []  # storages that a running VM may write to
        self.busy: set[tuple[str, str]] = set()
        self.networks_here: dict[str, NetworkHere] = {}
        self.answering: dict[str, Answering] = {}
        self.disks = MemoryDisks()
        self.foreigners = MemoryForeigners()
        self.screen = pool_dir / "screen"  # a unix socket
        self.refuses = ""  # why no VM moves
        self.progress: dict[str, Progress] = {}
        self.drill: Held[DrillRecord] | None = None
        self.health: dict[int, HostHealth] = {}
        self.muted: list[tuple[str, int]] = []  # what drills did
        self.reset, self.clock_s = "watchdog", 0.0
        self.drills = Drills(
            Api(self), lambda: self.picture, lambda: self.drill, self._swap_drill,
            Means(self._mute, lambda: self, end_agent=lambda: self.muted.append(("agent", 0))),
            self.tell,
            clock=lambda: self.clock_s,
        )  # fmt: skip

    # ---- the Service

    @property
    def pool_dir(self) -> str:
        return str(self._pool_dir)

    @property
    def picture(self) -> Picture:
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if self.trouble:
            return Picture(self.me, SETTINGS, None, None, self.trouble, now_ns)
        decision = Decision(sentence=f"{self.me.host} is a member of view 7; master is a")
        return Picture(self.me, SETTINGS, self.facts(now_ns), decision, "", now_ns)

    def facts(self, now_ns: int) -> Facts:
        return Facts(
            me=self.me,
            term=TERMS[self.me.slot],
            block_state=BlockState.MEMBER,
            sample=Sample(5, now_ns, True, 600 * S, 600 * S),
            seen=dict(self.seen),
            guard=self.guard,
            view=self.view,
            announced_ns=600 * S,
            links=dict(self.links),
            slots=dict(self.slots),
            vms={n.partition("/")[2]: self._held(n) for n in self.register.names("vm")},
            leases=dict(self.leases),
            books=dict(self.books),
            registers_ready=True,
            local=dict(self.local),
            local_ready=True,
            resources=HostResources(8192, 4, 4096, 4),
            wall_s=int(time.time()),
            pool=self.settings,
            busy=frozenset(self.busy),
            repositories=dict(self.answering),
        )

    def read_vm(self, name: str) -> Held[VmRecord] | None:
        version, value = self.register.read(f"vm/{name}")
        return None if value is None else Held(version, vm_from(value), 0)

    def write_vm(self, expected: int, record: VmRecord) -> Swap:
        answer = self.register.swap(f"vm/{record.spec.name}", expected, vm_to(record))
        if self.obedient:
            self.obey()
        return answer

    boot_id = "boot-of-a"

    def read_slot(self, slot: int) -> Held[SlotRecord] | None:
        record = self.slots.get(slot)
        return None if record is None else Held(self.slot_versions.get(slot, 1), record, 0)

    def write_slot(self, expected: int, record: SlotRecord) -> Swap:
        if self.slot_versions.get(record.slot, 1) != expected:
            return Swap(Outcome.CONFLICT, expected + 1)
        self.slots[record.slot] = record
        self.slot_versions[record.slot] = expected + 1
        return Swap(Outcome.OK, expected + 1)

    def read_fence(self, slot: int) -> Held[Fence] | None:
        return self.fences.get(slot)

    def write_fence(self, expected: int, fence: Fence) -> Swap:
        if self.fence_fate is not Outcome.OK:
            return Swap(self.fence_fate, 0)
        self.fences[fence.slot] = Held(expected + 1, fence, 0)
        return Swap(Outcome.OK, expected + 1)

    def read_pool(self) -> Held[PoolSettings] | None:
        return Held(self.pool_version, self.settings, 0)

    def write_pool(self, expected: int, settings: PoolSettings) -> Swap:
        if self.pool_version != expected:
            return Swap(Outcome.CONFLICT, self.pool_version)
        self.settings, self.pool_version = settings, expected + 1
        return Swap(Outcome.OK, self.pool_version)

    def read_lease(self, vm: str) -> Held[Lease] | None:
        return self.leases.get(vm)

    def write_lease(self, name: str, expected: int, lease: Lease) -> Swap:
        held = self.leases.get(lease.vm)
        if (held.version if held else 0) != expected:
            return Swap(Outcome.CONFLICT, held.version if held else 0)
        self.leases[lease.vm] = Held(expected + 1, lease, 0)
        return Swap(Outcome.OK, expected + 1)

    @contextlib.contextmanager
    def borrow(self, vm: str, why: str) -> Iterator[Borrowed]:
        held = self.read_vm(vm)
        if held is None or held.value.deleted:
            raise NotFound(f"there is no VM '{vm}'")
        if held.value.wanted:
            raise Conflict(f"'{vm}' shall run")
        before = self.leases.get(vm, Held(0, Lease(vm), 0))
        mine = Lease(vm, self.me.slot, TERMS[self.me.slot], DISKS, why=why)
        self.write_lease(vm, before.version, mine)
        yield Borrowed(finish(held, self.write_vm, lambda: ()), lambda: ())
        self.write_lease(vm, before.version + 1, Lease(vm))

    def agreed(self, ask: Callable[[Register], Any]) -> Any:
        return ask(self.register)

    @contextlib.contextmanager
    def occupied(self, kind: str, vm: str) -> Iterator[None]:
        if (kind, vm) in self.busy:
            raise Conflict(f"'{vm}' is being worked on already")
        self.busy.add((kind, vm))
        try:
            yield
        finally:
            self.busy.discard((kind, vm))

    def admit_copy(self, vm: str) -> None:
        self.admitted.append(vm)

    def admit_writes(self, vm: str) -> None:
        held = self.read_vm(vm)
        assert held is not None
        self.written.append(held.value.stores)

    @property
    def moving(self) -> bool:
        return bool(self.progress)

    def move_progress(self) -> Mapping[str, Progress]:
        return self.progress

    @property
    def measured(self) -> Measured:
        return self.beats

    @property
    def power(self) -> Mapping[int, SwitchSaid]:
        return self.switches

    def tell(self, told: Note) -> None:
        self.told.append(told)

    def timeline(
        self, since_wall_s: float, limit: int, until_wall_s: float
    ) -> list[Mapping[str, object]]:
        found = [n for n in self.notes if since_wall_s <= float(str(n["wall_s"])) <= until_wall_s]
        return found[-limit:]

    def open_line(self, vm: str, what: str) -> Any:
        if vm not in self.local:
            raise NotFound(f"{vm} does not run on {self.me.host}")
        if what == "screen":
            return SocketConsole(f"the screen of {vm}", connect(self.screen))
        self.consoles.append(EchoConsole(f"welcome to {vm}\r\n".encode()))
        return self.consoles[-1]

    def _swap_drill(self, expected: int, drill: DrillRecord) -> Swap:
        if (self.drill.version if self.drill else 0) != expected:
            return Swap(Outcome.CONFLICT, 0)
        self.drill = Held(expected + 1, drill, 0)
        return Swap(Outcome.OK, expected + 1)

    def status(self) -> Mapping[str, object]:
        return {"reset": self.reset}

    def kill(self, vm: str) -> Mapping[str, object]:
        self.muted.append((f"vm {vm}", 0))
        return {}

    def _mute(self, kind: str, for_s: int) -> bool:
        self.muted.append((kind, for_s))
        return True

    # ---- the world

    def obey(self) -> None:
        """Do at once what the pool would do in time."""
        for name in self.register.names("vm"):
            record, vm = self._held(name).value, name.partition("/")[2]
            lease = self.leases.get(vm, Held(0, Lease(vm), 0))
            if record.wanted and not lease.value.held:
                self.hold(vm, self.home)
                if self.home == self.me.slot:
                    self.run(vm)
            elif record.wanted and record.move and not record.move.failed and lease.value.held:
                version = self._held(name).version
                if self.refuses:
                    failed = replace(record.move, failed=self.refuses)
                    self.register.swap(name, version, vm_to(replace(record, move=failed)))
                    continue
                others = [n for n in NAMES if n != lease.value.slot]
                to = next((n for n in others if NAMES[n] == record.move.to), others[0])
                self.local.pop(vm, None)
                self.hold(vm, to, via="migration")
                self.register.swap(name, version, vm_to(replace(record, move=None)))
            elif not record.wanted and lease.value.held:
                self.local.pop(vm, None)
                self.leases[vm] = Held(lease.version + 1, Lease(vm, why="it is stopped"), 0)

    def run(self, vm: str, state: VmState = VmState.RUNNING) -> None:
        started_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 60 * S
        self.local[vm] = LocalVm(vm, state, started_ns=started_ns)

    def hold(self, vm: str, slot: int, **more: object) -> None:
        version = self.leases[vm].version if vm in self.leases else 0
        lease = replace(Lease(vm, slot, TERMS[slot], "start"), **more)  # type: ignore[arg-type]
        self.leases[vm] = Held(version + 1, lease, 0)

    def _held(self, name: str) -> Held[VmRecord]:
        version, value = self.register.read(name)
        return Held(version, vm_from(value), 0)


def block(slot: int, state: BlockState = BlockState.MEMBER, **more: object) -> Block:
    """The block of a healthy host."""
    made = Block(
        pool_uuid=SETTINGS.uuid, host_uuid=f"uuid-{slot}", boot_id="x", slot=slot, generation=1,
        term=TERMS[slot], prev_term="0" * 32, state=state, seq=9,
        dead_after_ms=SETTINGS.timing.dead_after_ms, interval_ms=2000, view_version=7,
        heard=frozenset(NAMES) - {slot}, agent_away_ms=0, vm_count=0, free_mib=1000 * slot,
        free_vcpus=2, work_seq=0,
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]
