"""What an agent looks after beside its ticks, each in a thread of its own: slow, and never urgent.

    balancer    evens the pool out, where its settings say so
    fencer      switches hosts off that fell silent and have a power switch
    power       asks the other hosts' power switches whether they still answer
    drills      carries out, judges and makes appointments for fire drills
    health      says to all hosts what is not as it should be on this one
    networks    has the bridges the pool wants, and looks whether others are reached there

Rules: each may hang without anybody waiting for it. Only the fencer and drills touch a host;
their files have the rules for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from outlast import __version__
from outlast.agent.api import Api
from outlast.agent.balancer import Balancer
from outlast.agent.drilling import Drills, Means
from outlast.agent.fencer import Fencer
from outlast.agent.health import Health
from outlast.agent.network_keeper import LinkPort, NetworkKeeper
from outlast.agent.network_reach import NetworkReach
from outlast.agent.power_watch import PowerWatch
from outlast.agent.registers import Registers
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
from outlast.storage.health import HostHealth
from outlast.storage.register import Register


class Keeper(Protocol):
    def start(self) -> None: ...

    def close(self) -> None: ...


class Keepers:
    """`service`: the engine they belong to."""

    def __init__(
        self, me: Me, settings: PoolSettings, register: Register, service: Service,
        power: PowerFence, links: LinkPort, tell: Callable[[Note], None], registers: Registers,
        means: Means, ending: Callable[[], str],
    ) -> None:  # fmt: skip
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
        self.drills = Drills(
            Api(service), lambda: service.picture, lambda: registers.known.drill,
            lambda expected, drill: registers.swap("drill", expected, drill), means, tell,
        )  # fmt: skip
        self._health = Health(
            service, lambda: registers.known.health,
            lambda expected, own: registers.swap(f"health/{own.slot}", expected, own),
            lambda: means.guard().status(), ending,
        )  # fmt: skip
        self._networks = NetworkKeeper(me.host, lambda: networks(register), links, tell, reach)

    @property
    def switches(self) -> Mapping[int, SwitchSaid]:
        """What the power switches of other hosts said last, by slot."""
        return self._power.known

    @property
    def health(self) -> Mapping[int, HostHealth]:
        """What each host says of its own readiness, by slot."""
        return self._health.known

    def start(self) -> None:
        for one in self._all():
            one.start()

    def close(self) -> None:
        for one in self._all():
            one.close()

    def _all(self) -> tuple[Keeper, ...]:
        return (
            self._balancer, self._fencer, self._power, self._networks, self.drills, self._health
        )  # fmt: skip

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
