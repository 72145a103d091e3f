"""The nouns of Outlast: one frozen type per thing, units in the names.

Rules of this file:
1. Values only: no time, no chance, no I/O, no defaults that depend on the machine.
2. A *slot* is a host's place in a pool (1..64); a *term* is one life of a host's right to run
   VMs: 32 hex digits (128 random bits) that are never used again once closed.
3. A *version* is the number of a register value; version 0 means "never written".
4. Instants are nanoseconds of the local CLOCK_BOOTTIME unless a name says `wall`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

SLOT_MAX = 64
NO_TERM = "0" * 32


class BlockState(Enum):
    """What a host says of its own term in its heartbeat block."""

    JOINING = "joining"
    MEMBER = "member"
    CLOSING = "closing"
    CLOSED = "closed"
    LEAVING = "leaving"


class GuardState(Enum):
    """State of the guard process; see guard/states.py for the table of transitions."""

    IDLE = "idle"  # no term yet: nothing may run
    OPEN = "open"  # a term is alive and the deadline is ahead
    CLOSING = "closing"  # the deadline passed or the term was closed: VMs are being killed
    CLOSED = "closed"  # no managed VM is left; the term never runs one again
    RESETTING = "resetting"  # a VM would not die or storage is sick: the host is being reset


@dataclass(frozen=True, slots=True)
class Block:
    """One host's heartbeat block, as every host of the pool can read it on the storage."""

    pool_uuid: str
    host_uuid: str
    boot_id: str
    slot: int
    generation: int
    term: str
    prev_term: str
    state: BlockState
    seq: int
    dead_after_ms: int  # this host's promise: F + K, stretched by the clock bound
    interval_ms: int
    view_version: int
    heard: frozenset[int]  # slots whose network beats arrive here
    agent_away_ms: int  # 0: the agent is there
    vm_count: int
    free_mib: int
    free_vcpus: int
    work_seq: int  # grows whenever this host changed a register
    hints: tuple[tuple[str, int], ...] = ()  # newest (register name, version) it wrote
    witness: bool | None = None  # it reaches the pool's witness; None: not said


@dataclass(frozen=True, slots=True)
class Member:
    host: str
    uuid: str
    term: str


@dataclass(frozen=True, slots=True)
class View:
    """Membership: the newest value of the register `view`. Versions form one chain."""

    version: int
    members: Mapping[int, Member]
    master: int  # a slot, 0 when the view is empty
    kind: str  # form | admit | death | exclude | master | leave
    reason: str
    by_slot: int

    def lists(self, slot: int, term: str) -> bool:
        """True when this view names exactly this life of this slot."""
        member = self.members.get(slot)
        return member is not None and member.term == term

    @property
    def slots(self) -> frozenset[int]:
        return frozenset(self.members)


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """Who owns a slot: the register `slot/<n>`."""

    slot: int
    host: str
    uuid: str
    generation: int
    active: bool
    addresses: tuple[str, ...] = ()  # heartbeat addresses, ip:port
    api: str = ""  # https address of the agent
    no_vms: bool = False  # a dedicated master runs none (W4)
    maintenance: str = ""  # why it shall run no VMs for a while; "" = it is in service
    power_off: str = ""  # the boot of it that shall be switched off
    leave: str = ""  # the boot of it that shall leave the pool and stay on
    version: str = ""  # of the agent that runs there
    guard_version: str = ""  # of its guard, which goes on when the agent is upgraded
    protocol: int = 1  # the newest one it speaks
    cores: int = 0  # processors for VMs; 0 = not said yet
    memory_mib: int = 0  # memory for VMs
    accelerator: str = ""  # kvm or tcg
    cpu: str = ""  # the processor its VMs could see, in libvirt's words
    macs: tuple[str, ...] = ()  # hardware addresses to wake it by
    migration_address: str = ""  # ip for VMs that move here; "" = the first for heartbeats


@dataclass(frozen=True, slots=True)
class Fence:
    """A host is off for certain: the register `fence/<n>`. It speaks of one term only."""

    slot: int
    term: str
    by: str  # who says so: a person, or a host that asked the power switch
    how: str = "person"  # person | switch
    why: str = ""
    wall_s: int = 0


class ProofKind(Enum):
    """Why a term is known to be dead (docs/PROTOCOL.md, proofs of death)."""

    CLOSED = "closed"  # P1: its block says closed, or shows a newer term
    SILENT = "silent"  # P2: unchanged for T_dead, seen by reads that began after it
    EXCLUDED = "excluded"  # P3: out of a view announced at least T_dead ago
    FENCED = "fenced"  # P4: a power fence confirmed off


@dataclass(frozen=True, slots=True)
class Proof:
    kind: ProofKind
    slot: int
    term: str
    by_slot: int
    evidence: str  # one sentence with the numbers


@dataclass(frozen=True, slots=True)
class Handover:
    """A live migration under way, in the lease of its VM.

    Its holder alone may give it to `to_slot` and `to_term`; who is given it this way lets the copy
    with this id go on, everybody else starts the VM from its disk."""

    id: str  # of the Move it carries out
    from_slot: int
    to_slot: int
    to_term: str


@dataclass(frozen=True, slots=True)
class Lease:
    """Who may run one VM: the register `lease/<vm>`; its version is the epoch.

    Free when `slot` is 0. Only the named slot and term may start the VM. A host that could not
    start it frees the lease and leaves word, so that the master tries elsewhere.
    """

    vm: str
    slot: int = 0
    term: str = NO_TERM
    via: str = "free"  # free | start | takeover | failed | migration | disks
    def_version: int = 0
    proof: Proof | None = None
    fails: int = 0  # starts that failed in a row
    failed_slot: int = 0  # where the last one failed
    why: str = ""  # what happened, in a sentence
    move: Handover | None = None  # under way from here, or how it came here
    start_seq: int = 0  # of the VM's record when its holder took it

    @property
    def held(self) -> bool:
        return self.slot != 0


class Desired(Enum):
    RUNNING = "running"
    STOPPED = "stopped"


class StopMode(Enum):
    SHUTDOWN = "shutdown"  # the system inside is asked
    KILL = "kill"  # at once


Line = Literal["console", "screen"]  # what a person looks at a VM through


@dataclass(frozen=True, slots=True)
class Disk:
    path: str  # of a file or a block device, or rbd:POOL/IMAGE
    format: str = "raw"  # raw | qcow2
    bus: str = "virtio"
    repository: str = ""  # the storage it is on; "" = the pool's own

    @property
    def kind(self) -> str:
        """file | block | rbd"""
        if self.path.startswith("rbd:"):
            return "rbd"
        return "block" if self.path.startswith("/dev/") else "file"


@dataclass(frozen=True, slots=True)
class VmSpec:
    """What a VM is made of. Paths are on the pool's storage, those of disks in a repository too."""

    name: str
    uuid: str
    memory_mib: int
    vcpus: int
    disks: tuple[Disk, ...] = ()
    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""
    serial_log: str = ""  # file the first serial port is written to; "" = a console only
    networks: tuple[str, ...] = ()  # bridge names
    machine: str = "pc"
    firmware: str = "bios"  # bios | uefi | uefi-secure
    nvram: str = ""  # file of the UEFI's variables; made at the first start
    tpm_state: str = ""  # folder of the state of its TPM 2.0; "" = it has none
    watchdog: str = ""  # restart | reset: when the system inside hangs; "" = it has none
    agent_channel: bool = False  # for the QEMU agent in the system inside
    devices: tuple[str, ...] = ()  # of the host: pci:0000:03:00.0, usb:046d:c52b; they pin it
    vcpus_max: int = 0  # that it can grow to while it runs; 0 = it cannot
    memory_max_mib: int = 0  # the same of memory
    graphics: str = "vnc"  # vnc | none: a screen, or a VM without one
    cpu: str = ""  # passthrough: its host's processor as it is; "" = as the pool shows it

    @property
    def movable(self) -> bool:
        """It can move while it runs: nothing of its host is in it."""
        return not (self.devices or self.tpm_state)

    @property
    def stores(self) -> tuple[str, ...]:
        """The repositories that its disks are in, the pool's own storage left out."""
        return tuple(sorted({disk.repository for disk in self.disks} - {""}))


@dataclass(frozen=True, slots=True)
class HaOff:
    """High availability is switched off, for one VM or for the pool."""

    why: str = ""
    by: str = ""  # who did it
    until_wall_s: int = 0  # then it is on again; 0 = until somebody switches it on


@dataclass(frozen=True, slots=True)
class GroupWish:
    """This VM's place in a group: all VMs that name the same group and kind belong to it."""

    name: str
    kind: str = "apart"  # apart | together
    hard: bool = True  # a group is hard when one of its VMs says so


@dataclass(frozen=True, slots=True)
class Move:
    """A wish to move a running VM to another host while it runs; a part of VmRecord."""

    id: str  # 16 hex digits, never used twice
    to: str = ""  # host name; "" = the pool chooses
    why: str = ""
    back_to: str = ""  # the host that shall have it back once it is in service again
    failed: str = ""  # why it did not work; the VM stays where it is


@dataclass(frozen=True, slots=True)
class DiskMove:
    """A disk on its way: the file that `spec` does not name is deleted once no QEMU has it."""

    old: str
    new: str
    repository: str = ""  # of the new one


@dataclass(frozen=True, slots=True)
class SnapshotAct:
    """A snapshot that is being made, forgotten or gone back to, on one disk after the other."""

    kind: str  # make | forget | revert
    name: str


@dataclass(frozen=True, slots=True)
class VmRecord:
    """A VM's definition and its owner's wishes: the register `vm/<name>`."""

    spec: VmSpec
    desired: Desired = Desired.STOPPED
    stop_mode: StopMode = StopMode.SHUTDOWN
    ha: bool = True
    preferred: tuple[str, ...] = ()  # host names; empty = any
    start_seq: int = 0  # grows with each wish to start, so that an older "stay down" is void
    held_down: str = ""  # why it stays down until somebody wishes to start it again
    deleted: bool = False
    move: Move | None = None  # wished and not done yet, or failed
    away_from: str = ""  # the host it left for maintenance
    ha_off: HaOff | None = None
    on_shutdown: str = "stay"  # stay | restart: after the system inside has shut down
    priority: str = "normal"  # high | normal | low | best-effort: who is started first
    start_order: int = 0  # the lower starts first; the next when it runs
    start_delay_s: int = 0  # ... and so long after that
    ready: str = ""  # when the next may start: agent | tcp:[ADDRESS:]PORT | delay:SECONDS
    likes: tuple[str, ...] = ()  # host names: where it runs when it can
    groups: tuple[GroupWish, ...] = ()
    disk_move: DiskMove | None = None  # under way, or broken off and not cleaned up yet
    snapshot_act: SnapshotAct | None = None  # the same

    @property
    def wanted(self) -> bool:
        """True when the pool has to keep this VM running."""
        return self.desired is Desired.RUNNING and not self.held_down and not self.deleted

    @property
    def stores(self) -> tuple[str, ...]:
        """The repositories it may write to, now or when its disk has moved."""
        coming = self.disk_move.repository if self.disk_move else ""
        return tuple(sorted({*self.spec.stores, coming} - {""}))


class VmState(Enum):  # as the hypervisor of one host says
    RUNNING = "running"
    PAUSED = "paused"
    STARTING = "starting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class LocalVm:
    """A VM as one host's hypervisor sees it; absent = not there."""

    name: str
    state: VmState
    reason: str = ""
    pid: int = 0
    started_ns: int = 0
    cpu_ns: int = 0
    incoming: str = ""  # it is the copy of this move (Handover.id) and has not run here yet
    vcpus: int = 0  # that it has now; 0 = not known
    memory_mib: int = 0  # the same of memory


@dataclass(frozen=True, slots=True)
class HostResources:
    """What a host has and what is left of it, as it publishes it."""

    memory_mib: int
    vcpus: int
    free_mib: int
    free_vcpus: int
    accelerator: str = "tcg"
    cores: int = 0  # processors that VMs may use; 0 = not known


@dataclass(frozen=True, slots=True)
class Order:
    """One standing order of the master to one host; the host checks every field before acting."""

    op: str  # start | move
    vm: str
    def_version: int
    lease_version: int
    reason: str
    to_slot: int = 0  # of a move
    move: str = ""  # its id


@dataclass(frozen=True, slots=True)
class OrderBook:
    """All standing orders for one host: the register `order/<slot>`, written by the master only."""

    slot: int
    view_version: int
    master_slot: int
    master_term: str
    orders: tuple[Order, ...] = field(default=())
