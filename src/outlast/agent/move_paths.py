"""Whether VMs could move: does each host answer where they would arrive, to packets of full size?

Rules:
1. A host that takes VMs is asked at its address for them, as the networks for VMs are called on
   (network_reach.py): by a network of a name that no other can have.
2. The size is the MTU of this host's own link for moves. When its address is on none, nobody is
   asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from outlast.equipment import Network
from outlast.model import SlotRecord
from outlast.network.plan import Link
from outlast.network.roles import migration_address
from outlast.pool.facts import Facts

MOVES = "for moves"


class MovePaths:
    """facts: the newest; None while there are none."""

    def __init__(self, facts: Callable[[], Facts | None]) -> None:
        self._facts = facts

    def networks(self, links: Mapping[str, Link]) -> list[Network]:
        """The network for moves, as far as this host has one."""
        facts = self._facts()
        own = facts.slots.get(facts.me.slot) if facts is not None else None
        if own is None or own.no_vms:
            return []
        address = migration_address(own)
        return [Network(MOVES, mtu=one.mtu) for one in links.values() if address in one.addresses]

    def addresses(self) -> dict[str, str]:
        """Where VMs arrive on each other host."""
        facts = self._facts()
        if facts is None:
            return {}
        others = (r for r in facts.slots.values() if self._asked(r) and r.slot != facts.me.slot)
        return {record.host: migration_address(record) for record in others}

    def _asked(self, record: SlotRecord) -> bool:
        return record.active and not record.no_vms and bool(migration_address(record))
