"""Facts for stories: a pool of hosts a, b, c, ... in slots 1, 2, 3, ... as one of them sees it.

A `Story` starts with everybody well and in view 1; each method changes one thing and returns the
story, so that a test reads as a sentence. Times are in units of the pool's T_dead where it helps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from outlast.model import (
    Block,
    BlockState,
    Desired,
    GuardState,
    HostResources,
    Lease,
    LocalVm,
    Member,
    SlotRecord,
    View,
    VmRecord,
    VmSpec,
    VmState,
)
from outlast.pool.facts import Facts, GuardFacts, Held, Me, Sample, Seen
from outlast.settings import MS, PoolSettings, S, preset

POOL = "00000000-0000-4000-8000-0000000000ff"
TIMING = preset("standard")
SETTINGS = PoolSettings("test", POOL, TIMING)
NOW = 10_000 * S  # when the newest good read began


def term(slot: int, life: int = 1) -> str:
    """The term of a slot's n-th life."""
    return f"{life:016x}{slot:016x}"


def uuid(slot: int) -> str:
    return f"00000000-0000-4000-8000-{slot:012x}"


def name(slot: int) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[slot - 1]


def block(slot: int, hosts: int, **changes: object) -> Block:
    everybody = frozenset(range(1, hosts + 1))
    fresh = Block(
        pool_uuid=POOL, host_uuid=uuid(slot), boot_id=uuid(100 + slot), slot=slot, generation=1,
        term=term(slot), prev_term=term(slot, 0), state=BlockState.MEMBER, seq=7,
        dead_after_ms=TIMING.dead_after_ms, interval_ms=TIMING.beat_ns // MS, view_version=1,
        heard=everybody - {slot}, agent_away_ms=0, vm_count=0, free_mib=4096, free_vcpus=8,
        work_seq=1,
    )  # fmt: skip
    return replace(fresh, **changes)  # type: ignore[arg-type]


def spec(vm: str, memory_mib: int = 512) -> VmSpec:
    return VmSpec(vm, uuid(sum(vm.encode())), memory_mib, 1)


def record(vm: str = "web", memory_mib: int = 512, **changes: object) -> VmRecord:
    wanted = VmRecord(spec(vm, memory_mib), desired=Desired.RUNNING)
    return replace(wanted, **changes)  # type: ignore[arg-type]


def view(*slots: int, version: int = 1, master: int = 1, kind: str = "form") -> View:
    members = {s: Member(name(s), uuid(s), term(s)) for s in slots}
    return View(version, members, master, kind, "as told", master)


@dataclass(frozen=True)
class Story:
    """What host `me` knows. `facts` is the result."""

    facts: Facts
    hosts: int = 3

    # ---- blocks

    def shows(self, slot: int, **changes: object) -> Story:
        """The slot's block reads so."""
        before = self.facts.seen[slot]
        assert before.block is not None
        made = replace(before.block, **changes)  # type: ignore[arg-type]
        return self._seen(slot, replace(before, block=made))

    def still(self, slot: int, ns: int) -> Story:
        """The slot's block has not changed for so long, up to the newest good read."""
        return self._seen(slot, replace(self.facts.seen[slot], still_ns=ns))

    def unreadable(self, slot: int) -> Story:
        return self._seen(slot, replace(self.facts.seen[slot], block=None))

    def _seen(self, slot: int, seen: Seen) -> Story:
        return self._with(seen={**self.facts.seen, slot: seen})

    # ---- own evidence

    def sampled(self, **changes: object) -> Story:
        made = replace(self.facts.sample, **changes)  # type: ignore[arg-type]
        return self._with(sample=made)

    def follows(self, new: View, announced_ns: int = 10 * S) -> Story:
        return self._with(view=new, announced_ns=announced_ns)

    def guard(self, **changes: object) -> Story:
        made = replace(self.facts.guard, **changes)  # type: ignore[arg-type]
        return self._with(guard=made)

    # ---- VMs

    def wants(self, vm_record: VmRecord, version: int = 1) -> Story:
        held = Held(version, vm_record, NOW - S)
        return self._with(vms={**self.facts.vms, vm_record.spec.name: held})

    def leased(
        self, vm: str, slot: int, life: int = 1, version: int = 1, read_ns: int = NOW - S
    ) -> Story:
        """The lease as read at `read_ns`; slot 0: it is free."""
        lease = Lease(vm, slot, term(slot, life), "start") if slot else Lease(vm)
        return self._with(leases={**self.facts.leases, vm: Held(version, lease, read_ns)})

    def runs(self, vm: str) -> Story:
        """The VM is in this host's hypervisor and its control group."""
        guard = self.facts.guard
        here = self._with(local={**self.facts.local, vm: LocalVm(vm, VmState.RUNNING)})
        return here.guard(populated=guard.populated | {vm})

    def _with(self, **changes: object) -> Story:
        return replace(self, facts=replace(self.facts, **changes))  # type: ignore[arg-type]


def story(hosts: int = 3, me: int = 1) -> Story:
    """Everybody well, everybody in view 1, master a, no VMs."""
    slots = range(1, hosts + 1)
    others = [s for s in slots if s != me]
    facts = Facts(
        me=Me(me, name(me), uuid(me)),
        term=term(me),
        block_state=BlockState.MEMBER,
        sample=Sample(seq=50, started_ns=NOW, good=True, run_ns=1000 * S, steady_ns=1000 * S),
        seen={s: Seen(block(s, hosts), still_ns=0) for s in others},
        guard=GuardFacts(GuardState.OPEN, term(me), TIMING.fence_ns, frozenset()),
        view=view(*slots),
        announced_ns=500 * S,
        links=dict.fromkeys(others, 0),
        slots={s: SlotRecord(s, name(s), uuid(s), 1, True) for s in slots},
        vms={},
        leases={},
        books={},
        registers_ready=True,
        local={},
        local_ready=True,
        resources=HostResources(8192, 8, 4096, 8),
    )
    return Story(facts, hosts)
