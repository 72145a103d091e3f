"""Wishes about where and when VMs run, judged before they are written.

Rules:
1. A wish that no pool can meet (an unknown host, a group that contradicts another one, more VMs
   apart than hosts) is refused and names its field; nothing is changed.
2. A start or a new size after which the pool would not survive the failure of a host it survives
   now is warned about or refused, as the pool's `admission` says; spare.py has the rules.
3. The picture is that of the host that answers. It decides nothing about who may run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from outlast.agent.service import Service
from outlast.errors import InvalidInput
from outlast.model import Desired, GroupWish, VmRecord, VmSpec
from outlast.placement.choose import answer
from outlast.placement.layout import Layout
from outlast.placement.picture import Host, HostState, Picture, checked
from outlast.placement.spare import admit
from outlast.pool import availability
from outlast.pool.facts import Facts, Held
from outlast.pool.landscape import landscape
from outlast.settings import PoolSettings
from outlast.wire.shapes import BadField, VmChange
from outlast.wire.sizes import MIB


def edited(record: VmRecord, change: VmChange) -> VmRecord:
    """The record with what the change gives."""
    given: dict[str, Any] = change.model_dump(
        exclude_none=True, exclude={"groups", "memory", "vcpus"}
    )
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in given.items()
    }
    record = replace(record, spec=_sized(record.spec, change), **values)
    if change.groups is not None:
        groups = tuple(GroupWish(g.name, g.kind, g.hard) for g in change.groups)
        record = replace(record, groups=groups)
    return record


def _sized(spec: VmSpec, change: VmChange) -> VmSpec:
    """Raises BadField."""
    if change.memory is not None:
        if change.memory % MIB:
            raise BadField("memory: it must be whole MiB", field="memory")
        mib = change.memory // MIB
        if spec.memory_max_mib and mib > spec.memory_max_mib:
            raise BadField(
                f"memory: {spec.name} can have {spec.memory_max_mib} MiB at most", field="memory",
                hint="it was said when it was created, with --memory-max",
            )  # fmt: skip
        spec = replace(spec, memory_mib=mib)
    if change.vcpus is None:
        return spec
    if spec.vcpus_max and change.vcpus > spec.vcpus_max:
        raise BadField(
            f"vcpus: {spec.name} can have {spec.vcpus_max} at most", field="vcpus",
            hint="it was said when it was created, with --vcpus-max",
        )  # fmt: skip
    return replace(spec, vcpus=change.vcpus)


def picture(facts: Facts, settings: PoolSettings) -> Picture:
    """The pool as this host sees it, for plans and questions, with all hosts that are named."""
    found = landscape(facts, settings, all_hosts=True)
    names = {host.name for host in found.hosts}
    for name in sorted({p for vm in found.vms for p in vm.preferred} - names):
        lost = Host(name, 1, 1, HostState.DOWN, why="it is no host of the pool")
        found = replace(found, hosts=(*found.hosts, lost))
    return found


def check_possible(facts: Facts, settings: PoolSettings, record: VmRecord) -> None:
    """Rule 1, for this VM and the groups it is in. Raises BadField."""
    name, mib = record.spec.name, record.spec.memory_mib
    if record.ready == "agent" and not record.spec.agent_channel:
        raise BadField(
            f"ready: {name} has no channel for the agent in its system", field="ready",
            hint="say tcp:PORT or delay:SECONDS, or create it with --guest-agent",
        )  # fmt: skip
    sizes = {r.host: r.memory_mib for r in facts.slots.values() if r.active and not r.no_vms}
    ratio = facts.agreed(settings).memory_ratio
    if sizes and all(sizes.values()) and mib > max(sizes.values()) * ratio:
        largest = max(sizes, key=lambda host: sizes[host])
        raise BadField(
            f"memory: {mib} MiB is more than any host has; {largest} has {sizes[largest]} for VMs",
            hint="give it less, or join a larger host", field="memory",
        )  # fmt: skip
    vms = {**facts.vms, name: Held(1, record, 0)}
    found = landscape(replace(facts, vms=vms), settings, all_hosts=True)
    mine = tuple(group for group in found.groups if name in group.vms)
    free = tuple(replace(vm, preferred=(), host="") for vm in found.vms)
    try:
        checked(Picture(found.hosts, free, mine))
    except InvalidInput as wrong:
        raise BadField(wrong.sentence, hint=wrong.hint, field="groups") from None


def admission(service: Service, record: VmRecord) -> str:
    """Rule 2: what to say of a start of this VM, or of its new size; "" when nothing is against it.

    Raises PoolTrouble when the pool refuses it.
    """
    seen = service.picture
    facts = seen.facts
    if facts is None or facts.agreed(seen.settings).admission == "off":
        return ""
    name = record.spec.name
    if name not in facts.vms:  # another agent has created it a moment ago
        held = Held(1, replace(record, desired=Desired.STOPPED), 0)
        facts = replace(facts, vms={**facts.vms, name: held})
    before = picture(facts, seen.settings)
    spec, ha = record.spec, not availability.off(facts, record)
    after = replace(before.vm(name), ha=ha, memory_mib=spec.memory_mib, vcpus=spec.vcpus)
    layout = Layout(before.with_vm(after))
    host = after.host or answer(layout, layout.vm_at[name]).host
    if not host:
        return ""  # it waits for room: the master says so
    verdict = admit(before, before.with_vm(replace(after, host=host)))
    verdict.enforce()
    return verdict.warning
