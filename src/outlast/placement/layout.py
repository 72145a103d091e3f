"""A picture, indexed and movable: what is free where, counted anew after every move.

Rules:
1. Hosts and VMs are numbers here, their places in the picture; -1 is "nowhere".
2. Only `put` and `take` change anything, and each undoes the other.
3. It decides nothing: rules are in fit.py.
"""

from __future__ import annotations

from dataclasses import replace

from outlast.placement.picture import Group, GroupKind, HostState, Picture

NOWHERE = -1
GUESSED_LOAD = 0.25  # of a VM's vCPUs, when nobody measured it


class Layout:
    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        policy = picture.policy
        self.host_at = {h.name: n for n, h in enumerate(picture.hosts)}
        self.vm_at = {v.name: n for n, v in enumerate(picture.vms)}
        self.cap_mib = [
            int((h.memory_mib - h.reserved_mib) * policy.memory_ratio) for h in picture.hosts
        ]
        self.cap_cores = [float(h.cores) for h in picture.hosts]
        self.free_mib = list(self.cap_mib)
        self.free_vcpus = [int(h.cores * policy.vcpu_ratio) for h in picture.hosts]
        self.busy = [h.other_cores or 0.0 for h in picture.hosts]
        self.on: list[dict[int, None]] = [{} for _ in picture.hosts]
        self.mib = [v.memory_mib for v in picture.vms]
        self.vcpus = [v.vcpus for v in picture.vms]
        self.load = [
            v.vcpus * GUESSED_LOAD if v.busy_cores is None else v.busy_cores for v in picture.vms
        ]
        self.where = [NOWHERE] * len(picture.vms)
        self.groups: tuple[Group, ...] = picture.groups
        self.there: list[dict[int, int]] = [{} for _ in picture.groups]  # group: host -> VMs
        self.members = [[self.vm_at[n] for n in g.vms] for g in picture.groups]
        of = self._groups_of
        self.apart = of(GroupKind.APART, hard=True)
        self.soft_apart = of(GroupKind.APART, hard=False)
        self.together = of(GroupKind.TOGETHER, hard=True)
        self.soft_together = of(GroupKind.TOGETHER, hard=False)
        self._may: dict[object, tuple[bool, ...]] = {}
        self.may = [self._may_of(n) for n in range(len(picture.vms))]
        for n, v in enumerate(picture.vms):
            if v.host:
                self.put(n, self.host_at[v.host])

    def put(self, vm: int, host: int) -> None:
        self.where[vm] = host
        self.on[host][vm] = None
        self.free_mib[host] -= self.mib[vm]
        self.free_vcpus[host] -= self.vcpus[vm]
        self.busy[host] += self.load[vm]
        for kind in (self.apart, self.soft_apart, self.together, self.soft_together):
            for g in kind.get(vm, ()):
                self.there[g][host] = self.there[g].get(host, 0) + 1

    def take(self, vm: int) -> int:
        """The host it was on."""
        host = self.where[vm]
        self.where[vm] = NOWHERE
        del self.on[host][vm]
        self.free_mib[host] += self.mib[vm]
        self.free_vcpus[host] += self.vcpus[vm]
        self.busy[host] -= self.load[vm]
        for kind in (self.apart, self.soft_apart, self.together, self.soft_together):
            for g in kind.get(vm, ()):
                left = self.there[g][host] - 1
                if left:
                    self.there[g][host] = left
                else:
                    del self.there[g][host]
        return host

    def move(self, vm: int, host: int) -> None:
        self.take(vm)
        self.put(vm, host)

    def memory_share(self, host: int) -> float:
        return 1.0 - self.free_mib[host] / self.cap_mib[host]

    def cpu_share(self, host: int) -> float:
        return self.busy[host] / self.cap_cores[host]

    def open_hosts(self) -> list[int]:
        return [n for n, h in enumerate(self.picture.hosts) if h.state is HostState.OPEN]

    def deviation(self) -> float:
        """How unevenly memory and CPU are used: 0 = every open host alike.

        Root mean square, over open hosts and both parts, of a host's share less the share all
        open hosts have together.
        """
        hosts = self.open_hosts()
        if not hosts:
            return 0.0
        memory, cpu = self.pool_shares()
        squares = sum(
            (self.memory_share(h) - memory) ** 2 + (self.cpu_share(h) - cpu) ** 2 for h in hosts
        )
        return float((squares / (2 * len(hosts))) ** 0.5)

    def pool_shares(self) -> tuple[float, float]:
        """Memory and CPU: what the open hosts use of what they have, together."""
        hosts = self.open_hosts()
        cap_mib = sum(self.cap_mib[h] for h in hosts)
        used = cap_mib - sum(self.free_mib[h] for h in hosts)
        cores = sum(self.cap_cores[h] for h in hosts)
        return used / (cap_mib or 1), sum(self.busy[h] for h in hosts) / (cores or 1)

    def as_picture(self) -> Picture:
        """The picture as it is now, after all puts and takes."""
        hosts = self.picture.hosts
        vms = tuple(
            v if v.host == name else replace(v, host=name)
            for v, at in zip(self.picture.vms, self.where, strict=True)
            for name in (hosts[at].name if at >= 0 else "",)
        )
        return replace(self.picture, vms=vms)

    def unit(self, vm: int) -> list[int]:
        """This VM and all that hard groups keep on one host with it."""
        if vm not in self.together:
            return [vm]
        found, todo = {vm}, [vm]
        while todo:
            for g in self.together.get(todo.pop(), ()):
                fresh = [m for m in self.members[g] if m not in found]
                found.update(fresh)
                todo.extend(fresh)
        return sorted(found)

    def _groups_of(self, kind: GroupKind, *, hard: bool) -> dict[int, tuple[int, ...]]:
        found: dict[int, tuple[int, ...]] = {}
        for n, group in enumerate(self.groups):
            if group.kind is kind and group.hard is hard:
                for vm in self.members[n]:
                    found[vm] = (*found.get(vm, ()), n)
        return found

    def _may_of(self, vm: int) -> tuple[bool, ...]:
        """Hosts that fixed rules allow: state, preferred list, networks, storage, CPU model."""
        v = self.picture.vms[vm]
        wish = v.preferred if v.strict else ()
        key = (wish, v.networks, v.storage, v.cpu_model)
        known = self._may.get(key)
        if known is None:
            known = tuple(
                h.state is HostState.OPEN
                and (not wish or h.name in wish)
                and (h.networks is None or set(v.networks) <= set(h.networks))
                and (h.storage is None or set(v.storage) <= set(h.storage))
                and (not v.cpu_model or not h.cpu_models or v.cpu_model in h.cpu_models)
                for h in self.picture.hosts
            )
            self._may[key] = known
        return known
