"""Makes a hurt pool whole again, and waits until it is."""

from __future__ import annotations

import contextlib
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
    lab.wait(lambda: all_wanted_run(lab), BACK_S, "not all wanted VMs run")
    settle(lab, [vm for vm in lab.vms if lab.statuses()[vm].desired == "running"])


def all_wanted_run(lab: Lab) -> bool:
    states = lab.statuses()
    return all(states[vm].state == "running" for vm in lab.vms if states[vm].desired == "running")
