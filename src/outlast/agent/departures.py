"""The hands of a live migration at its source: from the order to a process that surely ended.

    other agent    may it come?  It reads the lease itself and admits a copy at its guard.
    libvirt        copies the memory, stops the VM, and waits for the target's word (relay.py)
    guard          ends the source's process while libvirt still waits for that word
    result         ok: the process is gone, its copy complete, and it has not run in between

Rules:
1. "ok" is said only when all of this was seen in this very call (docs/PROTOCOL.md): the guard says
   that nothing of the VM is left, and either libvirt's word was still on hold with libvirt waiting
   for it and no sign that the VM had gone on, or libvirt itself said that it worked.
2. Not being certain is a failure: the VM starts from its disk, which is always right.
3. The hypervisor goes on with a move of its own for as long as its call has not returned, whatever
   became of the VM, and then forgets the VM, even one that was started again meanwhile (seen with
   libvirt 9.0). So a VM comes back to this host only after that (`settled`), and when a move has
   failed or was given up the way is cut, which ends the call.
4. libvirt itself opens the connection for the memory, and answers no question about the VM for as
   long as that takes: minutes where packets just vanish. So the way is tried before libvirt is.
5. A call that does not end even then, since libvirt or QEMU hangs on a dead target, would hold the
   VM for as long as TCP tries: after GIVE_UP_S its process is ended, and it starts from its disk.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

from outlast.agent.api import Place
from outlast.agent.machine import Machine
from outlast.agent.relay import Relay
from outlast.errors import HypervisorTrouble, PoolTrouble
from outlast.guard.client import GuardClient, GuardGone
from outlast.hypervisor.mover import Departure, Mover, Progress, Way
from outlast.pool.decision import Depart
from outlast.pool.facts import Result
from outlast.settings import PoolSettings

LOOK_S = 0.02
SIGN_S = 0.2  # libvirt's event that the VM stopped comes on another connection
GUARD_S = 3.0  # a guard that was killed is back by then; less than the relay holds its word
ABORT_S = 1.0
GIVE_UP_S = 10.0
TIDY_S = 2.0
REACH_S = 5.0
LAST_PORT = 49215  # of those that libvirt gives to moves: open where they are, and the last in use


class Departures:
    """All moves that leave this host now."""

    def __init__(
        self, mover: Mover, guard: Callable[[], GuardClient], machine: Machine, run_dir: Path,
        where: Callable[[int], tuple[Place, str]], context: Callable[[], ssl.SSLContext],
        settings: Callable[[], PoolSettings],
    ) -> None:  # fmt: skip
        """where: the agent of a slot, and the address its libvirt shall listen at."""
        self._mover, self._open_guard, self._machine = mover, guard, machine
        self._run_dir, self._where, self._context = run_dir, where, context
        self._settings = settings
        self._under_way: dict[str, Departure] = {}
        self._given_up: dict[str, float] = {}  # since when, on the monotonic clock
        self._relays: dict[str, Relay] = {}
        self._asking, self._progress = threading.Lock(), dict[str, Progress]()
        self._ending: dict[str, Departure] = {}  # rule 3: their call may not have returned

    @property
    def any(self) -> bool:
        return bool(self._under_way)

    def all_progress(self) -> dict[str, Progress]:
        """How far each of them is, by VM. Asks the hypervisor, which may hang: one at a time, the
        others get what was known before."""
        if not self._asking.acquire(blocking=False):
            return self._progress
        try:
            under_way = dict(self._under_way)
            self._progress = {vm: departure.progress() for vm, departure in under_way.items()}
            return self._progress
        finally:
            self._asking.release()

    def abort(self, vm: str) -> None:
        """Give it up: in order, and if that does not work at once by cutting the way."""
        departure, relay = self._under_way.get(vm), self._relays.get(vm)
        if departure is not None and relay is not None:
            self._given_up[vm] = time.monotonic()
            threading.Thread(target=departure.abort, daemon=True).start()  # it may hang, too
            if not departure.wait(ABORT_S):
                relay.close()

    def settled(self, vm: str, limit_s: float) -> bool:
        """Wait until the hypervisor is done with the last move of this VM from here (rule 3)."""
        departure = self._ending.get(vm)
        return departure is None or departure.wait(limit_s)

    def go(self, work: Depart) -> Result:
        """Move it; takes as long as it takes. Raises OutlastError when it stays here."""
        place, address = self._where(work.to_slot)
        _try(place, address)
        path = self._run_dir / f"move-{work.vm}.sock"
        relay = Relay(path, place, work.vm, work.id, self._context())
        relay.start()
        try:
            departure = self._mover.depart(work.vm, self._way(work.id, path, address))
        except BaseException:
            relay.close()
            raise
        self._under_way[work.vm] = self._ending[work.vm] = departure
        self._relays[work.vm] = relay
        try:
            self._until_gone(work.vm, relay, departure)
        except BaseException:
            relay.close()
            raise
        finally:
            del self._under_way[work.vm], self._relays[work.vm]
            self._given_up.pop(work.vm, None)
            relay.release()
            threading.Thread(target=_tidy, args=(departure, relay), daemon=True).start()
        return Result("move", work.vm, True)

    def _way(self, id_: str, path: Path, address: str) -> Way:
        limits = self._settings()
        return Way(id_, str(path), address, limits.move_mib_s, limits.move_connections)

    def _until_gone(self, vm: str, relay: Relay, departure: Departure) -> None:
        """Rules 1 and 5. Raises HypervisorTrouble."""
        released = False  # the target's word was delivered: libvirt decides by itself
        while not departure.wait(LOOK_S if released else 0):
            if time.monotonic() - self._given_up.get(vm, time.monotonic()) > GIVE_UP_S:
                self._end(vm)
                raise HypervisorTrouble("the hypervisor did not end its move when it was given up")
            if released or not relay.held.wait(LOOK_S):
                continue
            if _settled(relay, departure):
                self._end(vm)
                if relay.intact() and departure.still:
                    return
                raise HypervisorTrouble(
                    "it was ended here, but it may have gone on after its copy was complete"
                )
            relay.release()
            released = True
        if departure.trouble:
            raise HypervisorTrouble(departure.trouble)
        self._end(vm)

    def _end(self, vm: str) -> None:
        """End what is here of it. A guard that was killed is back in a moment: until then it waits.

        Raises HypervisorTrouble, GuardGone.
        """
        until = time.monotonic() + GUARD_S
        while True:
            try:
                populated = self._open_guard().kill(vm).get("populated")
                break
            except GuardGone:
                if time.monotonic() > until:
                    raise
                time.sleep(LOOK_S)
        if populated:
            raise HypervisorTrouble(f"{vm} does not die here; its storage may be stuck")
        self._machine.look_at_guard()


def _try(place: Place, address: str) -> None:
    """Rule 4: anything that comes back will do, a refusal most of all. Raises PoolTrouble."""
    try:
        socket.create_connection((address, LAST_PORT), REACH_S).close()
    except ConnectionRefusedError:
        return
    except OSError as trouble:
        raise PoolTrouble(
            f"{place.host} does not answer at {address}, its address for moves: {trouble}"
        ) from trouble


def _settled(relay: Relay, departure: Departure) -> bool:
    """Wait a moment for the event that the VM stopped; False when it must be done the slow way."""
    until = time.monotonic() + SIGN_S
    while not departure.still and relay.intact() and time.monotonic() < until:
        time.sleep(LOOK_S / 10)
    return departure.still and relay.intact()


def _tidy(departure: Departure, relay: Relay) -> None:
    """libvirt says good-bye to the other daemon and waits for its answer, also to a dead one."""
    departure.wait(TIDY_S)
    relay.close()


def no_context() -> ssl.SSLContext:
    """Raises PoolTrouble: this host has no certificate to go to others with."""
    raise PoolTrouble("this agent has no certificate, so no VM can move from here")
