"""A pretend pool of hosts: builds it, hurts it by named faults, and checks it after every event.

Rules:
1. The names of faults are those of stories (scenario.py) and of the rack.
2. After every event the invariants must hold; the first broken one ends the run with its words.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace

from outlast.errors import BrokenInvariant, InvalidInput
from outlast.model import Desired, Lease, Move, SlotRecord, StopMode, View, VmRecord, VmSpec
from outlast.pool.invariants import PoolPicture, Running, broken
from outlast.pool.journal import Note
from outlast.settings import PoolSettings, Timing, preset
from outlast.sim.codec import encode
from outlast.sim.host import SimHost
from outlast.sim.world import Path, World
from outlast.storage import format as fmt

START_STEPS = 200  # thirtieths of T_dead that a part of the start may take
UUID = "00000000-0000-4000-8000-{:012x}"


class SimPool:
    def __init__(
        self,
        seed: int,
        hosts: Iterable[str],
        vms: Iterable[str] = (),
        *,
        timing: str | Timing = "lab",
        memory_mib: int = 1000,
        vm_mib: int = 100,
        partition: str = "fence",
        witness: str = "",
        tell: Callable[[str, Note], None] = lambda host, note: None,
    ) -> None:
        self.world = World(seed)
        known = preset(timing) if isinstance(timing, str) else timing
        self.settings = PoolSettings(
            "sim", UUID.format(0xABC), known, partition=partition, witness=witness
        )
        self.vm_mib = vm_mib
        self.hosts: dict[str, SimHost] = {}
        self._leases: dict[str, tuple[int, Lease]] = {}  # decoded once a version
        self._newest_views: tuple[int, tuple[View, ...]] = (0, ())
        self._looked = 0  # what the newest look at the invariants was about
        self._look_ns = 0  # when time alone asks for the next
        for slot, name in enumerate(hosts, 1):
            record = SlotRecord(slot, name, UUID.format(slot), 1, True)
            self.world.disk.swap(f"slot/{slot}", 0, encode(record))
            self.world.paths[name] = Path.OK
            self.hosts[name] = SimHost(self.world, self.settings, record, memory_mib, tell)
            self.hosts[name].witness = True if witness else None
        for host in self.hosts.values():
            host.peers = {h.me.slot: h for h in self.hosts.values() if h is not host}
        numbers = self.settings.timing
        self._limit_ns = numbers.fence_ns + numbers.kill_ns
        self._hosts = tuple(self.hosts.values())
        self.vms = tuple(vms)
        self.world.after_event.append(self.check)

    # ---- reading

    def check(self) -> None:
        """Raise BrokenInvariant when something that must never happen has happened.

        I1, I3 and I4 depend on what runs, on leases, views and terms: the picture is taken when one
        of these has changed. I6 is a matter of time: it is looked at from when it could be broken.
        """
        world = self.world
        looked = world.changes + world.disk.swaps  # neither ever falls
        if looked == self._looked and world.now_ns < self._look_ns:
            return
        said = world.wrong[0] if world.wrong else broken(self._picture())
        if said:
            raise BrokenInvariant(f"at {world.now_ns / 1e9:.3f} s: {said}")
        self._looked = looked

    def _picture(self) -> PoolPicture:
        now_ns = self._look_ns = self.world.now_ns
        running: dict[str, tuple[Running, ...]] = {}
        overdue: tuple[str, ...] = ()
        least_ns = self._limit_ns  # a deadline only moves away, so a look is never too late
        for host in self._hosts:
            if not host.running:
                continue
            memory = host.guard.memory()
            for vm in host.running:
                running[vm] = (*running.get(vm, ()), Running(host.name, host.me.slot, memory.term))
            left_ns = self._limit_ns - host.reading().since(memory.start)
            least_ns = min(least_ns, left_ns)
            if left_ns < 0 and self._overdue(host):
                overdue += (host.name,)
        self._look_ns = now_ns + least_ns // 2  # no clock runs twice as fast as it should
        leases = {vm: self.lease(vm) for vm in running}
        return PoolPicture(running, leases, self._views(), overdue)

    def _overdue(self, host: SimHost) -> bool:
        over_ns = -host.guard.remaining_ns(host.reading())
        return host.power and not host.frozen and over_ns > self.settings.timing.kill_ns

    def _views(self) -> tuple[View, ...]:
        """The newest two."""
        newest = self.world.disk.version("view")
        if self._newest_views[0] != newest:
            found = [
                fmt.view_from(self.world.disk.value("view", v))
                for v in (newest - 1, newest)
                if v > 0
            ]
            self._newest_views = (newest, tuple(found))
        return self._newest_views[1]

    def lease(self, vm: str) -> Lease:
        version = self.world.disk.version(f"lease/{vm}")
        if not version:
            return Lease(vm)
        known = self._leases.get(vm)
        if known is None or known[0] != version:
            lease = fmt.lease_from(self.world.disk.value(f"lease/{vm}", version))
            known = self._leases[vm] = (version, lease)
        return known[1]

    def where(self, vm: str) -> str:
        """The host a VM runs on, "" when nowhere."""
        return next((h.name for h in self.hosts.values() if vm in h.running), "")

    def host_of(self, slot: int) -> str:
        """The name of the host that has a slot, "" when nobody has."""
        return next((h.name for h in self.hosts.values() if h.me.slot == slot), "")

    def wanted(self) -> list[str]:
        names = [n for n in self.world.disk.registers if n.startswith("vm/")]
        return [n[3:] for n in names if self.record(n[3:]).wanted]

    def record(self, vm: str) -> VmRecord:
        version = self.world.disk.version(f"vm/{vm}")
        if not version:
            raise InvalidInput(f"there is no VM {vm} in this pool")
        return fmt.vm_from(self.world.disk.value(f"vm/{vm}", version))

    # ---- acting

    def host(self, name: str) -> SimHost:
        if name not in self.hosts:
            raise InvalidInput(f"there is no host {name} in this pool")
        return self.hosts[name]

    def wish(self, vm: str, record: VmRecord) -> None:
        """A person's wish, written past all hosts; they find it by themselves."""
        name = f"vm/{vm}"
        self.world.disk.swap(name, self.world.disk.version(name), encode(record))
        for host in self.hosts.values():
            if host.power:
                host.agent.refresh()

    def want(self, vm: str, desired: str) -> None:
        record = self.record(vm)
        words = {
            "running": replace(
                record, desired=Desired.RUNNING, held_down="", start_seq=record.start_seq + 1
            ),
            "stopped": replace(record, desired=Desired.STOPPED),
            "killed": replace(record, desired=Desired.STOPPED, stop_mode=StopMode.KILL),
            "deleted": replace(record, desired=Desired.STOPPED, deleted=True),
        }
        if desired not in words:
            raise InvalidInput(f"a VM cannot be wished {desired}")
        self.wish(vm, words[desired])

    def move(self, vm: str, to: str = "") -> None:
        """As `outlast vm migrate` wishes it."""
        record, version = self.record(vm), self.world.disk.version(f"vm/{vm}")
        self.wish(vm, replace(record, move=Move(f"{version:016x}", to, "somebody wished it")))

    def serve(self, name: str, maintenance: str) -> None:
        """Put a host into maintenance, or back into service (with "")."""
        host = self.host(name)
        register = f"slot/{host.me.slot}"
        version = self.world.disk.version(register)
        record = fmt.slot_from(self.world.disk.value(register, version))
        value = encode(replace(record, maintenance=maintenance))
        self.world.disk.swap(register, version, value)

    def start(self) -> None:
        """The first host forms the pool, the others join, then the VMs are wished for."""
        first, *others = self.hosts.values()
        first.power_on()
        self._until(lambda: first.holds_term)
        for host in others:
            host.power_on()
        self._until(lambda: all(h.holds_term for h in self.hosts.values()))
        self.run(1)
        for number, vm in enumerate(self.vms, 1):
            spec = VmSpec(vm, UUID.format(0x1000 + number), self.vm_mib, 1)
            self.wish(vm, VmRecord(spec, Desired.RUNNING))
        self._until(lambda: all(self.where(vm) for vm in self.vms))

    def _until(self, happened: Callable[[], bool]) -> None:
        """Run until something happened, for a time that is ample."""
        for _ in range(START_STEPS):
            if happened():
                return
            self.run(self.settings.timing.dead_ns / 30e9)

    def run(self, seconds: float) -> None:
        self.world.run_until(self.world.now_ns + round(seconds * 1e9))

    def set_path(self, name: str, path: Path) -> None:
        """One host's way to the storage. What waited in the host's kernel lands, or is told off."""
        host = self.host(name)
        self.world.set_path(name, path)
        if path is Path.OK:
            host.flows(self._holder)
        elif path is Path.STUCK:
            host.stuck()
        else:
            host.queued.clear()

    def stall(self, name: str, time_s: float) -> None:
        """One host's storage stands still for a while, and then goes on."""
        self.set_path(name, Path.STUCK)
        self.world.after(round(time_s * 1e9), lambda: self.set_path(name, Path.OK))

    def _holder(self, vm: str) -> str:
        return self.host_of(self.lease(vm).slot)

    def isolate(self, name: str, up: bool) -> None:
        for other in self.hosts:
            if other != name:
                self.world.link(name, other, up)

    def network(self, up: bool) -> None:
        for a, b in itertools.combinations(self.hosts, 2):
            self.world.link(a, b, up)
