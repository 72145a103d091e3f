"""Numbered safety properties over a picture of the whole pool (docs/PROTOCOL.md).

Rules:
1. They look at what really is (where VMs run, what the storage holds), never at what a host thinks.
2. The simulator checks them after every event, the rack whenever it takes a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from outlast.model import Lease, View


@dataclass(frozen=True, slots=True)
class Running:
    """One VM running on one host, with the term that host's guard holds open ("" = none)."""

    host: str
    slot: int
    term: str


@dataclass(frozen=True, slots=True)
class PoolPicture:
    running: Mapping[str, tuple[Running, ...]]  # vm -> where its vCPUs can run
    leases: Mapping[str, Lease]  # newest, as the storage holds them
    views: tuple[View, ...]  # all, oldest first
    overdue: tuple[str, ...] = ()  # hosts past D + K that still have a live VM


def broken(picture: PoolPicture) -> str:
    """The first invariant that does not hold, in words; "" when all do."""
    for vm, places in picture.running.items():
        if len(places) > 1:
            hosts = " and ".join(p.host for p in places)
            return f"I1: {vm} runs on {hosts}"
        lease = picture.leases.get(vm)
        for place in places:
            if lease is None or (lease.slot, lease.term) != (place.slot, place.term):
                holder = f"slot {lease.slot}, term {lease.term[:8]}" if lease else "nobody"
                return f"I3: {vm} runs on {place.host} while its lease names {holder}"
    for before, after in zip(picture.views, picture.views[1:], strict=False):
        if after.version != before.version + 1:
            return f"I4: view {after.version} follows view {before.version}"
    for host in picture.overdue:
        return f"I6: {host} is past its deadline and kill window with a live VM"
    return ""
