"""The ways between hosts that are not made here: heartbeats, management, moves. Who is where?

They are asked by ping with packets of full size (network_reach.py), as the networks for VMs are
called on: each by a name that no network of the pool can have, made of what goes over it. Rules:

1. A way is an address of another member. It is asked once, whatever goes over it, and its name
   says all of that: `for heartbeats, management and moves`.
2. The size is the MTU of this host's own link for it, the smallest if there are several. What this
   host has no link for is not asked.
3. Where no heartbeats come although they should, over this way or of this host at all, that is told
   already (beat_paths.py, or by the pool), and is no matter of sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from outlast.agent.beat_paths import PATH_LOST_LINKS, heard_ns_ago
from outlast.equipment import Network
from outlast.model import SlotRecord
from outlast.network.plan import Link
from outlast.network.roles import BEATS, beats_role, roles
from outlast.pool.facts import Facts
from outlast.settings import PoolSettings
from outlast.words import listed


class HostPaths:
    """seen: facts and settings, None while there are none. snapshot: the pulse's newest word."""

    def __init__(
        self, seen: Callable[[], tuple[Facts, PoolSettings] | None],
        snapshot: Callable[[], Mapping[str, Any] | None],
    ) -> None:  # fmt: skip
        self._seen, self._snapshot = seen, snapshot
        self._ways: dict[Network, dict[str, tuple[str, bool]]] = {}  # hosts: address, beats come

    def networks(self, links: Mapping[str, Link]) -> list[Network]:
        """The ways from this host, as things stand now."""
        self._ways = {}
        seen, snapshot = self._seen(), self._snapshot()
        if seen is not None and snapshot is not None:
            mtus = {address: one.mtu for one in links.values() for address in one.addresses}
            self._find(*seen, snapshot, mtus)
        return list(self._ways)

    def addresses(self, network: Network) -> Mapping[str, str]:
        """Where other hosts are on a way; none for a network of the pool."""
        return {host: address for host, (address, _) in self._ways.get(network, {}).items()}

    def to_be_heard(self, network: Network) -> dict[str, bool]:
        """As network_reach.to_be_heard says, for a way; rule 3."""
        return {host: beats for host, (_, beats) in self._ways.get(network, {}).items()}

    def _find(
        self, facts: Facts, settings: PoolSettings, snapshot: Mapping[str, Any],
        mtus: Mapping[str, int],
    ) -> None:  # fmt: skip
        """mtus: of links, by this host's own addresses."""
        own, members = facts.slots.get(facts.me.slot), facts.view.slots if facts.view else ()
        sizes = {role: mtus[a] for role, a in roles(own).items() if a in mtus} if own else {}
        limit_ns = PATH_LOST_LINKS * settings.timing.link_lost_ns
        for slot in sorted(set(members) & set(facts.slots) - {facts.me.slot}):
            other, heard = facts.slots[slot], heard_ns_ago(snapshot, slot)
            near = {beats_role(n) for n, ago_ns in heard.items() if ago_ns <= limit_ns}
            for address, names in _shared(other, sizes).items():
                beats = bool(near) and all(n in near for n in names if n.startswith(BEATS))
                size = min(sizes[role] for role in names)
                way = Network(f"for {listed(names, len(names))}", mtu=size)
                self._ways.setdefault(way, {})[other.host] = address, beats


def _shared(other: SlotRecord, known: Collection[str]) -> dict[str, list[str]]:
    """Each address of a host with those of these roles that it has."""
    found: dict[str, list[str]] = {}
    for role, address in roles(other).items():
        if role in known:
            found.setdefault(address, []).append(role)
    return found
