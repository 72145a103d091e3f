"""Work on the disks of a stopped VM in the pretend world, as agent/disk_work.py does it.

A program that works is among what the guard sees of its VM. The death of the agent leaves it there:
the real one dies with its agent, so this is the worse of the two.
"""

from __future__ import annotations

from dataclasses import replace

from outlast.model import Lease
from outlast.pool.decision import DISKS
from outlast.sim.agent import SimAgent
from outlast.sim.codec import encode


def begin_work(agent: SimAgent, vm: str) -> None:
    """Take the lease, then let a program work; nothing when the lease is not free."""
    machine, disk, life = agent.machine, agent.world.disk, agent.life
    known = agent.cache.get(f"lease/{vm}")
    if known is not None and known.value.held:
        return
    version = known.version if known else 0
    mine = Lease(vm, machine.me.slot, agent.pulse.core.term, DISKS, why="a snapshot")
    agent.busy.add((DISKS, vm))

    def done(ok: object) -> None:
        if life != agent.life:
            return
        now = machine.reading()
        if ok and machine.guard.admit(now, vm).get("ok"):
            if machine.guard.enter(now, machine.guard_seen(), vm).get("ok"):
                machine.works(vm)
        else:
            agent.busy.discard((DISKS, vm))
        agent.refresh()

    agent.world.ask(
        machine.name, lambda: disk.swap(f"lease/{vm}", version, encode(mine)), done,
        lambda _: agent.busy.discard((DISKS, vm)) if life == agent.life else None,
    )  # fmt: skip


def end_work(agent: SimAgent, vm: str) -> None:
    """The program has ended; the lease is given back."""
    machine, disk = agent.machine, agent.world.disk
    name = f"lease/{vm}"
    version = disk.version(name)
    machine.workers.discard(vm)
    free = encode(replace(Lease(vm), why="done: a snapshot"))

    def done(_: object) -> None:
        agent.busy.discard((DISKS, vm))
        agent.refresh()

    agent.world.ask(machine.name, lambda: disk.swap(name, version, free), done, done)
