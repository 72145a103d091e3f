"""This host has the pool's networks: looked at regularly, made when missing, removed when unwanted.

Rules:
1. In a thread of its own: a storage or an `ip` that hangs keeps the agent from its work no longer.
2. What cannot be done is a note, once for each new reason; so is its end.
3. When the wishes cannot be read nothing is changed: not knowing never looks like "no networks".
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from outlast.agent.network_reach import NetworkReach
from outlast.agent.service import NetworkHere
from outlast.equipment import Network
from outlast.errors import OutlastError
from outlast.network.plan import Link, unwanted, uplink_on, wanted
from outlast.pool.journal import Note, note

LOOK_S = 10.0


class LinkPort(Protocol):
    def read(self) -> Mapping[str, Link]: ...
    def carry_out(self, steps: Sequence[tuple[str, ...]]) -> None: ...


class NetworkKeeper:
    """wishes: the pool's networks; may raise OutlastError."""

    def __init__(
        self, host: str, wishes: Callable[[], list[Network]], links: LinkPort,
        tell: Callable[[Note], None], reach: NetworkReach | None = None,
        besides: Callable[[Mapping[str, Link]], list[Network]] = lambda _links: [],
    ) -> None:  # fmt: skip
        """reach: is told at every look which networks stand here and leave this host; besides:
        further ones that are not made here."""
        self._reach, self._besides = reach, besides
        self._host, self._wishes, self._links, self._tell = host, wishes, links, tell
        self._troubles: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="networks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    @property
    def troubles(self) -> Mapping[str, str]:
        """What is wrong with each network here; "" = nothing."""
        return dict(self._troubles)

    @property
    def here(self) -> Mapping[str, NetworkHere]:
        """Every network that was looked at."""
        deaf = self._reach.deaf if self._reach is not None else {}
        troubles = self.troubles
        return {name: NetworkHere(why, deaf.get(name, ())) for name, why in troubles.items()}

    def look(self) -> None:
        """Make this host as it shall be, as far as that can be done."""
        try:
            wishes = self._wishes()
        except OutlastError:
            return
        for network in wishes:
            self._say(network.name, self._make(network))
        if self._reach is not None:
            standing = [
                network for network in wishes
                if uplink_on(network, self._host) and not self._troubles[network.name]
            ]  # fmt: skip
            with contextlib.suppress(OutlastError):
                standing += self._besides(self._links.read())
            self._reach.step(standing)
        names = frozenset(network.name for network in wishes)
        for gone in set(self._troubles) - names:
            del self._troubles[gone]
        try:
            self._links.carry_out(unwanted(names, self._links.read()).steps)
        except OutlastError:
            return  # tried again at the next look

    def _make(self, network: Network) -> str:
        """What is wrong with it here; "" when nothing is."""
        try:
            plan = wanted(network, self._host, self._links.read())
            self._links.carry_out(plan.steps)
        except OutlastError as trouble:
            return trouble.sentence
        return plan.trouble

    def _say(self, network: str, trouble: str) -> None:
        before = self._troubles.get(network, "")
        self._troubles[network] = trouble
        if trouble and trouble != before:
            self._tell(note("network-lacks", host=self._host, network=network, why=trouble))
        elif before and not trouble:
            self._tell(note("network-there", host=self._host, network=network))

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(LOOK_S)
