"""The seam between the agent's engine and its API: what the server may ask for (pure).

Rules:
1. Everything here may be called from any thread. `picture` never blocks; the others may block on
   storage or the hypervisor and are called from worker threads only.
2. Wishes are register swaps: `write_vm` succeeds only when the version is still the expected one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from outlast.agent.margin import Measured
from outlast.agent.picture import Picture
from outlast.errors import NotFound
from outlast.hypervisor.adoption import Foreigners
from outlast.hypervisor.disks import Disks
from outlast.hypervisor.driver import Console
from outlast.hypervisor.mover import Progress
from outlast.model import Fence, Lease, Line, SlotRecord, VmRecord
from outlast.pool.facts import Held
from outlast.pool.journal import Note
from outlast.power.port import SwitchSaid
from outlast.settings import PoolSettings
from outlast.storage.drills import DrillRecord
from outlast.storage.health import HostHealth
from outlast.storage.names import check_name
from outlast.storage.register import Register, Swap

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NetworkHere:
    """How one of the pool's networks stands on this host."""

    trouble: str  # "" = it is there
    deaf: tuple[str, ...] = ()  # hosts that are not heard on it


@dataclass(frozen=True, slots=True)
class Borrowed:
    """A stopped VM whose disks may be worked on. `leave()` is asked before each program, and gives
    the words that must stand before its own."""

    record: VmRecord
    leave: Callable[[], tuple[str, ...]]


def existing(service: Service, vm: str) -> VmRecord:
    """The record of a VM, read now. Raises NotFound, InvalidInput for no name, StorageTrouble."""
    return existing_held(service, vm).value


def existing_held(service: Service, vm: str) -> Held[VmRecord]:
    """The same with its version."""
    held = service.read_vm(check_name(vm, "VM name"))
    if held is None or held.value.deleted:
        raise NotFound(f"there is no VM '{vm}'", hint="outlast vm list")
    return held


class Drilling(Protocol):
    """The pool's fire drills; see drilling.py."""

    def newest(self) -> DrillRecord:
        """Raises NotFound."""

    def wish(self, host: str, kind: str, vm: str, by: str) -> DrillRecord:
        """Raises InvalidInput, NotFound, Conflict, StorageTrouble."""


class Service(Protocol):
    @property
    def picture(self) -> Picture:
        """The newest complete picture."""

    @property
    def pool_dir(self) -> str:
        """Where the pool's storage is mounted on this host."""

    def read_vm(self, name: str) -> Held[VmRecord] | None:
        """The newest record of a VM, read from storage now; None: there never was one.

        Raises StorageTrouble when the storage does not answer within a few seconds.
        """

    def write_vm(self, expected: int, record: VmRecord) -> Swap:
        """Write a VM's record if its version is still `expected`; other hosts are told at once.

        Raises StorageTrouble when the storage does not answer within a few seconds.
        """

    @property
    def boot_id(self) -> str:
        """Of this host's present boot."""

    def read_slot(self, slot: int) -> Held[SlotRecord] | None:
        """A host's record, read from storage now. Raises StorageTrouble as read_vm does."""

    def write_slot(self, expected: int, record: SlotRecord) -> Swap:
        """As write_vm."""

    def read_fence(self, slot: int) -> Held[Fence] | None:
        """What is said of a host that is off. Raises StorageTrouble as read_vm does."""

    def write_fence(self, expected: int, fence: Fence) -> Swap:
        """As write_vm."""

    def read_pool(self) -> Held[PoolSettings] | None:
        """The pool's settings, read from storage now. Raises StorageTrouble as read_vm does."""

    def write_pool(self, expected: int, settings: PoolSettings) -> Swap:
        """As write_vm."""

    def read_lease(self, vm: str) -> Held[Lease] | None:
        """A VM's lease, read from storage now. Raises StorageTrouble as read_vm does."""

    def agreed(self, ask: Callable[[Register], T]) -> T:
        """What is read or written of the pool's agreed values, now. Raises what `ask` raises, and
        StorageTrouble as read_vm does."""

    @property
    def networks_here(self) -> Mapping[str, NetworkHere]:
        """How the pool's networks stand on THIS host, by name. Never blocks."""

    def admit_copy(self, vm: str) -> None:
        """Have this host's guard let a copy of a VM in; may block for seconds.

        Raises GuardRefused, GuardGone, Conflict while its last move from here has not ended.
        """

    def admit_writes(self, vm: str) -> None:
        """Have the guard know all repositories that a VM which runs here may write to.

        Raises GuardRefused, GuardGone, StorageTrouble.
        """

    def borrow(self, vm: str, why: str) -> AbstractContextManager[Borrowed]:
        """The disks of a stopped VM, for a while: nobody starts it meanwhile.

        why: a few words for people. Raises NotFound, Conflict when it runs or shall run,
        PoolTrouble when this host may run nothing now, StorageTrouble.
        """

    def occupied(self, kind: str, vm: str) -> AbstractContextManager[None]:
        """Work on a VM that everybody here sees as busy meanwhile; "move": none to another host
        begins; "held": nobody lets it go on. Raises Conflict when there is such work already."""

    @property
    def disks(self) -> Disks:
        """The disks of VMs that run on THIS host."""

    @property
    def foreigners(self) -> Foreigners:
        """What else THIS host's hypervisor knows."""

    @property
    def moving(self) -> bool:
        """True while a VM leaves this host. Never blocks."""

    def move_progress(self) -> Mapping[str, Progress]:
        """How far the moves are that leave this host now, by VM."""

    @property
    def measured(self) -> Measured:
        """How long this host's beats took. Never blocks."""

    @property
    def power(self) -> Mapping[int, SwitchSaid]:
        """What each slot's power switch said when this host last asked. Never blocks."""

    @property
    def health(self) -> Mapping[int, HostHealth]:
        """What each host says of its own readiness, by slot. Never blocks."""

    @property
    def drills(self) -> Drilling:
        """The pool's fire drills, as far as this host takes part."""

    def tell(self, told: Note) -> None:
        """Have a note of the API written down with those of the core. Never blocks."""

    def timeline(
        self, since_wall_s: float, limit: int, until_wall_s: float
    ) -> list[Mapping[str, object]]:
        """Notes of all hosts, oldest first: {"wall_s","host","code","sentence","fields"}."""

    def open_line(self, vm: str, what: Line) -> Console:
        """The serial console or screen of a VM that runs on THIS host.

        Raises NotFound, HypervisorTrouble.
        """
