"""Work on the disks of a stopped VM, under its lease: never two writers.

Rules:
1. A host that works on the disks of a stopped VM holds its lease meanwhile, taken free by a swap as
   for a start. So no other host starts it, and the core of this one starts nothing on such a lease
   (pool/hosting.py, rule 8).
2. The ticks see the work as busy before the lease can be seen, and until after it was freed.
3. Every program that touches the disks runs in the VM's control group, by the guard's leave for
   this very term (guard/errand.py): when the host loses the pool, it dies as the VM would.
4. What was broken off over their snapshots is finished first (snapshot_acts.py).
5. It is freed when no program is left, and only in the term it was taken in: what the guard killed
   may have left writes on their way, and the proofs of death wait for those. So may a program that
   this agent ended: work that failed is left to the core, which frees the lease by the same rules
   as for a VM, after X (decision.gives_back). Who wished it hears of the failure when it is free.
   If this agent dies the core does it, too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from outlast.agent.hands import Hands, admit, errand
from outlast.agent.service import Borrowed, Service, existing, existing_held
from outlast.agent.snapshot_acts import finish
from outlast.errors import Conflict, OutlastError, PoolTrouble, StorageTrouble
from outlast.guard.client import GuardClient
from outlast.model import GuardState, Lease
from outlast.pool.decision import DISKS, gives_back
from outlast.pool.facts import Facts
from outlast.pool.journal import note
from outlast.settings import S
from outlast.storage.register import Outcome, Swap

UNKNOWN_WAIT_S, PAUSE_S = 5.0, 0.1
FREED_X = 3


class DiskWork:
    """The disks of stopped VMs, borrowed for a while. Methods block; for worker threads."""

    def __init__(
        self, service: Service, hands: Hands, write: Callable[[str, int, Lease], Swap],
        open_guard: Callable[[], GuardClient],
    ) -> None:  # fmt: skip
        self._service, self._hands = service, hands
        self._write, self._open_guard = write, open_guard

    @contextlib.contextmanager
    def borrow(self, vm: str, why: str) -> Iterator[Borrowed]:
        """Hold a stopped VM's lease meanwhile. why: a few words for people.

        Raises NotFound, Conflict when it runs or shall run, PoolTrouble when this host may run
        nothing now, StorageTrouble.
        """
        mine: Lease | None = None
        ended_well = False
        try:
            with self._hands.occupied(DISKS, vm):
                facts = self._facts()
                version, mine = self._take(facts, vm, why)
                try:
                    self._service.tell(note("disk-work", vm=vm, host=facts.me.host, why=why))

                    def leave() -> tuple[str, ...]:
                        return errand(self.admit(vm), vm, facts.term)

                    held = existing_held(self._service, vm)
                    yield Borrowed(finish(held, self._service.write_vm, leave), leave)
                    ended_well = True
                finally:
                    self._give_back(vm, version, mine, ended_well)
        finally:
            if mine is not None and not ended_well:
                self._wait_until_free(vm, mine)

    def admit(self, vm: str, *, incoming: bool = False) -> GuardClient:
        """Have the guard let this VM, or its copy, in, and know all storages it may write to.

        Raises NotFound, GuardRefused, GuardGone, StorageTrouble.
        """
        guard = self._open_guard()
        stores, host = existing(self._service, vm).stores, self._service.picture.me.host
        admit(guard, vm, stores, incoming=incoming, host=host)
        return guard

    def _facts(self) -> Facts:
        picture = self._service.picture
        facts = picture.facts
        if facts is None or not facts.registers_ready or not facts.local_ready:
            raise PoolTrouble(f"this host knows too little now: {picture.trouble or 'it began'}")
        listed = facts.view is not None and facts.view.lists(facts.me.slot, facts.term)
        late = facts.guard.remaining_ns <= picture.settings.timing.margin_ns
        if not listed or facts.guard.state is not GuardState.OPEN or late:
            raise PoolTrouble(
                f"{facts.me.host} is no member of the pool now, so it touches no disks",
                hint="outlast status",
            )
        return facts

    def _take(self, facts: Facts, vm: str, why: str) -> tuple[int, Lease]:
        """The version of the lease that is ours now, and its value."""
        record = existing(self._service, vm)
        if record.wanted:
            raise Conflict(f"'{vm}' shall run", hint=f"outlast vm stop {vm}")
        held = self._service.read_lease(vm)
        if held is not None and held.value.held:
            host = facts.host(held.value.slot)
            raise Conflict(f"{host} holds the lease of '{vm}'", hint=f"outlast vm show {vm}")
        if vm in facts.local or vm in facts.guard.populated:
            raise Conflict(f"'{vm}' is still being ended here", hint="try again in a moment")
        before = held.version if held else 0
        mine = Lease(vm, facts.me.slot, facts.term, DISKS, why=why)
        answer = self._write(f"lease/{vm}", before, mine)
        if answer.outcome is Outcome.OK:
            return answer.version, mine
        until = time.monotonic() + UNKNOWN_WAIT_S
        while answer.outcome is Outcome.UNKNOWN and time.monotonic() < until:
            with contextlib.suppress(StorageTrouble):
                now = self._service.read_lease(vm)
                if now is not None and now.value == mine:
                    return now.version, mine
                if now is not None and now.version > before:
                    break
            time.sleep(PAUSE_S)
        else:
            if answer.outcome is Outcome.UNKNOWN:
                raise StorageTrouble(
                    f"the storage did not say whether '{vm}' may be worked on", hint="try again"
                )
        raise Conflict(f"somebody else has just taken '{vm}'", hint=f"outlast vm show {vm}")

    def _give_back(self, vm: str, version: int, mine: Lease, ended_well: bool) -> None:
        """Rule 5. The core does it when this fails."""
        with contextlib.suppress(OutlastError):
            guard = self._open_guard()
            guard.release(vm)
            now = guard.status()
            state, term = GuardState(now["state"]), str(now["term"])
            if gives_back(mine, state, term, ended_well=ended_well):
                self._write(f"lease/{vm}", version, Lease(vm, why=f"done: {mine.why}"))

    def _wait_until_free(self, vm: str, mine: Lease) -> None:
        """The core is given a few times X, then it is not waited for."""
        until = time.monotonic() + FREED_X * self._service.picture.settings.timing.settle_ns / S
        with contextlib.suppress(OutlastError):
            while time.monotonic() < until:
                held = self._service.read_lease(vm)
                if held is None or held.value != mine:
                    return
                time.sleep(PAUSE_S)
