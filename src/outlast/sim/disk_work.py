"""Work on the disks of a stopped VM in the pretend world, as agent/disk_work.py does it.

A program that works is among what the guard sees of its VM. The death of the agent leaves it there:
the real one dies with its agent, so this is the worse of the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from outlast.model import Lease
from outlast.pool.decision import DISKS, gives_back
from outlast.sim.agent import SimAgent
from outlast.sim.codec import encode
from outlast.sim.host import SimHost


def begin_work(agent: SimAgent, vm: str) -> None:
    """Take the lease, then let a program work; nothing when this host may not, or it is held."""
    machine, disk, life, term = agent.machine, agent.world.disk, agent.life, agent.pulse.core.term
    known, view = agent.cache.get(f"lease/{vm}"), agent.pulse.core.view
    listed = view is not None and view.lists(machine.me.slot, term)
    if not agent.up or not listed or (DISKS, vm) in agent.busy or vm in machine.here:
        return
    if known is not None and known.value.held:
        return
    version = known.version if known else 0
    mine = Lease(vm, machine.me.slot, term, DISKS, why="a snapshot")
    agent.busy.add((DISKS, vm))

    def done(ok: object) -> None:
        if life != agent.life:
            return
        now = machine.reading()
        if ok and machine.guard.admit(now, vm).get("ok"):
            if machine.guard.enter(now, machine.guard_seen(), vm).get("ok"):
                agent.work[vm] = version + 1, mine
                machine.works(vm)
        else:
            agent.busy.discard((DISKS, vm))
        agent.refresh()

    agent.world.ask(
        machine.name, lambda: disk.swap(f"lease/{vm}", version, encode(mine)), done,
        lambda _: agent.busy.discard((DISKS, vm)) if life == agent.life else None,
    )  # fmt: skip


def end_work(hosts: Iterable[SimHost], vm: str, *, killed: bool) -> bool:
    """The program has ended, or was killed; False when there is none.

    One that has ended by itself has its lease given back by its agent, in the term it was taken in.
    """
    host = next((host for host in hosts if vm in host.workers and vm in host.agent.work), None)
    if host is None:
        return False
    agent, disk, name = host.agent, host.world.disk, f"lease/{vm}"
    host.work_over(vm, flushed=not killed)
    version, mine = agent.work.pop(vm)
    free = encode(replace(Lease(vm), why="done: a snapshot"))

    def over(_: object = None) -> None:
        agent.busy.discard((DISKS, vm))
        agent.refresh()

    memory = host.guard.memory()
    if gives_back(mine, memory.state, memory.term, ended_well=not killed):
        host.world.ask(host.name, lambda: disk.swap(name, version, free), over, over)
    else:
        over()
    return True
