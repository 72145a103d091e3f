"""Random faults on a real pool: what can be done to it, drawn from a seed, and named in words.

Rules:
1. A seed draws the same faults in the same order; what they meet depends on the machine's timing.
2. Faults overlap, up to the whole pool; nothing is healed out of pity before the round is over.
3. The register chains on the storage are judged by themselves: one view after the other, and no
   lease that changed hands without its proof (I4, I8).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from evidence import Lives, unsound

from outlast.errors import OutlastError
from outlast.rack.lab import Lab
from outlast.storage.format import lease_from, record_parse, view_from

SERVICES = ("outlast-guard", "outlast-pulse", "outlast-agent", "libvirtd")
PAUSES_S = (0.05, 0.3, 0.3, 1.0, 2.0, 4.0, 6.0)  # some longer than T_dead


class Chaos:
    """Hurts one lab."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self._lab, self._chance = lab, random.Random(seed)
        self._began_s = time.monotonic()
        self.done: list[str] = []
        self._faults: dict[str, Callable[[str, str, str], object]] = {
            "power off": lambda a, b, vm: lab.rack.power(a, "off"),
            "power on": lambda a, b, vm: lab.rack.power(a, "on"),
            "reset": lambda a, b, vm: lab.rack.power(a, "reset"),
            "freeze": lambda a, b, vm: lab.rack.freeze(a),
            "thaw": lambda a, b, vm: lab.rack.thaw(a),
            "isolate": lambda a, b, vm: lab.rack.isolate(a),
            "cut": lambda a, b, vm: lab.rack.cut(a, b),
            "cut one way": lambda a, b, vm: lab.rack.cut(a, b, one_way=True),
            "lose packets": lambda a, b, vm: lab.rack.loss(a, 40),
            "heal network": lambda a, b, vm: lab.rack.heal(),
            "stall storage": lambda a, b, vm: lab.rack.storage("stall", a),
            "fail storage": lambda a, b, vm: lab.rack.storage("fail", a, errno="EIO"),
            "slow storage": lambda a, b, vm: lab.rack.storage("slow", a, ms=150),
            "lose replies": lambda a, b, vm: lab.rack.storage("lose-replies", a),
            "heal storage": lambda a, b, vm: lab.rack.storage("heal", a),
            "storage cable": lambda a, b, vm: lab.rack.link(a, False, "storage"),
            "kill QEMU": lambda a, b, vm: lab.kill_qemu(vm),
            "kill process": lambda a, b, vm: self._kill(a),
            "stop": lambda a, b, vm: lab.client().kill(vm),
            "start": lambda a, b, vm: lab.client().start(vm),
            "move": lambda a, b, vm: lab.client().migrate(vm),
            "move on": lambda a, b, vm: lab.client().migrate(vm),
        }
        self._weights = [3 if name.startswith(("heal", "power on")) else 1 for name in self._faults]

    def hurt(self) -> None:
        """One fault, and a while."""
        chance, lab = self._chance, self._lab
        (name,) = chance.choices(list(self._faults), self._weights)
        a, b = chance.sample(lab.hosts, 2)
        vm = chance.choice(lab.vms)
        pause_s = chance.choice(PAUSES_S)
        about = {"cut": f"{a} {b}", "cut one way": f"{a} {b}"}.get(name, a)
        about = vm if name in {"kill QEMU", "stop", "start", "move", "move on"} else about
        line = f"{time.monotonic() - self._began_s:7.2f} {name} {about}"
        try:
            self._faults[name](a, b, vm)
        except (OutlastError, ProcessLookupError, KeyError) as error:
            line += f" (did nothing: {error})"  # off already, no such process, nobody to ask
        self.done.append(line)
        time.sleep(pause_s)

    def _kill(self, host: str) -> None:
        os.kill(self._lab.rack.service_pid(host, self._chance.choice(SERVICES)), signal.SIGKILL)


def want_all(lab: Lab) -> None:
    """Somebody may have stopped any VM: all shall run."""
    for vm in lab.vms:
        lab.client().start(vm)


def wrong(lab: Lab, lives: Lives) -> list[str]:
    """Everything that must never be, in sentences."""
    found = lives.overlaps()
    found += [f"{vm}: {text}" for vm, text in unsound(lab).items()]
    found += _view_chain(lab.pool_dir / "reg")
    for vm in lab.vms:
        found += lease_chain(lab.pool_dir / "reg", vm)
    return found


def versions(reg: Path, name: str) -> dict[int, dict[str, object]]:
    """What is still there of a register, by version."""
    found = {}
    for path in (reg / name).glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError):  # collected just now
            version = int(path.name)
            found[version] = dict(record_parse(path.read_bytes(), name, version).value)
    return found


def _view_chain(reg: Path) -> list[str]:
    values = versions(reg, "view")
    views = {version: view_from(value) for version, value in values.items()}
    found = [f"view {n} says it is {v.version}" for n, v in views.items() if n != v.version]
    for version, view in views.items():
        before = views.get(version - 1)
        lost = before.slots - view.slots if before else frozenset()
        if lost and not view.reason:
            found.append(f"view {version} drops slots {sorted(lost)} without a reason")
    return found


def lease_chain(reg: Path, vm: str) -> list[str]:
    values = versions(reg, f"lease/{vm}")
    leases = {version: lease_from(value) for version, value in values.items()}
    found = []
    for version, lease in leases.items():
        before = leases.get(version - 1)
        if before is None or not before.held or not lease.held:
            continue
        if (before.slot, before.term) == (lease.slot, lease.term):
            continue
        move = before.move
        given = move is not None and (move.to_slot, move.to_term) == (lease.slot, lease.term)
        if given and (lease.via, lease.move) == ("migration", move):
            continue  # by its holder
        proof = lease.proof
        if proof is None or (proof.slot, proof.term) != (before.slot, before.term):
            found.append(f"lease of {lease.vm}, version {version}: no proof of its holder's death")
    return found
