"""Random runs: one seed draws a pool, faults rain on it, then it must recover.

Rules:
1. Safety phase: faults are drawn from the seed at random moments; invariants hold after every
   event or the run ends with BrokenInvariant.
2. Liveness phase: everything heals, no new faults; every wanted VM must run within BOUND_S.
3. A seed and a commit replay a run exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from outlast.errors import BrokenInvariant
from outlast.pool.journal import Note
from outlast.settings import MS, S, check, preset
from outlast.sim.host import SimHost
from outlast.sim.pool import SimPool
from outlast.sim.world import Path

# with the timing `lab`; another one stretches them as it stretches T_dead
SAFETY_S = 40.0
BOUND_S = 40.0
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
    "late",
    "rough",
    "clocks",
    "sleep",
    "wall",
    "trouble",
    "hang",
    "stall",
    "island",
)

# what a pool with the timing `lab` may be changed to, and back
SLOW = replace(preset("lab"), preset="slow", fence_ns=4000 * MS, dead_ns=6000 * MS)
UNDO = {
    "off": ("on", "on"), "stuck": ("ok", "ok"), "failing": ("ok",), "cut": ("join", "join"),
    "oneway": ("join",), "freeze": ("thaw", "thaw"), "stop": ("start", "start"), "slow": ("fast",),
    "move": ("move", "move", "back"), "maintain": ("serve", "move"),
    "blackout": ("light", "ok", "ok"), "late": ("ok", "ok"), "rough": ("smooth",),
    "sleep": ("wake", "wake"), "trouble": ("sound", "sound"), "hang": ("quick",),
    "island": ("bridge", "bridge"),
}  # fmt: skip
TIMINGS = ("lab", "lab", "quick", "standard")
HOSTS = "abcde"
check(SLOW)


@dataclass(frozen=True, slots=True)
class Outcome:
    seed: int
    kind: str  # ok | safety | liveness
    words: str
    faults: tuple[str, ...]
    host_seconds: float


class Run:
    """One seed. tell: gets every fault and every note as a line, with its second."""

    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self._tell = tell
        self.begun_s = 0.0
        self.faults: list[str] = []
        # the pool's size is drawn from the seed, the rest from the world's own chance
        hosts = HOSTS[: 2 + seed % 4]
        vms = [f"vm{i}" for i in range(1, 5)]
        partition = ("fence", "strict", "hold")[seed // 4 % 3]
        self.timing = TIMINGS[seed // 12 % len(TIMINGS)]
        self.slow = preset(self.timing).dead_ns / preset("lab").dead_ns
        told = self._note if tell else _silent
        self.pool = SimPool(seed, hosts, vms, partition=partition, timing=self.timing, tell=told)
        self.random = self.pool.world.random
        for host in self.pool.hosts.values():  # large VMs are slow to die, storage holds them
            share = self.random.choice((0, 0, self.random.random()))
            host.replies_lost = 4
            host.start_takes_ns = self.random.choice((50, 200, 200, 1500)) * MS
            host.kill_takes_ns = round(share * self.pool.settings.timing.kill_ns)
        some = self.random.sample(HARM, self.random.randint(2, len(HARM)))
        self.kinds = tuple(kind for harm in some for kind in (harm, *UNDO.get(harm, ())))

    @property
    def bound_s(self) -> float:
        """After all is healed, every wanted VM runs within this."""
        return BOUND_S * self.slow

    def _note(self, host: str, note: Note) -> None:
        if self._tell:
            self._tell(f"{self.pool.world.now_ns / 1e9:9.2f} {host}: {note.sentence} [{note.code}]")

    def play(self) -> Outcome:
        pool = self.pool
        self.begun_s = pool.world.now_ns / 1e9
        seconds, begun_ns = 0.0, pool.world.now_ns
        kind, words = "ok", ""
        try:
            pool.start()
            pool.run(self.slow)
            seconds += 5
            while seconds < SAFETY_S:
                self._hurt()
                step = self.random.choice(PAUSES_S)
                pool.run(step * self.slow)
                seconds += step
            self._heal()
            words = self._recover()
            kind = "liveness" if words else "ok"
        except BrokenInvariant as broken:
            kind, words = "safety", str(broken)
        played_s = (pool.world.now_ns - begun_ns) / 1e9
        return Outcome(self.seed, kind, words, tuple(self.faults), played_s * len(pool.hosts))

    def _hurt(self) -> None:
        pool, draw = self.pool, self.random
        name = draw.choice(list(pool.hosts))
        host = pool.hosts[name]
        other = draw.choice(list(pool.hosts))
        vm = draw.choice([f"vm{i}" for i in range(1, 5)])
        what = draw.choice(self.kinds)
        fault = f"{pool.world.now_ns / 1e9:.2f} {what} {name} {other} {vm}"
        self.faults.append(fault)
        if self._tell:
            self._tell(f"  {fault}")
        world = pool.world
        match what:
            case "off":
                host.power_off()
            case "on":
                host.power_on()
            case "reset" if host.power:
                host.reset()
            case "stuck" | "failing" | "late" | "ok":
                path = {"stuck": Path.STUCK, "failing": Path.FAIL, "late": Path.LATE}.get(
                    what, Path.OK
                )
                pool.set_path(name, path)
            case "blackout" | "light":  # of everybody's storage
                for each in pool.hosts:
                    pool.set_path(each, Path.STUCK if what == "blackout" else Path.OK)
            case "retime" if host.power and self.timing == "lab":
                change_timing(host)
            case "cut" | "join" if name != other:
                world.link(name, other, what == "join")
            case "oneway" if name != other:
                world.cut.add((name, other))
            case (
                "stall"
            ):  # the most ordinary of troubles: the storage of one host stands for a while
                pool.set_path(name, Path.STUCK)
                takes_ns = round(draw.choice(PAUSES_S) * self.slow * S)
                world.after(takes_ns, lambda: pool.set_path(name, Path.OK))
            case "island" | "bridge":
                pool.isolate(name, what == "bridge")
            case "agent" if host.power:
                host.agent.kill()
            case "freeze" | "thaw" if host.power:
                host.frozen = what == "freeze"
            case "sleep" | "wake" if host.power:
                host.sleep(what == "sleep")
            case "clocks" | "wall":
                host.clock.err(draw, wall=what == "wall")
            case "rough" | "smooth":
                world.rough = what == "rough"
            case "trouble":
                host.start_trouble[vm] = draw.choice(("other", "locked", "missing"))
            case "sound":
                host.start_trouble.clear()
            case "hang" | "quick":
                host.start_takes_ns = 10 * S if what == "hang" else 200 * MS
            case "qemu" if pool.where(vm):
                pool.host(pool.where(vm)).agent.qemu_ends(vm, "crashed")
            case "stop" | "start":
                pool.want(vm, {"stop": "stopped", "start": "running"}[what])
            case "move" if pool.where(vm):
                host.move_takes_ns = draw.choice((100, 400, 2000)) * MS
                pool.move(vm, draw.choice(("", other)))
            case "back" if pool.record(vm).move:
                pool.wish(vm, replace(pool.record(vm), move=None))
            case "maintain" | "serve":
                pool.serve(name, "new memory" if what == "maintain" else "")
            case "slow":
                world.latency_ns = (20_000_000, 250_000_000)
            case "fast":
                world.latency_ns = (1_000_000, 8_000_000)
            case _:
                self.faults.pop()

    def _heal(self) -> None:
        pool = self.pool
        pool.world.latency_ns = (1_000_000, 8_000_000)
        pool.world.rough = False
        pool.network(True)
        for name, host in pool.hosts.items():
            pool.serve(name, "")
            pool.set_path(name, Path.OK)
            host.sleep(False)
            host.start_trouble.clear()
            host.start_takes_ns = min(host.start_takes_ns, S)
            host.power_on()

    def _recover(self) -> str:
        """What is missing after the bound; "" when all is well."""
        pool = self.pool
        for _ in range(int(BOUND_S)):
            pool.run(self.slow)
            if not self._missing():
                return ""
        missing = ", ".join(self._missing())
        return f"{missing} did not run {self.bound_s:g} s after everything was healed"

    def _missing(self) -> list[str]:
        return [vm for vm in self.pool.wanted() if not self.pool.where(vm)]


def change_timing(host: SimHost) -> None:
    """From `lab` to a slower one, or back, as its pulse learns it from the settings."""
    core = host.agent.pulse.core
    core.set_timing(SLOW if core.timing.preset == "lab" else preset("lab"))


def _silent(host: str, note: Note) -> None:
    """Nobody listens."""


def play(seed: int) -> Outcome:
    """Play one seed to its end."""
    return Run(seed).play()
