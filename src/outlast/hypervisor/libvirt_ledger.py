"""What is known of each domain, and the events that follow from it. Asks libvirt nothing.

Rules:
1. A VM's events come from changes of its entry here (running, paused), so each is told once, no
   matter how often libvirt tells it or whether a look around found it first.
2. libvirt's event says best why something ended; a look around only that it did. So what a look
   finds counts at once after the connection was lost, and otherwise only if the next look finds
   the same (libvirt 9.0 loses the end of a VM that dies while libvirtd starts).
3. A VM ended by this driver's own `kill` was stopped, whatever libvirt calls it.

`arrived`, `audited` and `happened` are called by one thread only, the link's keeper.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from outlast.hypervisor import libvirt_words as words
from outlast.hypervisor.driver import KILLED, DriverEvent, EventKind
from outlast.hypervisor.libvirt_link import Happening
from outlast.hypervisor.qemu_process import boot_ns
from outlast.model import VmSpec, VmState

log = logging.getLogger(__name__)

Callback = Callable[[DriverEvent], None]


@dataclass(slots=True)
class Known:
    """What is remembered of a domain."""

    uuid: str
    name: str
    ours: bool
    domain_id: int
    memory_mib: int
    vcpus: int
    running: bool = False
    paused: bool = False
    host_signal: bool = False  # a signal of the host has asked QEMU to end
    killed: bool = False  # by our own `kill`
    incoming: str = ""  # the move whose copy it is, until it runs


Found = tuple[Known, VmState]


class Ledger:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Known] = {}
        self._callbacks: tuple[Callback, ...] = ()
        self._surveyed = False
        self._doubts: frozenset[tuple[str, EventKind]] = frozenset()
        self.epoch = 0  # grows with each connection: what is heard within one has no gap

    def subscribe(self, callback: Callback) -> None:
        with self._lock:
            self._callbacks = (*self._callbacks, callback)

    def get(self, uuid: str) -> Known | None:
        with self._lock:
            return self._known.get(uuid)

    def put(self, fresh: Known) -> Known:
        """Remember a domain that was looked at; one of ours that is known keeps its entry."""
        with self._lock:
            known = self._known.get(fresh.uuid)
            if known is not None and known.ours:
                return known
            self._known[fresh.uuid] = fresh
            return fresh

    def expect(self, spec: VmSpec) -> None:
        """Remember a VM before it starts, so that its first event finds it known."""
        uuid = spec.uuid.lower()
        with self._lock:
            known = self._known.setdefault(
                uuid, Known(uuid, spec.name, True, 0, spec.memory_mib, spec.vcpus)
            )
            known.name, known.ours = spec.name, True
            known.memory_mib, known.vcpus = spec.memory_mib, spec.vcpus
            if not known.running:
                known.killed = known.host_signal = False

    def kills(self, uuid: str) -> None:
        """This driver is about to kill it."""
        with self._lock:
            if known := self._known.get(uuid):
                known.killed = True

    # ---- the keeper's thread -------------------------------------------------------------

    def arrived(self, found: Iterable[Found]) -> None:
        """The connection is new: what differs from before happened while it was away.

        The very first time it only learns what runs.
        """
        self.epoch += 1
        for known, kind in self._differences(found):
            self._change(known, kind, "seen after libvirt was out of reach", tell=self._surveyed)
        self._surveyed = True
        self._doubts = frozenset()

    def audited(self, found: Iterable[Found]) -> None:
        """A look around in between: what differs twice running was never told."""
        doubts = set()
        for known, kind in self._differences(found):
            if (known.uuid, kind) in self._doubts:
                self._change(known, kind, "noticed late: libvirt did not tell")
            else:
                doubts.add((known.uuid, kind))
        self._doubts = frozenset(doubts)

    def happened(self, known: Known, item: Happening) -> None:
        """libvirt told something of one of our domains."""
        event, at_ns = item.event, item.at_ns
        if event is None:
            self._emit(known, EventKind.IO_ERROR, words.io_error(*item.text), at_ns)
        elif event == words.STARTED:
            self._change(known, EventKind.STARTED, "", at_ns)
        elif event in (words.SUSPENDED, words.PMSUSPENDED):
            self._change(known, EventKind.PAUSED, words.paused(event, item.detail), at_ns)
        elif event == words.RESUMED:
            self._change(known, EventKind.RESUMED, "", at_ns)
        elif event == words.SHUTDOWN:
            known.host_signal = item.detail == words.SHUTDOWN_HOST
        elif event == words.STOPPED:
            kind, detail = words.stopped(item.detail, by_host_signal=known.host_signal)
            self._change(known, kind, detail, at_ns)

    def _differences(self, found: Iterable[Found]) -> list[tuple[Known, EventKind]]:
        """What would have to happen to each VM for this ledger to agree with `found`."""
        there = {known.uuid: (known, state) for known, state in found}
        with self._lock:
            running = [known for known in self._known.values() if known.ours and known.running]
        result = [(known, EventKind.CRASHED) for known in running if known.uuid not in there]
        for known, state in there.values():
            if state not in (VmState.RUNNING, VmState.PAUSED):
                continue  # on its way up: that start may still fail
            if not known.running:
                result.append((known, EventKind.STARTED))
            if state is VmState.PAUSED and not known.paused:
                result.append((known, EventKind.PAUSED))
            if state is VmState.RUNNING and known.paused:
                result.append((known, EventKind.RESUMED))
        return result

    def _change(
        self, known: Known, kind: EventKind, detail: str, at_ns: int = 0, *, tell: bool = True
    ) -> None:
        """Bring an entry up to date and tell it, unless it is so already."""
        if kind is EventKind.STARTED:
            news = not known.running
            known.running = True
        elif kind in (EventKind.PAUSED, EventKind.RESUMED):
            paused = kind is EventKind.PAUSED
            news = known.running and known.paused != paused
            known.paused = paused and known.running
        else:
            news = known.running
            if known.killed:
                kind, detail = EventKind.STOPPED, KILLED
            if news:
                known.running = known.paused = known.host_signal = known.killed = False
        if news and tell:
            self._emit(known, kind, detail, at_ns)

    def _emit(self, known: Known, kind: EventKind, detail: str, at_ns: int = 0) -> None:
        event = DriverEvent(known.name, kind, detail, at_ns or boot_ns())
        with self._lock:
            callbacks = self._callbacks
        for callback in callbacks:
            try:
                callback(event)
            except Exception:  # one subscriber's fault must not end the others' events
                log.exception("a subscriber failed on %s", event)
