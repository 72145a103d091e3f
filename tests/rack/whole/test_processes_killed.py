"""Every process of the product is killed with -9 at random moments: no VM is lost, none doubled.

The seed is printed; OUTLAST_SEED repeats a run, OUTLAST_KILLS says how often (20; 50 for more).
About 50 seconds with 20 kills.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time

import pytest
from evidence import BACK_S, Lives, boots

from outlast.errors import OutlastError
from outlast.rack.lab import Lab

pytestmark = [pytest.mark.rack, pytest.mark.slow]
SERVICES = ("outlast-guard", "outlast-pulse", "outlast-agent", "libvirtd")
KILLS = int(os.environ.get("OUTLAST_KILLS", "20"))
FICKLE = ["fickle1", "fickle2"]  # VMs that people start and stop all the time


class Owner:
    """A person who starts and stops VMs, and remembers what the pool promised."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self._lab, self._chance = lab, random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="owner")
        self.wished = dict.fromkeys(FICKLE, "stopped")
        self.promises = 0

    def __enter__(self) -> Owner:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._chance.uniform(0.2, 2.0)):
            vm = self._chance.choice(FICKLE)
            wish = self._chance.choice(["start", "kill"])
            # an answer that did not come leaves it open what is wished: so it is said again
            while not self._say(vm, wish):
                time.sleep(0.1)
            self.wished[vm] = "running" if wish == "start" else "stopped"
            self.promises += 1

    def _say(self, vm: str, wish: str) -> bool:
        try:
            getattr(self._lab.client(self._chance.choice(self._lab.hosts)), wish)(vm)
        except OutlastError:
            return False
        return True


def test_kill_9_of_every_process(lab: Lab) -> None:
    seed = int(os.environ.get("OUTLAST_SEED", time.time_ns() % 1_000_000))
    print(f"OUTLAST_SEED={seed}")
    chance = random.Random(seed)
    steady = list(lab.vms)
    lab.create(FICKLE, start=False)
    before, view = boots(lab, steady), lab.client().status().view
    with Lives(lab) as lives, Owner(lab, seed) as owner:
        killed = [kill_one(lab, chance) for _ in range(KILLS)]
    print(f"killed: {', '.join(killed)}; {owner.promises} wishes promised: {owner.wished}")
    assert sum(bool(k) for k in killed) > KILLS / 2

    lab.wait_members(lab.hosts, BACK_S)
    lab.wait_running(steady, BACK_S)
    lab.wait(lambda: as_wished(lab, owner), BACK_S, f"not as wished: {owner.wished}")
    said = f"OUTLAST_SEED={seed}"
    assert boots(lab, steady) == before, f"a VM noticed; {said}"
    assert not lives.overlaps(), said
    assert lab.client().status().view == view, f"a host lost its term; {said}"
    for vm in FICKLE:
        lab.client().kill(vm)


def kill_one(lab: Lab, chance: random.Random) -> str:
    """One process dies; what it was, "" when it was down just then."""
    host, service = chance.choice(lab.hosts), chance.choice(SERVICES)
    try:
        with contextlib.suppress(OutlastError, ProcessLookupError):
            os.kill(lab.rack.service_pid(host, service), signal.SIGKILL)
            return f"{host}/{service.removeprefix('outlast-')}"
        return ""
    finally:
        time.sleep(chance.uniform(0.02, 1.5))


def as_wished(lab: Lab, owner: Owner) -> bool:
    """The acknowledged wishes are known and carried out, by processes and by the product's word."""
    states = lab.statuses()
    living = lab.processes()
    return all(
        (states[vm].desired, states[vm].state, len(living.get(vm, [])))
        == (wish, wish, int(wish == "running"))
        for vm, wish in owner.wished.items()
    )
