"""What one host knows at one moment: the only input of the pool core.

Rules:
1. A fact is something read or heard, never something concluded.
2. Facts that can be missing are None or absent from their mapping; "unknown" never looks like "no".
3. Durations (`still_ns`, `run_ns`, `remaining_ns`) were measured where the event was seen, so no
   two clocks are ever compared here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from outlast.model import (
    Block,
    BlockState,
    Fence,
    GuardState,
    HaOff,
    HostResources,
    Lease,
    LocalVm,
    OrderBook,
    SlotRecord,
    View,
    VmRecord,
    VmSpec,
)
from outlast.report import Report
from outlast.settings import PoolSettings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Me:
    slot: int
    host: str
    uuid: str


@dataclass(frozen=True, slots=True)
class Sample:
    """The newest good read of the heartbeat area."""

    seq: int
    started_ns: int
    good: bool  # False: the newest cycle failed; the older evidence below still stands
    run_ns: int  # how long the gap-free run of good reads is
    steady_ns: int  # how long of it the storage did not even seem to stand still


@dataclass(frozen=True, slots=True)
class Seen:
    """A slot's block as that read showed it; `block` is None when it was unreadable."""

    block: Block | None
    still_ns: int  # unchanged for so long, up to the START of that read


@dataclass(frozen=True, slots=True)
class GuardFacts:
    state: GuardState
    term: str
    remaining_ns: int  # until the deadline; negative when past
    populated: frozenset[str]  # VMs whose control group holds a process


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """A register value with its version and when it was read (begin of the read)."""

    version: int
    value: T
    read_ns: int


@dataclass(frozen=True, slots=True)
class Extension:
    """What came of asking all others for time, while this host has no storage."""

    given: int = 0  # times since the last confirmed beat
    refused: Mapping[int, str] = field(default_factory=dict)  # slot -> why, of the newest question


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one piece of work a hand was given."""

    kind: str  # start | stop | kill | swap
    subject: str
    ok: bool
    trouble: str = ""  # "" | locked | missing | refused | other | conflict | unknown
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Exit:
    """A VM ended on this host."""

    vm: str
    kind: str  # crashed | shutdown | killed
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Sign:
    """The first sign of life of the system inside a VM that was just started."""

    started_ns: int  # of the VM's process, as in LocalVm
    kind: str  # agent | console | network
    after_ns: int  # from the begin of that process


@dataclass(frozen=True, slots=True)
class Answering:
    """A storage repository as this host sees it."""

    settled_ns: int  # what was gone before has its writes behind it: it answered, and for X since
    trouble: str = ""  # "" = it is there, and has answered without a break for X


@dataclass(frozen=True, slots=True)
class Facts:
    me: Me
    term: str
    block_state: BlockState
    sample: Sample
    seen: Mapping[int, Seen]  # other slots
    guard: GuardFacts
    view: View | None  # newest this host follows; None: none was ever written
    announced_ns: int  # how long the own block, as read back, has named that view; -1: not yet
    links: Mapping[int, int]  # slot -> how long ago its network beat was heard
    slots: Mapping[int, SlotRecord]
    vms: Mapping[str, Held[VmRecord]]
    leases: Mapping[str, Held[Lease]]
    books: Mapping[int, Held[OrderBook]]  # order books by slot
    registers_ready: bool  # False until everything was looked at once since the agent began
    local: Mapping[str, LocalVm]
    local_ready: bool  # the hypervisor answers and its list is current
    resources: HostResources
    busy: frozenset[tuple[str, str]] = frozenset()  # (kind, subject) a hand works on
    results: tuple[Result, ...] = ()
    exits: tuple[Exit, ...] = field(default=())
    wall_s: int = 0  # what the clock on the wall says; for people's ends only
    pool: PoolSettings | None = None  # as they are now; None: not read yet
    extension: Extension = Extension()
    fences: Mapping[int, Held[Fence]] = field(default_factory=dict)  # by slot
    unread: frozenset[str] = frozenset()  # names whose newest value is there and cannot be read
    repositories: Mapping[str, Answering] = field(default_factory=dict)  # that this host knows of
    reports: Mapping[int, Held[Report]] = field(default_factory=dict)  # by slot, as published
    report: Report | None = None  # what this host measured of itself just now
    signs: Mapping[str, Sign] | None = None  # of VMs that began a while ago; None: nobody looks
    witness: bool | None = None  # does this host reach the pool's? None: none is set, or not known

    @property
    def ha_off(self) -> HaOff | None:
        """The pool's switch, as its settings say now."""
        return self.pool.ha_off if self.pool else None

    def agreed(self, before: PoolSettings) -> PoolSettings:
        """What the pool's settings say now, or said before. An agent keeps its timing for life."""
        return self.pool or before

    def holds(self, lease: Lease) -> bool:
        """True when this host holds it, in its present term."""
        return lease.held and (lease.slot, lease.term) == (self.me.slot, self.term)

    def writing(self, *names: str) -> bool:
        """True while a hand writes one of these registers."""
        return any(("swap", name) in self.busy for name in names)

    def away(self, spec: VmSpec, since_ns: int = 0) -> str:
        """Why a storage that disks of a VM are on does not count as there; "" = it does.

        since_ns: what was gone then must have settled there.
        """
        troubles = (self.without(name, since_ns) for name in spec.stores)
        return next((trouble for trouble in troubles if trouble), "")

    def without(self, repository: str, since_ns: int = 0) -> str:
        """The same of one repository; "" is the pool's own storage."""
        state = self.repositories.get(repository)
        if not repository:
            return ""
        if state is None:
            return f"the storage {repository} is not known here yet"
        if state.trouble:
            return f"the storage {repository} is away: {state.trouble}"
        if state.settled_ns < since_ns:
            return f"the storage {repository} has not answered for long enough since it ended"
        return ""

    def host(self, slot: int) -> str:
        """The name of the host in a slot, as far as it is known."""
        record = self.slots.get(slot)
        return record.host if record else f"slot {slot}"
