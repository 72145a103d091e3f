"""Random runs: one seed draws a pool, faults rain on it, then it must recover.

Rules:
1. Safety phase: faults are drawn from the seed at random moments; invariants hold after every
   event or the run ends with BrokenInvariant.
2. Liveness phase: everything heals, no new faults; every wanted VM must run within BOUND_S.
3. A seed and a commit replay a run exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass

from outlast.errors import BrokenInvariant
from outlast.pool.journal import Note
from outlast.settings import MS, S, preset
from outlast.sim.disk_work import end_work
from outlast.sim.faults import HARM, PAUSES_S, UNDO, Strokes
from outlast.sim.pool import SimPool
from outlast.sim.world import Path

# with the timing `lab`; another one stretches them as it stretches T_dead
SAFETY_S = 40.0
BOUND_S = 40.0
TIMINGS = ("lab", "lab", "quick", "standard")
HOSTS = "abcde"


@dataclass(frozen=True, slots=True)
class Outcome:
    seed: int
    kind: str  # ok | safety | liveness
    words: str
    faults: tuple[str, ...]
    host_seconds: float
    number: int = -1  # of the branch (branches.py); -1: the whole seed
    course: str = ""  # the same for schedules in which the same was done and said, times aside

    def short(self, words_max: int) -> dict[str, object]:
        """For another process: all but the faults."""
        return {**asdict(self), "words": self.words[:words_max], "faults": ()}

    @property
    def name(self) -> str:
        return str(self.seed) if self.number < 0 else f"{self.seed}.{self.number}"


class Run:
    """One seed. tell: gets every fault and every note as a line, with its second."""

    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self._tell = tell
        self.begun_ns = 0
        self.faults: list[str] = []
        self._course = hashlib.blake2b(digest_size=8)
        # the pool's size is drawn from the seed, the rest from the world's own chance
        hosts = HOSTS[: 2 + seed % 4]
        vms = [f"vm{i}" for i in range(1, 5)]
        partition = ("fence", "strict", "hold")[seed // 4 % 3]
        self.timing = TIMINGS[seed // 12 % len(TIMINGS)]
        self.slow = preset(self.timing).dead_ns / preset("lab").dead_ns
        self.pool = SimPool(
            seed, hosts, vms, partition=partition, timing=self.timing, tell=self._note,
            witness="192.0.2.1" if seed % 5 < 2 else "",
        )  # fmt: skip
        self.random = self.pool.world.random
        for host in self.pool.hosts.values():  # large VMs are slow to die, storage holds them
            share = self.random.choice((0, 0, self.random.random()))
            host.replies_lost = 4
            host.start_takes_ns = self.random.choice((50, 200, 200, 1500)) * MS
            host.kill_takes_ns = round(share * self.pool.settings.timing.kill_ns)
        hosts_now = self.pool.hosts.items()
        self.takes_ns = {name: (h.start_takes_ns, h.kill_takes_ns) for name, h in hosts_now}
        self._strokes = Strokes(self.pool, self.slow)
        self.kinds: tuple[str, ...] = ()
        self.draw_kinds()

    def draw_kinds(self) -> None:
        """Which faults there will be."""
        some = self.random.sample(HARM, self.random.randint(2, len(HARM)))
        self.kinds = tuple(kind for harm in some for kind in (harm, *UNDO.get(harm, ())))

    @property
    def bound_s(self) -> float:
        """After all is healed, every wanted VM runs within this."""
        return BOUND_S * self.slow

    def _note(self, host: str, note: Note) -> None:
        self._course.update(f"{host} {note.code} {note.vm}\n".encode())
        if self._tell:
            self._tell(f"{self.pool.world.now_ns / 1e9:9.2f} {host}: {note.sentence} [{note.code}]")

    def play(self) -> Outcome:
        pool = self.pool
        self.begun_ns = pool.world.now_ns
        seconds, kind, words = 0.0, "ok", ""
        try:
            pool.start()
            pool.run(self.slow)
            seconds += 5
            while seconds < SAFETY_S:
                self.hurt()
                step = self.random.choice(PAUSES_S)
                pool.run(step * self.slow)
                seconds += step
            self.heal()
            words = self.recover()
            kind = "liveness" if words else "ok"
        except BrokenInvariant as broken:
            kind, words = "safety", str(broken)
        return self.outcome(kind, words)

    def outcome(self, kind: str, words: str, number: int = -1) -> Outcome:
        host_seconds = (self.pool.world.now_ns - self.begun_ns) / 1e9 * len(self.pool.hosts)
        course = self._course.hexdigest()
        return Outcome(self.seed, kind, words, tuple(self.faults), host_seconds, number, course)

    def hurt(self) -> None:
        """One more fault, unless the drawn one can not happen now."""
        pool, draw = self.pool, self.random
        name, other = draw.choice(list(pool.hosts)), draw.choice(list(pool.hosts))
        vm = draw.choice(pool.vms)
        what = draw.choice(self.kinds)
        words = f"{what} {name} {other} {vm}"
        fault = f"{pool.world.now_ns / 1e9:.2f} {words}"
        if self._tell:
            self._tell(f"  {fault}")
        if self._strokes.strike(what, name, other, vm):
            self.faults.append(fault)
            self._course.update(f"{words}\n".encode())

    def heal(self) -> None:
        pool = self.pool
        pool.world.latency_ns = (1_000_000, 8_000_000)
        pool.world.rough = False
        pool.network(True)
        for vm in pool.vms:
            end_work(pool.hosts.values(), vm, killed=False)
        for name, host in pool.hosts.items():
            pool.serve(name, "")
            pool.set_path(name, Path.OK)
            host.sleep(False)
            host.reach_witness(True)
            host.start_trouble.clear()
            host.start_takes_ns = min(host.start_takes_ns, S)
            host.power_on()

    def recover(self) -> str:
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


def play(seed: int) -> Outcome:
    """Play one seed to its end."""
    return Run(seed).play()
