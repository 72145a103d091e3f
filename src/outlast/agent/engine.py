"""The agent's engine: wires senses, core and hands, and turns the tick over.

Rules:
1. One thread ticks: when something changed, and at least every `tick_ns` (or beat and a half, when
   the beats of the pulse are what changes). A tick that had something to say is followed by another
   one at once: what it concluded is acted upon now, not at the next beat.
2. A broken invariant ends the process with the reason on stderr; guard and pulse go on, the next
   agent adopts what runs.
3. The engine is the Service behind the API: it reads and wishes for people, it decides nothing.
"""

from __future__ import annotations

import ssl
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from outlast import __version__
from outlast.agent import notebook
from outlast.agent.alarm import alarm
from outlast.agent.api import Place
from outlast.agent.departures import Departures
from outlast.agent.disk_work import DiskWork
from outlast.agent.drilling import Drills, Means
from outlast.agent.farewell import Farewell
from outlast.agent.findings import Findings
from outlast.agent.growing import Growing
from outlast.agent.hands import Hands
from outlast.agent.introduction import Introduction, Mine
from outlast.agent.keepers import Keepers
from outlast.agent.last_words import LastWords
from outlast.agent.machine import LOOK_S, Machine
from outlast.agent.macs import macs_of
from outlast.agent.margin import Margin, Measured, advice
from outlast.agent.margin_file import MarginFile
from outlast.agent.mending import Mending
from outlast.agent.network_keeper import LinkPort
from outlast.agent.notebook import Notebook
from outlast.agent.patience import in_time
from outlast.agent.peers import way_to
from outlast.agent.picture import Picture
from outlast.agent.processors import BaselineKeeper
from outlast.agent.registers import Registers
from outlast.agent.repository_keeper import MountPort
from outlast.agent.senses import Senses, boottime_ns, links_of
from outlast.agent.service import Borrowed, NetworkHere
from outlast.agent.tick import tick
from outlast.errors import Conflict, NotFound, PoolTrouble
from outlast.guard.client import GuardClient
from outlast.guard.pulse_client import PulseClient
from outlast.hypervisor.adoption import Foreigners
from outlast.hypervisor.disks import Disks
from outlast.hypervisor.driver import Console, Processors
from outlast.hypervisor.mover import MovingDriver, Progress
from outlast.incident.ring import Ring
from outlast.model import Fence, Lease, Line, SlotRecord, VmRecord
from outlast.pool.core import PoolCore
from outlast.pool.facts import Held, Me
from outlast.pool.journal import Note, note
from outlast.power.port import PowerFence, SwitchSaid
from outlast.settings import PROTOCOL, PoolSettings, S
from outlast.storage.health import HostHealth
from outlast.storage.register import Register, Swap

T = TypeVar("T")
COPY_WAIT_S = 5.0  # for the hypervisor to end the last move of a VM that comes back
TOLD_MAX = 1000
TICK_PAUSE_S = 0.005  # a burst of changes is thought about once
AGAIN_MAX = 4  # ticks in a row without a cause from outside


@dataclass(frozen=True, slots=True)
class Parts:
    """What an engine is made of; everything that touches the world."""

    me: Me
    settings: PoolSettings
    pool_dir: Path
    notes_path: Path
    register: Register
    open_guard: Callable[[], GuardClient]
    pulse: PulseClient
    driver: MovingDriver
    processors: Processors
    power: PowerFence
    links: LinkPort
    mounts: MountPort
    disks: Disks
    foreigners: Foreigners
    findings: Findings
    run_dir: Path
    context: Callable[[], ssl.SSLContext]  # to speak with other agents; raises OutlastError
    endings: Callable[[], Mapping[str, str]]  # of certificates: a sentence, what to do
    boot_id: str
    power_off: Callable[[], None]  # switches this machine off


class Engine:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._wake = threading.Event()
        self._stop = threading.Event()
        timing = parts.settings.timing
        self._registers = Registers(parts.register, self._changed)
        self._machine = Machine(
            parts.driver, parts.open_guard, self._wake.set, max(timing.tick_ns / S, LOOK_S)
        )
        self._departures = Departures(
            parts.driver, parts.open_guard, self._machine, parts.run_dir, self._where,
            parts.context, lambda: self._registers.known.pool or parts.settings,
        )  # fmt: skip
        self._hands = Hands(
            self._registers, parts.driver, parts.open_guard, self._machine, self._wake.set,
            self._departures, parts.pulse.propose,
        )  # fmt: skip
        self._disk_work = DiskWork(self, self._hands, self._registers.swap, parts.open_guard)
        self._senses = Senses(
            parts.me, timing, self._registers, self._machine, self._hands, boottime_ns,
            lambda: parts.findings.found, lambda: self._keepers.repositories,
            lambda: self._keepers.witness,
        )  # fmt: skip
        shared = parts.pool_dir / "journal" / f"{parts.me.slot}.jsonl"
        self._notebook = Notebook(parts.me.host, parts.notes_path, shared, parts.me.slot)
        self._core = PoolCore(parts.settings)
        self._ring = Ring(parts.notes_path.parent / "record", parts.me.host, parts.settings)
        self._margin = Margin(timing)
        measured = MarginFile(parts.notes_path.parent / "margin.json", self._margin)
        self._words = LastWords(parts.notes_path.parent / "last-words.json", parts.me.host)
        self._mending, self._growing = Mending(), Growing()
        self._told: deque[Note] = deque(maxlen=TOLD_MAX)  # by other threads, for the notebook
        self._introduction = Introduction(
            Mine(__version__, PROTOCOL, macs_of, parts.processors),
            lambda: self.read_slot(parts.me.slot), self.write_slot,
        )  # fmt: skip
        self._baseline = BaselineKeeper(
            parts.processors, self.read_pool, self.write_pool, self.tell
        )
        self._keepers = Keepers(
            parts.me, parts.settings, parts.register, self, parts.power, parts.links, parts.mounts,
            boottime_ns, self.tell, parts.findings, self._registers,
            Means(parts.pulse.drill, parts.open_guard, self._words.drill), parts.endings,
            lambda: self._senses.snapshot, self._unwritten, measured.look,
        )  # fmt: skip
        self._farewell = Farewell(parts.boot_id, parts.pulse.leave, parts.power_off)
        self._picture = Picture(parts.me, parts.settings, None, None, "the agent has just begun")
        self._listener = threading.Thread(target=self._listen, name="pulse", daemon=True)

    # ---- life

    def run(self) -> None:
        """Tick until `stop`; ends the process on a broken invariant."""
        self._notebook.start()
        self._notebook.write([note("agent-started", host=self._parts.me.host, version=__version__)])
        self._notebook.write(self._words.begin())
        self._ring.start()
        self._machine.start()
        self._listener.start()
        self._keepers.start()
        timing = self._parts.settings.timing
        # the pulse speaks every beat: a tick just before it would be one for nothing
        wait_s = timing.tick_ns / S * (1.5 if timing.beat_ns <= timing.tick_ns else 1)
        again = 0
        while not self._stop.is_set():
            if again == 0:
                self._wake.wait(wait_s)
            self._wake.clear()
            again = (again + 1) % AGAIN_MAX if self._turn() else 0
            self._stop.wait(TICK_PAUSE_S)
        self._notebook.close()
        self._ring.close()
        self._words.close()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        self._registers.close()
        self._machine.close()
        self._hands.close()
        self._keepers.close()

    def _turn(self) -> bool:
        """Tick once; True when there was something to say."""
        parts = self._parts
        while self._told:
            self._notebook.write([self._told.popleft()])
        now_ns = boottime_ns()
        self._ring.before(self._core)
        picture = tick(now_ns, parts.me, parts.settings, self._core, self._senses, self._hands)
        known = self._registers.known.pool
        if known is not None and known.timing != parts.settings.timing:
            told = {"host": parts.me.host, "preset": known.timing.preset}
            self._notebook.write([note("timing-changed", **told)])
            self.stop()  # whatever started this agent starts it anew
        said = [sentence for sentence in (picture.trouble, self._trouble()) if sentence]
        self._picture = replace(picture, trouble=": ".join(said))
        if picture.facts is not None:
            self._hands.resume(self._mending.step(now_ns, picture.facts))
            self._hands.resize(self._growing.step(now_ns, picture.facts))
            self._notebook.write(self._farewell.step(picture.facts))
            self._introduction.step(picture.facts, self._guard_version())
            self._baseline.step(picture.facts, self._registers.known.pool)
        if picture.decision is None or picture.facts is None:
            return False
        self._ring.took(now_ns, picture.facts, picture.decision)
        reason = self._machine.seen.guard_reason
        self._notebook.write(self._words.keep(picture.facts, parts.settings.timing, reason))
        self._notebook.write(picture.decision.notes, picture.facts, parts.settings.timing)
        for one in picture.decision.notes:
            print(one.sentence, file=sys.stderr, flush=True)  # noqa: T201 - the service's log
        self._publish()
        return bool(picture.decision.notes)

    def _unwritten(self) -> dict[str, str]:
        recording = {"the recording of its decisions": self._ring.trouble}
        return self._notebook.troubles | {k: v for k, v in recording.items() if v}

    def _trouble(self) -> str:
        stores, unread = self._keepers.repositories, self._registers.known.troubles
        return alarm(self._senses.snapshot or {}, stores, unread)

    def _guard_version(self) -> str:
        """By its newest word; "" when it did not say."""
        return str(((self._senses.snapshot or {}).get("guard") or {}).get("version") or "")

    def _listen(self) -> None:
        """Hear the pulse for ever; the first word also starts the reading of the registers."""
        started, timing = False, self._parts.settings.timing
        for snapshot in self._parts.pulse.snapshots():
            if snapshot is not None:
                self._senses.hear(snapshot)
                sample = snapshot.get("sample")
                self._beat(sample if isinstance(sample, dict) else {})
                self._margin.hear_links(links_of(snapshot, timing))
                if not started:
                    started = True
                    self._registers.start(_number(snapshot.get("work_seq")))
            self._wake.set()
            if self._stop.is_set():
                return

    def _beat(self, sample: Mapping[str, Any]) -> None:
        """A confirmed beat is measured; one that took long is told."""
        numbers = [_number(sample.get(key)) for key in ("seq", "started_ns", "finished_ns")]
        took_ns = self._margin.hear(*numbers) if sample.get("good") else 0
        if self._margin.alarm(took_ns, numbers[2]):
            timing = self._parts.settings.timing
            better = advice(self._margin.measured(), timing)
            said = f"; preset '{better}' would suit this storage better" if better else ""
            fields = {"took_s": took_ns / S, "fence_s": timing.fence_ns / S, "advice": said}
            self.tell(note("margin-small", host=self._parts.me.host, **fields))

    def _where(self, slot: int) -> tuple[Place, str]:
        """The agent of a host, and the address at which its libvirt takes VMs in."""
        return way_to(slot, self._registers.known.slots.get(slot))

    def _changed(self) -> None:
        """A register changed here or elsewhere: tell the others what this host wrote."""
        self._publish()
        self._wake.set()

    def _publish(self) -> None:
        decision, registers = self._picture.decision, self._registers
        self._parts.pulse.publish(
            vm_count=decision.vm_count if decision else 0,
            free_mib=decision.free_mib if decision else 0,
            free_vcpus=decision.free_vcpus if decision else 0,
            work_seq=registers.work_seq,
            hints=registers.hints,
            witness=self._keepers.witness,
        )

    # ---- the Service behind the API

    @property
    def picture(self) -> Picture:
        return self._picture

    @property
    def pool_dir(self) -> str:
        return str(self._parts.pool_dir)

    def read_vm(self, name: str) -> Held[VmRecord] | None:
        return in_time(lambda: self._registers.read_now(f"vm/{name}"))

    def write_vm(self, expected: int, record: VmRecord) -> Swap:
        name = f"vm/{record.spec.name}"
        return in_time(lambda: self._registers.swap(name, expected, record))

    @property
    def boot_id(self) -> str:
        return self._parts.boot_id

    def read_slot(self, slot: int) -> Held[SlotRecord] | None:
        return in_time(lambda: self._registers.read_now(f"slot/{slot}"))

    def write_slot(self, expected: int, record: SlotRecord) -> Swap:
        name = f"slot/{record.slot}"
        return in_time(lambda: self._registers.swap(name, expected, record))

    def read_fence(self, slot: int) -> Held[Fence] | None:
        return in_time(lambda: self._registers.read_now(f"fence/{slot}"))

    def write_fence(self, expected: int, fence: Fence) -> Swap:
        name = f"fence/{fence.slot}"
        return in_time(lambda: self._registers.swap(name, expected, fence))

    def read_pool(self) -> Held[PoolSettings] | None:
        return in_time(lambda: self._registers.read_now("pool"))

    def write_pool(self, expected: int, settings: PoolSettings) -> Swap:
        return in_time(lambda: self._registers.swap("pool", expected, settings))

    def read_lease(self, vm: str) -> Held[Lease] | None:
        return in_time(lambda: self._registers.read_now(f"lease/{vm}"))

    def agreed(self, ask: Callable[[Register], T]) -> T:
        return in_time(lambda: ask(self._parts.register))

    @property
    def networks_here(self) -> Mapping[str, NetworkHere]:
        return self._keepers.networks

    def admit_copy(self, vm: str) -> None:
        self._check_storage(vm)
        if not self._departures.settled(vm, COPY_WAIT_S):
            raise Conflict(f"libvirt on {self._parts.me.host} has not ended its last move of {vm}")
        self._disk_work.admit(vm, incoming=True)

    def admit_writes(self, vm: str) -> None:
        self._disk_work.admit(vm).release(vm)  # it runs already: nobody shall enter

    def _check_storage(self, vm: str) -> None:
        facts = self._picture.facts
        record = facts.vms.get(vm) if facts else None
        if facts is not None and record is not None and (why := facts.away(record.value.spec)):
            raise PoolTrouble(f"{vm} cannot come to {self._parts.me.host}: {why}")

    def borrow(self, vm: str, why: str) -> AbstractContextManager[Borrowed]:
        return self._disk_work.borrow(vm, why)

    def occupied(self, kind: str, vm: str) -> AbstractContextManager[None]:
        return self._hands.occupied(kind, vm)

    @property
    def disks(self) -> Disks:
        return self._parts.disks

    @property
    def foreigners(self) -> Foreigners:
        return self._parts.foreigners

    @property
    def moving(self) -> bool:
        return self._departures.any

    def move_progress(self) -> Mapping[str, Progress]:
        return self._departures.all_progress()

    @property
    def power(self) -> Mapping[int, SwitchSaid]:
        return self._keepers.switches

    @property
    def health(self) -> Mapping[int, HostHealth]:
        return self._keepers.health

    @property
    def drills(self) -> Drills:
        return self._keepers.drills

    @property
    def measured(self) -> Measured:
        return self._margin.measured()

    def tell(self, told: Note) -> None:
        self._told.append(told)
        self._wake.set()

    def timeline(
        self, since_wall_s: float, limit: int, until_wall_s: float
    ) -> list[Mapping[str, object]]:
        folder = self._parts.pool_dir / "journal"
        return in_time(lambda: notebook.read(folder, since_wall_s, limit, until_wall_s))

    def open_line(self, vm: str, what: Line) -> Console:
        facts, driver = self._picture.facts, self._parts.driver
        if facts is None or vm not in facts.local:
            raise NotFound(f"{vm} does not run on {self._parts.me.host}")
        return driver.open_screen(vm) if what == "screen" else driver.open_console(vm)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
