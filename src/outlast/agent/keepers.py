"""What an agent looks after beside its ticks, each in a thread of its own: slow, and never urgent.

    balancer    evens the pool out, where its settings say so
    fencer      switches hosts off that fell silent and have a power switch
    power       asks the other hosts' power switches whether they still answer
    networks    has the bridges the pool wants, and looks whether others are reached there
    paths       tells when one of several heartbeat networks carries no beats

Rules: each may hang without anybody waiting for it. Only the fencer touches a host; its file has
the rules for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from outlast import __version__
from outlast.agent.balancer import Balancer
from outlast.agent.beat_paths import BeatPaths
from outlast.agent.fencer import Fencer
from outlast.agent.network_keeper import LinkPort, NetworkKeeper
from outlast.agent.network_reach import NetworkReach
from outlast.agent.power_watch import PowerWatch
from outlast.agent.service import Service
from outlast.agent.wishes import Wishes
from outlast.model import PowerSwitch
from outlast.network.frames import Frames
from outlast.network.registry import networks
from outlast.pool.facts import Facts, Me
from outlast.pool.journal import Note
from outlast.power.port import PowerFence, SwitchSaid
from outlast.power.switches import record_of
from outlast.settings import PoolSettings
from outlast.storage.register import Register


class Keepers:
    """`service`: the engine they belong to."""

    def __init__(
        self, me: Me, settings: PoolSettings, register: Register, service: Service,
        power: PowerFence, links: LinkPort, tell: Callable[[Note], None],
        snapshot: Callable[[], Mapping[str, Any] | None],
    ) -> None:  # fmt: skip
        """snapshot: the pulse's newest word."""
        self._service = service

        def switch(slot: int) -> PowerSwitch | None:
            return record_of(register, slot)

        self._balancer = Balancer(self._seen, Wishes(service).migrate, tell)
        self._power = PowerWatch(
            me.slot, lambda: facts.slots if (facts := service.picture.facts) else {},
            switch, power, tell,
        )  # fmt: skip
        self._fencer = Fencer(service, switch, power, tell)
        reach = NetworkReach(
            me.host, lambda n: Frames(n.name, n.mtu, settings.uuid, me.host), self._others, tell,
            time.monotonic,
        )  # fmt: skip
        self._networks = NetworkKeeper(me.host, lambda: networks(register), links, tell, reach)
        paths = BeatPaths(self._seen, snapshot, tell)
        self._all = (self._balancer, self._fencer, self._power, self._networks, paths)

    @property
    def switches(self) -> Mapping[int, SwitchSaid]:
        """What the power switches of other hosts said last, by slot."""
        return self._power.known

    def start(self) -> None:
        for one in self._all:
            one.start()

    def close(self) -> None:
        for one in self._all:
            one.close()

    def _seen(self) -> tuple[Facts, PoolSettings] | None:
        picture = self._service.picture
        return (picture.facts, picture.settings) if picture.facts is not None else None

    def _others(self) -> list[str]:
        """Members that call on the networks as this version does."""
        facts = self._service.picture.facts
        if facts is None or facts.view is None:
            return []
        members = facts.view.slots - {facts.me.slot}
        known = [facts.slots[n] for n in members if n in facts.slots]
        return [r.host for r in known if r.version == __version__ and not r.no_vms]
