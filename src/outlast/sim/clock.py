"""The two clocks of one pretend host: neither is right, both go on.

Rules:
1. BOOTTIME is slewed by whoever sets the host's time, MONOTONIC_RAW errs as its crystal does. Each
   runs at its own rate, which may change at any moment; neither ever jumps back.
2. Both begin anew at each power-on. Suspended, the raw clock stands still, the boot clock goes on.
3. The wall clock may be set to anything; nothing but words for people may depend on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlast.settings import S

if TYPE_CHECKING:
    import random

    from outlast.sim.world import World

BEGIN_NS = 10_000_000_000  # what the clocks of a host show when its programs start
MILLION = 1_000_000
STANDS = -MILLION
DRIFT_PPM = 400  # what the bound on two clocks' difference (RHO) leaves to each
WALL_S = (-86400, -3600, 0, 3600, 10**8)


class Clock:
    """boot_ppm, raw_ppm: how many millionths too fast."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.boot_ppm = self.raw_ppm = 0
        self.wall_off_ns = 0
        self.restart()

    def restart(self) -> None:
        """As at power-on. The crystal stays the same."""
        self._since_ns = self._world.now_ns
        self._boot_ns = self._raw_ns = BEGIN_NS
        self._suspended = False

    def read(self) -> tuple[int, int]:
        """(boot, raw) in nanoseconds."""
        passed_ns = self._world.now_ns - self._since_ns
        raw_ppm = STANDS if self._suspended else self.raw_ppm
        return (
            self._boot_ns + passed_ns + passed_ns * self.boot_ppm // MILLION,
            self._raw_ns + passed_ns + passed_ns * raw_ppm // MILLION,
        )

    @property
    def boot_ns(self) -> int:
        passed_ns = self._world.now_ns - self._since_ns
        return self._boot_ns + passed_ns + passed_ns * self.boot_ppm // MILLION

    @property
    def wall_ns(self) -> int:
        return self._world.now_ns + self.wall_off_ns

    def run(self, boot_ppm: int, raw_ppm: int) -> None:
        """From now on at these rates."""
        self._rebase()
        self.boot_ppm, self.raw_ppm = boot_ppm, raw_ppm

    def err(self, chance: random.Random, *, wall: bool) -> None:
        """From now on wrong in another way."""
        if wall:
            self.wall_off_ns = chance.choice(WALL_S) * S
        else:
            self.run(*(chance.randint(-DRIFT_PPM, DRIFT_PPM) for _clock in ("boot", "raw")))

    def suspend(self, suspended: bool) -> None:
        """Rule 2."""
        self._rebase()
        self._suspended = suspended

    def _rebase(self) -> None:
        self._boot_ns, self._raw_ns = self.read()
        self._since_ns = self._world.now_ns
        self._world.changes += 1
