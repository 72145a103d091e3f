"""Keeps the pool's processor baseline: what VMs may see so that they can move to every host.

Rules:
1. Each host says in its slot record which processor its VMs could see (introduction.py). The master
   combines those of all hosts that run VMs, through its hypervisor, and writes the result into the
   pool's settings; it does so again when a host with another processor joins or leaves for good.
2. `cpu_mode` of the pool: "auto" combines when all of them run VMs with KVM, "baseline" always,
   "host" never: then a VM sees its host's processor and moves to hosts that have as much.
3. A VM keeps what it saw when it started. Whether it fits a host is checked by the hypervisor
   before each move, which fails in words otherwise.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from outlast.errors import HypervisorTrouble, StorageTrouble
from outlast.hypervisor.driver import Processors
from outlast.model import SlotRecord
from outlast.pool.facts import Facts, Held
from outlast.pool.journal import Note, note
from outlast.settings import PoolSettings
from outlast.storage.register import Swap

AGAIN_S = 5.0
MODES = ("auto", "baseline", "host")


def wanted(slots: Iterable[SlotRecord], mode: str) -> tuple[str, ...]:
    """The processors to combine, each once; () when VMs shall see their host's own."""
    hosts = [record for record in slots if record.active and not record.no_vms]
    if mode == "host" or not hosts or any(not record.cpu for record in hosts):
        return ()
    if mode == "auto" and any(record.accelerator != "kvm" for record in hosts):
        return ()
    return tuple(sorted({record.cpu for record in hosts}))


def mark(cpus: tuple[str, ...]) -> str:
    """Tells whether a baseline was made of these; "" for none."""
    return hashlib.sha256("\n".join(cpus).encode()).hexdigest()[:16] if cpus else ""


class BaselineKeeper:
    """read, write: the pool's settings on the storage. tell: takes a note. All may block."""

    def __init__(
        self, processors: Processors, read: Callable[[], Held[PoolSettings] | None],
        write: Callable[[int, PoolSettings], Swap], tell: Callable[[Note], None],
    ) -> None:  # fmt: skip
        self._processors, self._read, self._write, self._tell = processors, read, write, tell
        self._thread: threading.Thread | None = None
        self._not_before_s = 0.0

    def step(self, facts: Facts, settings: PoolSettings | None) -> None:
        """Called at every tick; settings: the newest known."""
        if settings is None or not facts.registers_ready:
            return
        self._processors.use(settings.cpu)
        if facts.view is None or facts.view.master != facts.me.slot:
            return
        cpus = wanted(facts.slots.values(), settings.cpu_mode)
        now_s = time.monotonic()
        idle = self._thread is None or not self._thread.is_alive()
        if mark(cpus) == settings.cpu_of or now_s < self._not_before_s or not idle:
            return
        self._not_before_s = now_s + AGAIN_S
        self._thread = threading.Thread(
            target=self._run, args=(cpus,), name="baseline", daemon=True
        )
        self._thread.start()

    def _run(self, cpus: tuple[str, ...]) -> None:
        try:
            held = self._read()
            if held is None or held.value.cpu_of == mark(cpus):
                return
            cpu, why = self._combined(cpus)
            settings = replace(held.value, cpu=cpu, cpu_of=mark(cpus))
            if self._write(held.version, settings).ok:
                self._tell(note("cpu-baseline", why=why))
        except StorageTrouble:
            return  # again at a later tick

    def _combined(self, cpus: tuple[str, ...]) -> tuple[str, str]:
        if not cpus:
            return "", "VMs see their host's own processor from their next start on"
        try:
            cpu = self._processors.baseline(cpus)
        except HypervisorTrouble as trouble:
            return "", f"VMs see their host's own processor, and move only to its like: {trouble}"
        kinds = "one kind of processor" if len(cpus) == 1 else f"{len(cpus)} kinds of processors"
        return cpu, f"VMs see what all hosts have in common ({kinds}) from their next start on"
