"""What may happen to a pretend pool at random, and what undoes it.

Rules:
1. A fault is one word about a host, another host and a VM. What cannot happen now does not.
2. Faults that only do harm together, at one moment, are one fault: chance would not find them.
3. Chance comes from the world. A story calls the same things by other words (shrink.py has both).
"""

from __future__ import annotations

from dataclasses import replace

from outlast.model import Desired
from outlast.settings import MS, S, check, preset
from outlast.sim.disk_work import begin_work, end_work
from outlast.sim.host import SimHost
from outlast.sim.pool import SimPool
from outlast.sim.world import Path

PAUSES_S = (0.05, 0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
# a seed has some kinds of faults only: all of them at once hide what a few would show
HARM = (
    "off",
    "reset",
    "stuck",
    "failing",
    "cut",
    "oneway",
    "agent",
    "freeze",
    "qemu",
    "stop",
    "slow",
    "move",
    "maintain",
    "blackout",
    "retime",
    "drill-storage",
    "late",
    "rough",
    "clocks",
    "sleep",
    "wall",
    "trouble",
    "hang",
    "stall",
    "island",
    "gulp",
    "drown",
    "blind",
    "work",
)

# what a pool with the timing `lab` may be changed to, and back
SLOW = replace(preset("lab"), preset="slow", fence_ns=4000 * MS, dead_ns=6000 * MS)
UNDO = {
    "off": ("on", "on"), "stuck": ("ok", "ok"), "failing": ("ok",), "cut": ("join", "join"),
    "oneway": ("join",), "freeze": ("thaw", "thaw"), "stop": ("start", "start"), "slow": ("fast",),
    "move": ("move", "move", "back"), "maintain": ("serve", "move"),
    "blackout": ("light", "ok", "ok"), "late": ("ok", "ok"), "rough": ("smooth",),
    "sleep": ("wake", "wake"), "trouble": ("sound", "sound"), "hang": ("quick",),
    "island": ("bridge", "bridge"), "gulp": ("sound", "sound"), "drown": ("bridge",),
    "blind": ("sight",), "work": ("stop", "work", "done", "broken", "start"),
    "drill-storage": ("drill-network", "drill-power"),
}  # fmt: skip
PATHS = {"stuck": Path.STUCK, "failing": Path.FAIL, "late": Path.LATE, "ok": Path.OK}
check(SLOW)


class Strokes:
    """slow: how much longer everything takes than with the timing `lab`."""

    def __init__(self, pool: SimPool, slow: float) -> None:
        self._pool, self._world, self._slow = pool, pool.world, slow

    def strike(self, what: str, name: str, other: str, vm: str) -> bool:
        """Let it happen; False when it cannot."""
        host = self._pool.hosts[name]
        parts = (self._machine, self._ways, self._vms)
        return any(part(what, host, other, vm) for part in parts)

    def _machine(self, what: str, host: SimHost, _other: str, _vm: str) -> bool:
        match what:
            case "off":
                host.power_off()
            case "on":
                host.power_on()
            case "reset" if host.power:
                host.reset()
            case "agent" if host.power:
                host.agent.kill()
            case "freeze" | "thaw" if host.power:
                host.frozen = what == "freeze"
            case "sleep" | "wake" if host.power:
                host.sleep(what == "sleep")
            case "clocks" | "wall":
                host.clock.err(self._world.random, wall=what == "wall")
            case "retime" if host.power and self._pool.settings.timing.preset == "lab":
                change_timing(host)
            case "drill-storage" | "drill-network" | "drill-power" if host.power:
                host.agent.pulse.drill(what.removeprefix("drill-"))
            case "hang" | "quick":
                host.start_takes_ns = 10 * S if what == "hang" else 200 * MS
            case "sound":
                host.start_trouble.clear()
            case "maintain" | "serve":
                self._pool.serve(host.name, "new memory" if what == "maintain" else "")
            case _:
                return False
        return True

    def _ways(self, what: str, host: SimHost, other: str, _vm: str) -> bool:
        """To the storage, of the network, and to the pool's witness."""
        pool, world, name = self._pool, self._world, host.name
        match what:
            case "stuck" | "failing" | "late" | "ok":
                pool.set_path(name, PATHS[what])
            case "blackout" | "light":  # of everybody's storage
                for each in pool.hosts:
                    pool.set_path(each, Path.STUCK if what == "blackout" else Path.OK)
            case "stall":  # the most ordinary of troubles: storage stands still for a while
                self._stall(name, world.random.choice(PAUSES_S))
            case "slow" | "fast":
                world.latency_ns = (20 * MS, 250 * MS) if what == "slow" else (1 * MS, 8 * MS)
            case "rough" | "smooth":
                world.rough = what == "rough"
            case "cut" | "join" if name != other:
                world.link(name, other, what == "join")
            case "oneway" if name != other:
                world.cut.add((name, other))
            case "blind" | "sight" if host.witness is not None:
                host.reach_witness(what == "sight")
            case "island" | "bridge":
                pool.isolate(name, what == "bridge")
            case "drown":  # cut off, and without storage about when the others exclude it
                pool.isolate(name, False)
                timing = pool.settings.timing
                lost_ns = timing.link_lost_ns + timing.partition_grace_ns
                later_ns = lost_ns + world.random.randint(0, 5 * timing.beat_ns)
                world.after(later_ns, lambda: self._stall(name, PAUSES_S[-1]))
            case _:
                return False
        return True

    def _vms(self, what: str, host: SimHost, other: str, vm: str) -> bool:
        pool, draw = self._pool, self._world.random
        match what:
            case "trouble":
                host.start_trouble[vm] = draw.choice(("other", "locked", "missing"))
            case "qemu" if pool.where(vm):
                pool.host(pool.where(vm)).agent.qemu_ends(vm, "crashed")
            case "gulp" if pool.where(vm):  # it dies of a stall and cannot start there again
                here = pool.host(pool.where(vm))
                self._stall(here.name, draw.choice(PAUSES_S))
                here.start_trouble[vm] = "other"
                here.agent.qemu_ends(vm, "crashed")
            case "stop" | "start":
                pool.want(vm, {"stop": "stopped", "start": "running"}[what])
            case "move" if pool.where(vm):
                host.move_takes_ns = draw.choice((100, 400, 2000)) * MS
                pool.move(vm, draw.choice(("", other)))
            case "work" if host.power and pool.record(vm).desired is Desired.STOPPED:
                begin_work(host.agent, vm)
            case "done":
                return end_work(pool.hosts.values(), vm, killed=False)
            case "broken" if host.workers:  # killed in a stall, and the VM is wanted at once
                broken = min(host.workers)
                self._stall(host.name, draw.choice(PAUSES_S))
                pool.want(broken, "running")
                return end_work((host,), broken, killed=True)
            case "back" if pool.record(vm).move:
                pool.wish(vm, replace(pool.record(vm), move=None))
            case _:
                return False
        return True

    def _stall(self, name: str, pause_s: float) -> None:
        self._pool.stall(name, pause_s * self._slow)


def change_timing(host: SimHost) -> None:
    """From `lab` to a slower one, or back, as its pulse learns it from the settings."""
    core = host.agent.pulse.core
    core.set_timing(SLOW if core.timing.preset == "lab" else preset("lab"))
