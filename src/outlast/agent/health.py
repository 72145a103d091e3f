"""What this host says of its own readiness, in its register `health/N`, for every host's lights.

Rules:
1. Said when something changed, else every AGAIN_S with what was measured of the beats. So it is
   also a real test of whether this host can write registers.
2. What it cannot say to others it still says itself (`known`).
3. `judge` is pure. Looking may hang: a thread of its own.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from outlast.agent.service import Service
from outlast.errors import OutlastError
from outlast.pool.facts import Facts, Held
from outlast.readiness.lights import RED, SOUND_CLOCKS, YELLOW
from outlast.settings import PoolSettings
from outlast.storage.health import HostHealth, HostLight
from outlast.storage.register import Outcome, Swap

LOOK_S = 20.0
AGAIN_S = 600.0
FREE_MIB_MIN, FREE_MIB_WISHED = 64, 512
MIB = 1 << 20
CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
WATCHDOG_HINT = "load the driver of its watchdog; outlast host check says more"


def judge(
    facts: Facts, settings: PoolSettings, guard: Mapping[str, object] | None, clock: str,
    endings: Mapping[str, str], free_mib: int, unwritten: Mapping[str, str],
) -> tuple[HostLight, ...]:  # fmt: skip
    """guard: its status, None when it does not answer. endings: what is to be said of
    certificates, and done. clock: the kernel's clock source, "" when not known. unwritten: what
    of its journal cannot be written, and why."""
    found: list[HostLight] = []
    if guard is None:
        found.append(HostLight(RED, "guard", "its guard does not answer",
                               "systemctl status outlast-guard"))  # fmt: skip
    else:
        found += _guard(guard, required=settings.watchdog == "required")
    if clock and clock not in SOUND_CLOCKS:
        said = f"its clock source is '{clock}': it may be slow or drift"
        found.append(HostLight(YELLOW, "clock", said, "dmesg | grep clocksource"))
    found += [HostLight(YELLOW, "certificate", said, hint) for said, hint in endings.items()]
    if free_mib < FREE_MIB_WISHED:
        colour = RED if free_mib < FREE_MIB_MIN else YELLOW
        said = f"only {free_mib} MiB are free on the pool's storage"
        found.append(HostLight(colour, "storage", said, "make room there"))
    found += [
        HostLight(YELLOW, "journal", f"it cannot write {what}: {why}",
                  "make room in /var/lib/outlast and on the pool's storage")
        for what, why in unwritten.items()
    ]  # fmt: skip
    return (*found, *_processor(facts, settings))


def _guard(guard: Mapping[str, object], *, required: bool) -> list[HostLight]:
    found = []
    if guard.get("state") == "open" and guard.get("reset", "none") == "none":
        said = "nothing resets it when it hangs: no watchdog is armed"
        found.append(HostLight(RED if required else YELLOW, "watchdog", said, WATCHDOG_HINT))
    if unsafe := guard.get("unsafe_reset"):
        found.append(HostLight(RED, "guard", str(unsafe), "restart this host"))
    problems = guard.get("problems")
    for problem in problems if isinstance(problems, list) else []:
        found.append(HostLight(YELLOW, "guard", str(problem)))
    return found


def _processor(facts: Facts, settings: PoolSettings) -> list[HostLight]:
    """Whether VMs could move between this host and the others."""
    me = facts.slots.get(facts.me.slot)
    others = [r for r in facts.slots.values() if r.active and r.slot != facts.me.slot]
    if me is None or not me.accelerator:
        return []
    if me.accelerator == "tcg" and any(r.accelerator == "kvm" for r in others):
        said = "its VMs are emulated (no KVM), those of other hosts are not"
        return [HostLight(YELLOW, "processor", said, "switch virtualisation on in its firmware")]
    unlike = sorted(r.host for r in others if r.cpu and me.cpu and r.cpu != me.cpu)
    if unlike and not settings.cpu and me.accelerator == "kvm":
        said = f"its processor differs from that of {', '.join(unlike)}, and VMs see their host's "
        said += "own: they may not move there while they run"
        return [HostLight(YELLOW, "processor", said, "outlast pool set --cpu baseline")]
    return []


class Health:
    """said: the registers as last read. guard: raises OutlastError when it does not answer."""

    def __init__(
        self, service: Service, said: Callable[[], Mapping[int, Held[HostHealth]]],
        swap: Callable[[int, HostHealth], Swap], guard: Callable[[], Mapping[str, object]],
        endings: Callable[[], Mapping[str, str]], unwritten: Callable[[], Mapping[str, str]],
        clock_source: Path = CLOCK_SOURCE,
    ) -> None:  # fmt: skip
        self._service, self._said, self._swap = service, said, swap
        self._guard, self._endings, self._clock_source = guard, endings, clock_source
        self._unwritten = unwritten
        self._own: HostHealth | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()

    @property
    def known(self) -> Mapping[int, HostHealth]:
        """By slot; of this host what it saw itself."""
        found = {slot: held.value for slot, held in self._said().items()}
        return found | ({self._own.slot: self._own} if self._own else {})

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            self.look(time.time())

    def look(self, wall_s: float) -> None:
        """Look once, and say what is new."""
        picture = self._service.picture
        facts = picture.facts
        if facts is None or not facts.registers_ready:
            return
        own = self._looked(facts, facts.agreed(picture.settings), int(wall_s))
        held = self._said().get(own.slot)
        old = held.value if held else None
        if old is None or old.lights != own.lights or wall_s - old.wall_s >= AGAIN_S:
            own = self._tell(held, own)
        self._own = own

    def _tell(self, held: Held[HostHealth] | None, own: HostHealth) -> HostHealth:
        why = ""
        try:
            answer = self._swap(held.version if held else 0, own)
            if answer.outcome is Outcome.UNKNOWN:
                why = "the storage does not say whether it took it"
        except OutlastError as trouble:
            why = trouble.sentence
        except OSError as trouble:
            why = str(trouble)
        if not why:
            return own
        light = HostLight(RED, "registers", f"it cannot write the pool's registers: {why}")
        return replace(own, lights=(*own.lights, light))

    def _looked(self, facts: Facts, settings: PoolSettings, wall_s: int) -> HostHealth:
        guard, clock, free_mib = None, "", FREE_MIB_WISHED
        with suppress(OutlastError):
            guard = self._guard()
        with suppress(OSError, UnicodeDecodeError):
            clock = self._clock_source.read_text(encoding="ascii").strip()
        with suppress(OSError):
            free_mib = shutil.disk_usage(self._service.pool_dir).free // MIB
        lights = judge(facts, settings, guard, clock, self._endings(), free_mib, self._unwritten())
        known = self._service.measured
        return HostHealth(
            facts.me.slot, lights, known.beats, known.median_ns, known.p99_ns, known.p999_ns,
            known.longest_ns, known.unheard_median_ns, known.unheard_p99_ns, known.unheard_ns,
            wall_s,
        )  # fmt: skip
