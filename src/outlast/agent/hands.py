"""The hands: carry out a decision, each piece of work in a thread of its own, and report.

Rules:
1. `perform` never blocks. What a hand works on is `busy` until its result has been taken.
2. Order of duty: what ends VMs is begun before what writes registers, before what starts VMs.
3. A move to another host is begun last; departures.py has its rules.
4. A start asks the guard first; the emulator wrapper asks it again. After a start or an end the
   machine is looked at before the result is reported, so that no tick sees a stale list.
5. A hand decides nothing: every trouble becomes a Result.
6. The pulse knows of a view before it is written, so that this host gives nobody time meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from outlast.agent.departures import Departures
from outlast.agent.growing import Size
from outlast.agent.machine import Machine
from outlast.agent.registers import Registers
from outlast.agent.snapshot_acts import finish
from outlast.errors import Conflict, HypervisorTrouble, OutlastError, Unreachable
from outlast.guard.client import GuardClient
from outlast.hypervisor.driver import Driver, GuardRefused, ImageMissing, StartLocked
from outlast.model import StopMode, VmRecord
from outlast.pool.decision import Abort, Decision, Depart, Kill, Start, Stop, Swap
from outlast.pool.facts import Held, Result
from outlast.storage.register import Outcome

STARTS_AT_ONCE = 4
SWAPS_AT_ONCE = 8
ENDS_AT_ONCE = 16
MOVES_AT_ONCE = 16  # the pool core allows fewer
SETTLE_S = 10.0  # that a VM waits here for libvirt to end its last move


Work = Kill | Stop | Swap | Start | Depart | Abort | str | tuple[str, Size]


class Hands:
    def __init__(
        self,
        registers: Registers,
        driver: Driver,
        guard: Callable[[], GuardClient],
        machine: Machine,
        changed: Callable[[], None],
        departures: Departures | None = None,
        propose: Callable[[int], bool] = lambda _version: True,
    ) -> None:
        self._registers = registers
        self._driver = driver
        self._open_guard = guard
        self._machine = machine
        self._changed = changed
        self._departures = departures
        self._propose = propose
        self._lock = threading.Lock()
        self._busy: set[tuple[str, str]] = set()
        self._results: list[Result] = []
        self._enders = ThreadPoolExecutor(ENDS_AT_ONCE, "end")
        self._swappers = ThreadPoolExecutor(SWAPS_AT_ONCE, "swap")
        self._starters = ThreadPoolExecutor(STARTS_AT_ONCE, "start")
        self._movers = ThreadPoolExecutor(MOVES_AT_ONCE, "move")

    @property
    def busy(self) -> frozenset[tuple[str, str]]:
        with self._lock:
            return frozenset(self._busy)

    def take_results(self) -> tuple[Result, ...]:
        with self._lock:
            results, self._results = tuple(self._results), []
        return results

    def perform(self, decision: Decision) -> None:
        """Begin everything this decision wants that is not under way already."""
        for kill in decision.kills:
            self._begin(self._enders, "kill", kill.vm, self._kill, kill)
        for stop in decision.stops:
            self._begin(self._enders, "stop", stop.vm, self._stop, stop)
        for abort in decision.aborts:
            self._begin(self._enders, "abort", abort.vm, self._abort, abort)
        for swap in decision.swaps:
            self._begin(self._swappers, "swap", swap.name, self._swap, swap)
        for start in decision.starts:
            self._begin(self._starters, "start", start.vm, self._start, start)
        for depart in decision.departs:
            self._begin(self._movers, "move", depart.vm, self._depart, depart)
        self.resume(resume.vm for resume in decision.resumes)

    def resume(self, vms: Iterable[str]) -> None:
        """Let paused VMs go on; never blocks."""
        for vm in vms:
            self._begin(self._enders, "resume", vm, self._resume, vm)

    def resize(self, wished: Iterable[tuple[str, Size]]) -> None:
        """Let running VMs grow; never blocks."""
        for vm, size in wished:
            self._begin(self._enders, "resize", vm, self._resize, (vm, size))

    @contextlib.contextmanager
    def occupied(self, kind: str, subject: str) -> Iterator[None]:
        """Work of somebody else that ticks must see as busy. Raises Conflict when it is already."""
        with self._lock:
            if (kind, subject) in self._busy:
                raise Conflict(f"'{subject}' is being worked on already", hint="wait for its end")
            self._busy.add((kind, subject))
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard((kind, subject))
            self._changed()

    def close(self) -> None:
        for pool in (self._enders, self._swappers, self._starters, self._movers):
            pool.shutdown(wait=False, cancel_futures=True)

    def _begin(
        self,
        pool: ThreadPoolExecutor,
        kind: str,
        subject: str,
        act: Callable[..., Result],
        work: Work,
    ) -> None:
        with self._lock:
            if (kind, subject) in self._busy:
                return
            self._busy.add((kind, subject))
        pool.submit(self._run, kind, subject, act, work)

    def _run(
        self,
        kind: str,
        subject: str,
        act: Callable[..., Result],
        work: Work,
    ) -> None:
        try:
            result = act(work)
        except OutlastError as trouble:
            result = Result(kind, subject, False, _trouble(trouble), trouble.sentence)
        except OSError as trouble:
            result = Result(kind, subject, False, "other", str(trouble))
        except BaseException:  # a bug: nobody would ever see it, and the VM would stay busy
            args = (*sys.exc_info(), threading.current_thread())
            threading.excepthook(threading.ExceptHookArgs(args))
            raise
        with self._lock:
            self._busy.discard((kind, subject))
            self._results.append(result)
        self._changed()

    def _kill(self, work: Kill) -> Result:
        self._end(work.vm)
        return Result("kill", work.vm, True)

    def _stop(self, work: Stop) -> Result:
        if work.mode is StopMode.KILL:
            self._end(work.vm)
        else:
            self._driver.shutdown(work.vm)
        return Result("stop", work.vm, True)

    def _end(self, vm: str) -> None:
        answer = self._open_guard().kill(vm)
        self._driver.kill(vm)
        if answer.get("populated"):
            raise HypervisorTrouble(f"{vm} does not die; its storage may be stuck")
        self._machine.look()

    def _resume(self, vm: str) -> Result:
        self._driver.resume(vm)
        self._machine.look()
        return Result("resume", vm, True)

    def _resize(self, work: tuple[str, Size]) -> Result:
        self._driver.resize(work[0], *work[1])
        self._machine.look()
        return Result("resize", work[0], True)

    def _depart(self, work: Depart) -> Result:
        if self._departures is None:
            raise HypervisorTrouble("the hypervisor of this host cannot move VMs")
        return self._departures.go(work)

    def _abort(self, work: Abort) -> Result:
        if self._departures is not None:
            self._departures.abort(work.vm)
        return Result("abort", work.vm, True)

    def _swap(self, work: Swap) -> Result:
        if work.name == "view" and not self._propose(work.expected + 1):
            raise Unreachable("the pulse does not say that it knows of the new view")
        answer = self._registers.swap(work.name, work.expected, work.value)
        ok = answer.outcome is Outcome.OK
        return Result("swap", work.name, ok, "" if ok else answer.outcome.value, work.why)

    def _start(self, work: Start) -> Result:
        if self._departures is not None and not self._departures.settled(work.vm, SETTLE_S):
            raise HypervisorTrouble("libvirt has not ended its last move from here")
        # a change by a host that has died since may not be known here yet: another disk, above all
        newest = self._registers.read_now(f"vm/{work.vm}")
        record = newest.value if newest is not None else VmRecord(work.spec)
        guard = self._open_guard()
        if newest is not None and record.snapshot_act is not None:
            record = self._finish(newest, guard)
        admit(guard, work.vm, record.stores)
        try:
            self._driver.start(record.spec)
        except OutlastError:
            guard.release(work.vm)
            raise
        finally:
            self._machine.look()
        return Result("start", work.vm, True)

    def _finish(self, held: Held[VmRecord], guard: GuardClient) -> VmRecord:
        """Snapshots first: see snapshot_acts.py."""
        record = held.value
        vm = record.spec.name
        lease = self._registers.read_now(f"lease/{vm}")
        term = lease.value.term if lease is not None else ""

        def leave() -> tuple[str, ...]:
            admit(guard, vm, record.stores)
            return errand(guard, vm, term)

        try:
            return finish(held, lambda v, done: self._registers.swap(f"vm/{vm}", v, done), leave)
        finally:
            guard.release(vm)


def errand(guard: GuardClient, vm: str, term: str) -> tuple[str, ...]:
    """Words before those of a program: it runs in the VM's place, by its guard's leave."""
    words = (sys.executable, "-m", "outlast.guard.errand", guard.path)
    return (*words, vm, term, str(os.getpid()))


def admit(
    guard: GuardClient, vm: str, stores: Sequence[str], *, incoming: bool = False,
    host: str = "this host",
) -> None:  # fmt: skip
    """Have a guard let this VM, or its copy, in. Raises GuardRefused, GuardGone."""
    answer = guard.admit(vm, incoming=incoming, stores=stores)
    if not answer.get("ok"):
        raise GuardRefused(f"the guard of {host} does not let '{vm}' in: {answer.get('error')}")


def _trouble(trouble: OutlastError) -> str:
    kinds = {StartLocked: "locked", ImageMissing: "missing", GuardRefused: "refused"}
    return next((word for kind, word in kinds.items() if isinstance(trouble, kind)), "other")
