"""What runs on this host: the hypervisor's list and the guard's control groups, side by side.

Rules:
1. One thread asks both, at once when an event comes or the pulse says something else of the guard,
   and every `interval_s` otherwise; a hypervisor that hangs makes the picture old (`ready` False),
   never the tick slow.
2. How a VM ended is learned from its event and kept until the tick has seen it.
3. The guard is asked even when the hypervisor is away: an empty control group is the better proof.
4. What is left of the host is asked when VMs came or went; else only now and then, for the sake of
   domains that are not the pool's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from outlast.errors import HypervisorTrouble
from outlast.guard.client import GuardClient, GuardGone
from outlast.hypervisor.driver import KILLED, Driver, DriverEvent, EventKind
from outlast.model import NO_TERM, GuardState, HostResources, LocalVm
from outlast.pool.facts import Exit, GuardFacts

LOOK_S = 1.0  # what changes tells of itself: looking more often finds nothing
RESOURCES_S = 10.0
NOTHING = HostResources(0, 0, 0, 0)
NO_GUARD = GuardFacts(GuardState.IDLE, NO_TERM, -1, frozenset())


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at this host."""

    local: Mapping[str, LocalVm] = field(default_factory=dict)
    ready: bool = False
    resources: HostResources = NOTHING
    guard: GuardFacts = NO_GUARD
    guard_deadline_ns: int = 0
    guard_ready: bool = False
    trouble: str = ""
    guard_reason: str = ""  # the guard's own word about its state


class Machine:
    """Watches one driver and one guard."""

    def __init__(
        self,
        driver: Driver,
        guard: Callable[[], GuardClient],
        changed: Callable[[], None],
        interval_s: float,
    ) -> None:
        self._driver = driver
        self._open_guard = guard
        self._guard: GuardClient | None = None
        self._changed = changed
        self._interval_s = interval_s
        self._wake = threading.Event()
        self._look_lock = threading.Lock()
        self._exit_lock = threading.Lock()
        self._exits: list[Exit] = []
        self._resources_after_s = 0.0
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="machine", daemon=True)
        self.seen = Seen()

    def start(self) -> None:
        self._driver.subscribe(self._event)
        self._thread.start()

    def close(self) -> None:
        self._stop = True
        self._wake.set()

    def take_exits(self) -> tuple[Exit, ...]:
        """Ends of VMs since the last call."""
        with self._exit_lock:
            exits, self._exits = tuple(self._exits), []
        return exits

    def look(self) -> Seen:
        """Ask both now, in the caller's thread."""
        with self._look_lock:
            before = self.seen
            guarded = self._ask_guard()
            try:
                local = {vm.name: vm for vm in self._driver.list()}
                resources = self._resources(before, local)
                seen = replace(guarded, local=local, ready=True, resources=resources, trouble="")
            except HypervisorTrouble as trouble:
                seen = replace(guarded, ready=False, trouble=trouble.sentence)
            self.seen = seen
        if _different(before, seen):
            self._changed()
        return seen

    def look_at_guard(self) -> None:
        """Ask the guard alone, now, in the caller's thread."""
        with self._look_lock:
            self.seen = self._ask_guard()
        self._changed()

    def look_soon(self) -> None:
        """Have the thread look now; never blocks."""
        self._wake.set()

    def _resources(self, before: Seen, local: Mapping[str, LocalVm]) -> HostResources:
        now_s = time.monotonic()
        same = before.ready and before.local.keys() == local.keys()
        if same and now_s < self._resources_after_s:
            return before.resources
        resources = self._driver.resources()
        self._resources_after_s = now_s + RESOURCES_S
        return resources

    def _ask_guard(self) -> Seen:
        """What was seen last, with what the guard says now."""
        seen = self.seen
        try:
            if self._guard is None:
                self._guard = self._open_guard()
            status = self._guard.status()
            return replace(
                seen, guard=_guard_facts(status), guard_deadline_ns=int(str(status["deadline_ns"])),
                guard_ready=True, guard_reason=str(status.get("reason", "")),
            )  # fmt: skip
        except (GuardGone, ValueError, KeyError):
            self._guard = None
            # its term may well go on: what it said last stands, but nothing may begin
            gone = replace(seen.guard, remaining_ns=-1)
            return replace(seen, guard=gone, guard_deadline_ns=0, guard_ready=False)

    def _event(self, event: DriverEvent) -> None:
        kinds = {EventKind.STOPPED: "shutdown", EventKind.CRASHED: "crashed"}
        kind = kinds.get(event.kind)
        if kind == "shutdown" and event.detail == KILLED:
            kind = "killed"
        if kind:
            with self._exit_lock:
                self._exits.append(Exit(event.name, kind, event.detail))
        self._wake.set()

    def _run(self) -> None:
        while not self._stop:
            self.look()
            self._wake.wait(self._interval_s)
            self._wake.clear()
            time.sleep(0.002)  # events come in bunches


def _guard_facts(status: dict[str, Any]) -> GuardFacts:
    """The guard's own words as facts; garbage raises, it is not a guard then."""
    vms = status["vms"]
    populated = frozenset(name for name, vm in vms.items() if vm.get("populated"))
    state = GuardState(status["state"])
    remaining_ns = int(status["remaining_ns"])
    return GuardFacts(state, str(status["term"]), remaining_ns, populated)


def _different(a: Seen, b: Seen) -> bool:
    """True when there is something new to think about; processor time is not."""
    return (_states(a), a.ready, a.guard.state, a.guard.populated, a.guard.term) != (
        _states(b), b.ready, b.guard.state, b.guard.populated, b.guard.term,
    )  # fmt: skip


def _states(seen: Seen) -> dict[str, tuple[object, ...]]:
    return {name: (vm.state, vm.reason, vm.pid) for name, vm in seen.local.items()}
