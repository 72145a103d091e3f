"""The hard rules: where a VM may be at all, each refusal with its sentence.

Rules:
1. `fits` and `refusal` are one table, told fast and told in words; a test holds them together.
2. Memory counts whole on the host a VM goes to, from the first moment; what the VM itself
   occupies there already is not counted twice.
3. `leaving` are hosts that are dying or being emptied: they take nothing, and VMs still on them
   bind nobody.
4. Order of refusals: the most lasting first, memory and groups last.
"""

from __future__ import annotations

from collections.abc import Collection

from outlast.placement.layout import Layout
from outlast.placement.picture import HostState
from outlast.words import plural

NONE: frozenset[int] = frozenset()


def fits(layout: Layout, vm: int, host: int, leaving: Collection[int] = NONE) -> bool:
    if not layout.may[vm][host] or host in leaving:
        return False
    here = layout.where[vm] == host
    if not here and (
        layout.free_mib[host] < layout.mib[vm] or layout.free_vcpus[host] < layout.vcpus[vm]
    ):
        return False
    for g in layout.apart.get(vm, ()):
        if layout.there[g].get(host, 0) > here:
            return False
    if vm in layout.together:
        return not _bound_elsewhere(layout, vm, host, leaving)
    return True


def refusal(layout: Layout, vm: int, host: int, leaving: Collection[int] = NONE) -> str:
    """The rule that keeps this VM off this host, in words; "" when it may go there."""
    fixed = _fixed(layout, vm, host, leaving)
    if fixed:
        return fixed
    h, name = layout.picture.hosts[host], layout.picture.hosts[host].name
    here = layout.where[vm] == host
    if not here and layout.free_mib[host] < layout.mib[vm]:
        free = max(0, layout.free_mib[host])
        return f"{name} has {free} MiB free of the {layout.mib[vm]} MiB needed"
    if not here and layout.free_vcpus[host] < layout.vcpus[vm]:
        cores = plural(h.cores, "core carries", "cores carry")
        ratio = f"{cores} {int(h.cores * layout.picture.policy.vcpu_ratio)}"
        free = max(0, layout.free_vcpus[host])
        return f"{name} has {free} vCPUs free of the {layout.vcpus[vm]} needed ({ratio})"
    for g in layout.apart.get(vm, ()):
        for other in layout.members[g]:
            if other != vm and layout.where[other] == host:
                group, who = layout.groups[g].name, layout.picture.vms[other].name
                return f"{name} runs {who}, which group {group} keeps apart from it"
    return _bound_elsewhere(layout, vm, host, leaving)


def _fixed(layout: Layout, vm: int, host: int, leaving: Collection[int]) -> str:
    v, h = layout.picture.vms[vm], layout.picture.hosts[host]
    if h.state is not HostState.OPEN:
        return f"{h.name} is {h.state.value}" + (f": {h.why}" if h.why else "")
    if host in leaving:
        return f"{h.name} is being emptied or gone"
    if v.strict and v.preferred and h.name not in v.preferred:
        return f"{h.name} is not on its list of preferred hosts"
    for kind, wanted, given in (
        ("network", v.networks, h.networks), ("storage", v.storage, h.storage)
    ):  # fmt: skip
        missing = [w for w in wanted if given is not None and w not in given]
        if missing:
            return f"{h.name} does not reach {kind} {missing[0]}"
    if v.cpu_model and h.cpu_models and v.cpu_model not in h.cpu_models:
        return f"{h.name} cannot offer CPU model {v.cpu_model}"
    return ""


def _bound_elsewhere(layout: Layout, vm: int, host: int, leaving: Collection[int]) -> str:
    for g in layout.together.get(vm, ()):
        for other in layout.members[g]:
            at = layout.where[other]
            if other != vm and at not in (-1, host) and at not in leaving:
                group, who = layout.groups[g].name, layout.picture.vms[other].name
                return f"group {group} keeps it with {who} on {layout.picture.hosts[at].name}"
    return ""


def broken(layout: Layout) -> list[str]:
    """Every hard rule the pool breaks as it stands, in words: overfull hosts, groups, lists."""
    said = []
    for n, h in enumerate(layout.picture.hosts):
        if layout.free_mib[n] < 0:
            said.append(f"{h.name} has promised {-layout.free_mib[n]} MiB more than it has")
        if layout.free_vcpus[n] < 0:
            said.append(f"{h.name} carries {-layout.free_vcpus[n]} vCPUs more than it may")
    for vm, host in enumerate(layout.where):
        if host >= 0 and layout.picture.hosts[host].state is HostState.OPEN:
            why = refusal(layout, vm, host)
            if why:
                said.append(f"{layout.picture.vms[vm].name}: {why}")
    return said
