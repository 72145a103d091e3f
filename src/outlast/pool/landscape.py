"""The pool as placement sees it, from the facts of one host: hosts, what they have, where VMs are.

Rules:
1. Placement is advice on where to run, never a right to run: leases and proofs are not asked here.
2. What a host has is what its block says is free, and the VMs whose lease it holds. VMs that were
   given to it and that its block cannot show yet count as its own; what is on its way there is
   kept free for it.
3. A host that is not well takes nothing new, and the picture says why, without numbers that change
   at every look.
4. A VM whose holder is dead is nowhere: its memory is to be found anew.
5. What hosts measured of themselves is in measured.py. Only what some host lacks is put into
   rules, so that a pool where nothing is missing costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

from outlast.model import BlockState, GroupWish, VmRecord, VmSpec
from outlast.placement.picture import (
    Admission,
    Group,
    GroupKind,
    Host,
    HostState,
    Picture,
    Policy,
    Priority,
    Vm,
)
from outlast.pool import availability
from outlast.pool.decision import leaving
from outlast.pool.facts import Facts
from outlast.pool.measured import Measured, alike, measured, model_of, offers, processor_of
from outlast.settings import PoolSettings

COPY_MIB_S = 1000.0  # of a live migration without a limit; for the seconds in plans
NONE: Mapping[str, int] = {}


def landscape(
    facts: Facts, settings: PoolSettings, *, dead: Collection[int] = (),
    placed: Mapping[str, int] = NONE, arriving: Mapping[str, int] = NONE, all_hosts: bool = False,
) -> Picture:  # fmt: skip
    """dead: slots whose VMs are lost. placed: VM -> slot that its block does not show yet.
    arriving: VM -> slot it moves to. all_hosts: also those that are no members now.
    """
    members = facts.view.members if facts.view else {}
    slots = set(members)
    if all_hosts:
        slots |= {n for n, record in facts.slots.items() if record.active}
    names = {n: members[n].host if n in members else facts.host(n) for n in sorted(slots)}
    where = dict(placed)
    for vm, held in facts.leases.items():
        lease = held.value
        lives = facts.view is not None and facts.view.lists(lease.slot, lease.term)
        if lease.held and lives and lease.slot not in dead:
            where[vm] = lease.slot
    records = {vm: held.value for vm, held in facts.vms.items() if not held.value.deleted}
    usual = facts.agreed(settings)
    there: dict[int, list[VmSpec]] = {}  # what each block shows
    for vm, at in where.items():
        if vm not in placed and vm in records:
            there.setdefault(at, []).append(records[vm].spec)
    coming: dict[int, int] = {}  # MiB
    for vm, at in arriving.items():
        if vm in records:
            coming[at] = coming.get(at, 0) + records[vm].spec.memory_mib
    found = measured(facts)
    needs = _Needs(facts, usual, found, {vm: where.get(vm, 0) for vm in records}, names)
    hosts = tuple(
        needs.met(_host(facts, usual, n, name, there.get(n, []), coming.get(n, 0), dead, found), n)
        for n, name in names.items()
    )
    vms = tuple(
        needs.of(_vm(facts, record, names.get(where.get(vm, 0), ""), found.loads.get(vm)))
        for vm, record in sorted(records.items())
    )
    policy = Policy(
        memory_ratio=usual.memory_ratio,
        vcpu_ratio=usual.vcpu_ratio,
        admission=Admission(usual.admission),
        copy_mib_s=float(usual.move_mib_s) or COPY_MIB_S,
    )
    return Picture(hosts, vms, groups(records), policy)


def groups(records: Mapping[str, VmRecord]) -> tuple[Group, ...]:
    """Each group once, with all VMs that name it."""
    found: dict[tuple[str, str], list[tuple[str, GroupWish]]] = {}
    for vm, record in sorted(records.items()):
        for wish in record.groups:
            found.setdefault((wish.kind, wish.name), []).append((vm, wish))
    twice = [name for _, name in found]
    return tuple(
        Group(
            name if twice.count(name) == 1 else f"{name} ({kind})",
            GroupKind(kind),
            tuple(vm for vm, _ in wishes),
            hard=any(wish.hard for _, wish in wishes),
        )
        for (kind, name), wishes in sorted(found.items())
    )


def _vm(facts: Facts, record: VmRecord, host: str, busy_cores: float | None) -> Vm:
    spec = record.spec
    return Vm(
        spec.name, spec.memory_mib, spec.vcpus, host, busy_cores, networks=spec.networks,
        preferred=record.preferred, likes=record.likes,
        priority=Priority(record.priority), start_order=record.start_order,
        ha=record.wanted and not availability.off(facts, record), movable=spec.movable,
    )  # fmt: skip


def _host(
    facts: Facts, settings: PoolSettings, slot: int, name: str, shown: Collection[VmSpec],
    coming: int, dead: Collection[int], found: Measured,
) -> Host:  # fmt: skip
    state, why = _state(facts, settings, slot, dead)
    free_mib, free_vcpus = _free(facts, slot)
    record = facts.slots.get(slot)
    cores = record.cores if record else 0
    if not cores:
        vcpus = free_vcpus + sum(spec.vcpus for spec in shown)
        cores = max(1, math.ceil(vcpus / settings.vcpu_ratio))
    memory_mib = max(1 + coming, free_mib + sum(spec.memory_mib for spec in shown))
    if settings.memory_ratio != 1 and record and record.memory_mib:
        memory_mib = record.memory_mib  # a block says nothing below "none is free"
    return Host(
        name, memory_mib, cores, state, reserved_mib=coming, why=why,
        other_cores=found.other_cores(slot, (spec.name for spec in shown)),
        over_mib=found.over_mib(slot, sum(spec.memory_mib for spec in shown)),
    )  # fmt: skip


class _Needs:
    """What VMs need beside room, as far as a host lacks it. where: VM -> slot."""

    def __init__(
        self, facts: Facts, settings: PoolSettings, found: Measured, where: Mapping[str, int],
        names: Mapping[int, str],
    ) -> None:  # fmt: skip
        self._facts, self._found = facts, found
        specs = {vm: facts.vms[vm].value.spec for vm in where}
        self._networks = frozenset(n for spec in specs.values() for n in spec.networks)
        self._lacked = lacked = found.lacked("storage")
        self._disks = {
            vm: tuple(disk.path for disk in spec.disks if disk.path in lacked)
            for vm, spec in specs.items() if lacked
        }  # fmt: skip
        cpus = {n: processor_of(facts.slots.get(n), settings.cpu) for n in names}
        missed = {
            cpu for cpu in set(cpus.values())
            if not all(offers(facts.slots.get(n), cpu) for n in names)
        }  # fmt: skip
        self._cpu = {
            cpu: f"{model_of(cpu)} of {names[n]}" for n, cpu in cpus.items() if cpu in missed
        }
        self._of = {vm: self._cpu.get(cpus.get(at, ""), "") for vm, at in where.items()}
        self._same: dict[str, frozenset[int]] = {}  # a processor that is passed through -> slots
        for vm, at in where.items():
            if specs[vm].cpu and at in names:
                own = facts.slots.get(at)
                same = frozenset(n for n in names if n == at or alike(own, facts.slots.get(n)))
                if len(same) < len(names):
                    self._of[vm] = label = f"{model_of(own.cpu if own else '')} as {names[at]}'s is"
                    self._same[label] = same

    def met(self, host: Host, slot: int) -> Host:
        """The host with what it has of that."""
        networks = self._found.lacks(slot, "network") & self._networks
        storage = self._found.lacks(slot, "storage")
        record = self._facts.slots.get(slot)
        models = [label for cpu, label in self._cpu.items() if offers(record, cpu)]
        models += [label for label, slots in self._same.items() if slot in slots]
        return replace(
            host,
            networks=tuple(sorted(self._networks - networks)) if networks else None,
            storage=tuple(sorted(self._lacked - storage)) if storage else None,
            cpu_models=tuple(sorted(models)) or ("any other",) if self._cpu or self._same else (),
        )

    def of(self, vm: Vm) -> Vm:
        disks, cpu = self._disks.get(vm.name, ()), self._of.get(vm.name, "")
        return replace(vm, storage=disks, cpu_model=cpu) if disks or cpu else vm


def _free(facts: Facts, slot: int) -> tuple[int, int]:
    if slot == facts.me.slot:
        return facts.resources.free_mib, facts.resources.free_vcpus
    seen = facts.seen.get(slot)
    block = seen.block if seen else None
    return (block.free_mib, block.free_vcpus) if block else (0, 0)


def _state(
    facts: Facts, settings: PoolSettings, slot: int, dead: Collection[int]
) -> tuple[HostState, str]:
    """Whether a host takes VMs, and why it does not."""
    record, member = facts.slots.get(slot), facts.view.members.get(slot) if facts.view else None
    if member is None:
        return HostState.DOWN, "it is no member of the pool now"
    if slot in dead:
        return HostState.DOWN, "it is dead"
    why = ""
    if slot == facts.me.slot:
        if not facts.local_ready:
            why = "its hypervisor does not answer"
    else:
        seen = facts.seen.get(slot)
        block = seen.block if seen else None
        if seen is None or block is None or block.term != member.term:
            why = "it shows no valid block"
        elif block.state is not BlockState.MEMBER:
            why = f"it is {block.state.value}"
        elif seen.still_ns > settings.timing.gap_ns:
            why = "it is silent"
        elif block.agent_away_ms:
            why = "its agent is away"
        elif block.free_mib == 0 and settings.memory_ratio <= 1:
            why = "it has no memory left, or its hypervisor does not answer"
    if record and record.maintenance:
        why = f"it is in maintenance: {record.maintenance}"
    elif record and record.no_vms:
        why = "it is a dedicated master"
    return (HostState.CLOSED, why) if why else (HostState.OPEN, "")


def arrivals(promised: Mapping[str, int], facts: Facts) -> dict[str, int]:
    """VMs that moves under way or ordered bring to a slot, and that no block shows yet."""
    coming = dict(promised)
    for vm, held in facts.leases.items():
        if held.value.held and held.value.move and leaving(held.value, held.value.slot):
            coming[vm] = held.value.move.to_slot
    return coming
