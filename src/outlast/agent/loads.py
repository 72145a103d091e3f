"""How busy this host and its VMs are, smoothed (pure but for `read`).

Rules:
1. Loads are averages that forget: what was TAU_S ago counts a third. A compiler that runs for a
   few seconds moves nobody.
2. A load needs two looks; until then nothing is known, and nothing is said.
3. A VM is its process: one that was started anew begins anew.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from outlast.model import LocalVm

TAU_S = 60.0
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
IDLE, IOWAIT, GUEST = 3, 4, 8  # columns of /proc/stat; from GUEST on things are counted twice


@dataclass(frozen=True, slots=True)
class Reading:
    busy_ns: int  # of all processors, since boot
    used_mib: int


def read(proc: Path = Path("/proc")) -> Reading | None:
    """What this host says now; None when it cannot be understood."""
    try:
        words = (proc / "stat").read_text().split("\n", 1)[0].split()[1:]
        ticks = [int(word) for word in words[:GUEST]]
        lines = (proc / "meminfo").read_text().splitlines()
        kib = {name: int(rest.split()[0]) for name, _, rest in (li.partition(":") for li in lines)}
        busy_ns = (sum(ticks) - ticks[IDLE] - ticks[IOWAIT]) * TICK_NS
        return Reading(busy_ns, (kib["MemTotal"] - kib["MemAvailable"]) // 1024)
    except (OSError, ValueError, IndexError, KeyError):
        return None


class Average:
    """Of a value over time."""

    def __init__(self) -> None:
        self._value: float | None = None
        self._at_s = 0.0

    def hear(self, now_s: float, value: float) -> float:
        old = 0.0 if self._value is None else math.exp(-(now_s - self._at_s) / TAU_S)
        self._value = value if self._value is None else old * self._value + (1 - old) * value
        self._at_s = now_s
        return self._value


class Pace:
    """Of a counter of nanoseconds: the cores it stands for, in thousandths."""

    def __init__(self) -> None:
        self._average = Average()
        self._last: tuple[float, int] | None = None

    def hear(self, now_s: float, ns: int) -> int:
        """0 until it was heard twice; 1 at least after that, so that idle is not unknown."""
        last, self._last = self._last, (now_s, ns)
        if last is None or now_s <= last[0] or ns < last[1]:
            return 0
        mcores = (ns - last[1]) / (now_s - last[0]) / 1e6
        return max(1, round(self._average.hear(now_s, mcores)))


class Loads:
    def __init__(self) -> None:
        self._host = Pace()
        self._memory = Average()
        self._vms: dict[str, tuple[int, Pace]] = {}
        self.busy_mcores = 0
        self.used_mib = 0
        self.vms: Mapping[str, int] = {}

    def hear(self, now_s: float, reading: Reading | None, local: Mapping[str, LocalVm]) -> None:
        """What was read just now; VMs as the hypervisor showed them a moment ago."""
        if reading is not None:
            self.busy_mcores = self._host.hear(now_s, reading.busy_ns)
            self.used_mib = round(self._memory.hear(now_s, reading.used_mib))
        paces, loads = {}, {}
        for name, vm in local.items():
            if not vm.cpu_ns:
                continue
            started_ns, pace = self._vms.get(name, (vm.started_ns, Pace()))
            if started_ns != vm.started_ns:
                started_ns, pace = vm.started_ns, Pace()
            paces[name] = (started_ns, pace)
            loads[name] = pace.hear(now_s, vm.cpu_ns)
        self._vms, self.vms = paces, {name: load for name, load in loads.items() if load}
