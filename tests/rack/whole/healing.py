"""Makes a hurt pool whole again, and waits until it is."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

from evidence import BACK_S, settle

from outlast.errors import OutlastError
from outlast.rack.lab import Lab


def restore(lab: Lab, before: Callable[[Lab], None] = lambda _: None) -> None:
    """Everything on, healed, all hosts members, all wanted VMs running.

    before: what is to be done when the pool is whole and before its VMs are waited for.
    """
    lab.rack.heal()
    lab.rack.storage("heal")
    for host, state in lab.rack.status()["hosts"].items():
        with contextlib.suppress(OutlastError):  # it is being reset just now
            if state["power"] == "frozen":
                lab.rack.thaw(host)
            if state["power"] == "off":
                lab.rack.power(host, "on")
            lab.rack.storage("heal", host)
            for net in ("mgmt", "storage"):
                lab.rack.link(host, True, net)
    lab.wait_members(lab.hosts, BACK_S)
    before(lab)
    wanted: list[str] = []

    def all_run() -> bool:
        states = lab.statuses()
        wanted[:] = [vm for vm in lab.vms if states[vm].desired == "running"]
        return all(states[vm].state == "running" for vm in wanted)

    lab.wait(all_run, BACK_S, "not all wanted VMs run")
    settle(lab, wanted)


def undisturbed(test: Callable[..., None]) -> Callable[..., None]:
    """Repeat a test, once, that failed while a watchdog reset a host.

    With the rack's timing a machine that stands still for a second makes hosts reset themselves, as
    they must; what a test says of VMs that do not notice anything is then not what was tried.
    """

    @functools.wraps(test)
    def twice(lab: Lab, *args: object, **named: object) -> None:
        fired = _fired(lab)
        try:
            test(lab, *args, **named)
        except (AssertionError, OutlastError) as failure:
            if _fired(lab) == fired:
                raise
            print(f"a watchdog fired meanwhile, once more: {failure}")
            restore(lab, serve_all)
            test(lab, *args, **named)

    return twice


def _fired(lab: Lab) -> int:
    return sum(int(h["watchdog"]["fired"]) for h in lab.rack.status()["hosts"].values())


def serve_all(lab: Lab) -> None:
    """End every maintenance that a test has left."""
    for host in lab.hosts:
        lab.client().serve(host)
