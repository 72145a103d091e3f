"""The pool as placement sees it: hosts, VMs, groups, policy; values only.

Rules:
1. A picture is complete: every answer of this room follows from it alone.
2. `checked()` refuses a picture that contradicts itself and names the field. A picture that breaks
   its own *placement* rules (an overfull host, two VMs that belong apart) is allowed: pools are
   like that sometimes, and the plans are there to mend it.
3. Sizes are MiB and cores; loads are cores kept busy. A VM with no host runs nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from outlast.errors import InvalidInput, NotFound


class HostState(Enum):
    OPEN = "open"
    CLOSED = "closed"  # keeps what it runs, takes nothing new
    DOWN = "down"


class Priority(Enum):
    """Who is restarted first. The lower number goes first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"
    BEST_EFFORT = "best-effort"  # stays off when room is short; no promise is made for it

    @property
    def rank(self) -> int:
        return _RANKS[self]


_RANKS = {p: n for n, p in enumerate(Priority)}


class GroupKind(Enum):
    APART = "apart"
    TOGETHER = "together"


class Admission(Enum):
    OFF = "off"
    WARN = "warn"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Host:
    name: str
    memory_mib: int
    cores: int
    state: HostState = HostState.OPEN
    reserved_mib: int = 0  # for the host itself
    cpu_models: tuple[str, ...] = ()  # what it can offer; empty = anything
    networks: tuple[str, ...] | None = None  # None = all
    storage: tuple[str, ...] | None = None  # None = all
    why: str = ""  # why it is closed or down
    other_cores: float | None = None  # kept busy by what is no VM of the pool; None = not measured
    over_mib: int | None = None  # memory in use less what its VMs were promised; None likewise


@dataclass(frozen=True, slots=True)
class Vm:
    name: str
    memory_mib: int
    vcpus: int
    host: str = ""  # "" = runs nowhere
    busy_cores: float | None = None  # None = not measured
    cpu_model: str = ""  # "" = any
    networks: tuple[str, ...] = ()
    storage: tuple[str, ...] = ()
    preferred: tuple[str, ...] = ()
    strict: bool = True  # False: the preferred list is a wish, not a rule
    likes: tuple[str, ...] = ()  # a wish beside a strict list; hosts that are gone do not matter
    priority: Priority = Priority.NORMAL
    start_order: int = 0  # within a priority, low numbers first
    ha: bool = True  # False: nobody restarts it elsewhere
    movable: bool = True  # False: it cannot migrate


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    kind: GroupKind
    vms: tuple[str, ...]
    hard: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    memory_ratio: float = 1.0  # 1 = memory is never promised twice
    vcpu_ratio: float = 8.0  # vCPUs a core may carry
    admission: Admission = Admission.WARN
    moves_max: int = 10_000  # of one plan
    moved_share_max: float = 0.3  # of the pool's memory, in one balancing plan
    deviation_goal: float = 0.01  # below this a pool is balanced
    copy_mib_s: float = 1000.0  # how fast migration copies; for the seconds in plans


@dataclass(frozen=True, slots=True)
class Picture:
    hosts: tuple[Host, ...]
    vms: tuple[Vm, ...] = ()
    groups: tuple[Group, ...] = ()
    policy: Policy = Policy()

    def vm(self, name: str) -> Vm:
        for vm in self.vms:
            if vm.name == name:
                return vm
        raise NotFound(f"there is no VM {name} in this picture", hint="names are exact")

    def host(self, name: str) -> Host:
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(h.name for h in self.hosts[:12]) or "none"
        raise NotFound(f"there is no host {name} in this picture", hint=f"hosts: {known}")

    def with_vm(self, vm: Vm) -> Picture:
        """The same pool with this VM added, or in place of the one of its name."""
        kept = tuple(v for v in self.vms if v.name != vm.name)
        return replace(self, vms=(*kept, vm))

    def without_host(self, name: str) -> Picture:
        """The same pool when a host has left; what it ran runs nowhere."""
        self.host(name)
        vms = tuple(replace(v, host="") if v.host == name else v for v in self.vms)
        return replace(self, hosts=tuple(h for h in self.hosts if h.name != name), vms=vms)


def checked(picture: Picture) -> Picture:
    """The picture itself. InvalidInput names the first field that cannot be."""
    hosts = _unique("hosts", [h.name for h in picture.hosts])
    vms = _unique("vms", [v.name for v in picture.vms])
    _unique("groups", [g.name for g in picture.groups])
    _check_policy(picture.policy)
    for h in picture.hosts:
        _at_least(f"hosts.{h.name}.memory_mib", h.memory_mib, 1)
        _at_least(f"hosts.{h.name}.cores", h.cores, 1)
        _at_least(f"hosts.{h.name}.reserved_mib", h.reserved_mib, 0)
        _check_load(f"hosts.{h.name}.other_cores", h.other_cores)
        if h.reserved_mib >= h.memory_mib:
            raise _wrong(f"hosts.{h.name}.reserved_mib", "it leaves no memory for VMs")
    for v in picture.vms:
        _check_vm(v, hosts)
    for g in picture.groups:
        _check_group(g, vms, picture)
    return picture


def _check_vm(v: Vm, hosts: frozenset[str]) -> None:
    _at_least(f"vms.{v.name}.memory_mib", v.memory_mib, 1)
    _at_least(f"vms.{v.name}.vcpus", v.vcpus, 1)
    if v.host and v.host not in hosts:
        raise _wrong(f"vms.{v.name}.host", f"there is no host {v.host}")
    for name in v.preferred:
        if name not in hosts:
            hint = "add the host, or take it off the list"
            raise _wrong(f"vms.{v.name}.preferred", f"there is no host {name}", hint)
    _check_load(f"vms.{v.name}.busy_cores", v.busy_cores)


def _check_group(g: Group, vms: frozenset[str], picture: Picture) -> None:
    _unique(f"groups.{g.name}.vms", g.vms)
    for name in g.vms:
        if name not in vms:
            raise _wrong(f"groups.{g.name}.vms", f"there is no VM {name}")
    if g.hard and g.kind is GroupKind.APART and len(g.vms) > len(picture.hosts):
        hint = "take VMs out of the group, or make it soft"
        why = f"{len(g.vms)} VMs cannot be apart on {len(picture.hosts)} hosts"
        raise _wrong(f"groups.{g.name}.vms", why, hint)
    if g.hard and g.kind is GroupKind.TOGETHER:
        both = {
            frozenset((a, b)): other.name
            for other in picture.groups
            if other.hard and other.kind is GroupKind.APART
            for a in other.vms
            for b in other.vms
            if a < b and a in g.vms and b in g.vms
        }
        for pair, other in both.items():
            why = f"{' and '.join(sorted(pair))} are together here and apart in group {other}"
            raise _wrong(f"groups.{g.name}.vms", why, "make one of the groups soft")


def _check_policy(p: Policy) -> None:
    for name in ("memory_ratio", "vcpu_ratio", "copy_mib_s"):
        value = getattr(p, name)
        if not (math.isfinite(value) and value > 0):
            raise _wrong(f"policy.{name}", f"{value} is not above 0")
    for name in ("moved_share_max", "deviation_goal"):
        value = getattr(p, name)
        if not (math.isfinite(value) and value >= 0):
            raise _wrong(f"policy.{name}", f"{value} is below 0")
    _at_least("policy.moves_max", p.moves_max, 0)


def _check_load(field: str, cores: float | None) -> None:
    if cores is not None and not (math.isfinite(cores) and cores >= 0):
        raise _wrong(field, f"{cores} is not a load")


def _unique(field: str, names: Iterable[str]) -> frozenset[str]:
    seen: set[str] = set()
    for name in names:
        if not name:
            raise _wrong(field, "a name is empty")
        if name in seen:
            raise _wrong(field, f"{name} is there twice")
        seen.add(name)
    return frozenset(seen)


def _at_least(field: str, value: int, least: int) -> None:
    if value < least:
        raise _wrong(field, f"{value} is less than {least}")


def _wrong(field: str, why: str, hint: str = "correct it; nothing was changed") -> InvalidInput:
    return InvalidInput(f"{field}: {why}", hint=hint)
