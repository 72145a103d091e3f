"""What an agent looks after beside its ticks, each in a thread of its own: slow, and never urgent.

    balancer    evens the pool out, where its settings say so
    fencer      switches hosts off that fell silent and have a power switch
    power       asks the other hosts' power switches whether they still answer
    backups     makes those that are due
    disks       settles moves of disks that were broken off
    storage     has the pool's storage repositories mounted, and asks whether they answer
    settling    lets the guard know which of those have behind them what VMs here wrote
    drills      carries out, judges and makes appointments for fire drills
    health      says to all hosts what is not as it should be on this one
    networks    has the bridges the pool wants, and looks whether others are reached there
    findings    measures this host for placement: loads, VMs that answer, what is missing
    witness     asks whether the pool's witness, such as its gateway, answers
    paths       tells when one of several heartbeat networks carries no beats

Rules: each may hang without anybody waiting for it. Only the fencer and drills touch a host;
their files have the rules for that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from outlast import __version__
from outlast.agent.api import Api
from outlast.agent.backup_timer import BackupTimer
from outlast.agent.balancer import Balancer
from outlast.agent.beat_paths import BeatPaths
from outlast.agent.copy_brake import LOOK_S as BRAKE_S
from outlast.agent.copy_brake import CopyBrake
from outlast.agent.disk_moves import DiskMoves
from outlast.agent.drilling import Drills, Means
from outlast.agent.fencer import Fencer
from outlast.agent.findings import Findings
from outlast.agent.health import Health
from outlast.agent.host_paths import HostPaths
from outlast.agent.network_keeper import LinkPort, NetworkKeeper
from outlast.agent.network_reach import Calls, NetworkReach, to_be_heard
from outlast.agent.power_watch import PowerWatch
from outlast.agent.record_watch import RecordWatch
from outlast.agent.registers import Registers
from outlast.agent.repository_keeper import MountPort, RepositoryKeeper
from outlast.agent.service import NetworkHere, Service
from outlast.agent.settling import LOOK_S, Settling
from outlast.agent.snapshots import Snapshots
from outlast.agent.wishes import Wishes
from outlast.agent.witness import Witness
from outlast.equipment import Network, PowerSwitch
from outlast.mounts.registry import repositories
from outlast.network.echo import Echo, Pings
from outlast.network.frames import Frames
from outlast.network.registry import networks
from outlast.pool.facts import Answering, Facts, Me
from outlast.pool.journal import Note
from outlast.power.port import PowerFence, SwitchSaid
from outlast.power.switches import record_of
from outlast.settings import PoolSettings, Timing
from outlast.storage.health import HostHealth
from outlast.storage.register import Register

SETTLE_S, TIMER_S = 2.0, 30.0


class _Regularly:
    """Does something again and again, with a pause."""

    def __init__(self, name: str, look: Callable[[], None], pause_s: float) -> None:
        self._look, self._pause_s, self._stop = look, pause_s, threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            self._look()


class Keeper(Protocol):
    def start(self) -> None: ...

    def close(self) -> None: ...


class Keepers:
    """`service`: the engine they belong to."""

    def __init__(
        self, me: Me, settings: PoolSettings, register: Register, service: Service,
        power: PowerFence, links: LinkPort, mounts: MountPort, now_ns: Callable[[], int],
        tell: Callable[[Note], None], findings: Findings, registers: Registers, means: Means,
        endings: Callable[[], Mapping[str, str]], snapshot: Callable[[], Mapping[str, Any] | None],
        unwritten: Callable[[], Mapping[str, str]], keep_margin: Callable[[], None],
    ) -> None:  # fmt: skip
        """snapshot: the pulse's newest word. unwritten: of the journal and recording, and why."""
        self._service, self._findings = service, findings

        def switch(slot: int) -> PowerSwitch | None:
            return record_of(register, slot)

        def timing() -> Timing:
            return service.picture.settings.timing

        self._balancer = Balancer(self._seen, Wishes(service).migrate, tell)
        self._power = PowerWatch(
            me.slot, lambda: facts.slots if (facts := service.picture.facts) else {},
            switch, power, tell,
        )  # fmt: skip
        self._fencer = Fencer(service, switch, power, tell)
        ways = HostPaths(self._seen, snapshot)

        def calls(network: Network) -> Calls:
            if ways.addresses(network):
                return Pings(lambda: ways.addresses(network), network.mtu)
            return Frames(network.name, network.mtu, settings.uuid, me.host)

        reach = NetworkReach(
            me.host, calls, lambda n: ways.to_be_heard(n) or self._others(), tell, time.monotonic
        )
        self.drills = Drills(
            Api(service), lambda: service.picture, lambda: registers.known.drill,
            lambda expected, drill: registers.swap("drill", expected, drill), means, tell,
        )  # fmt: skip
        self._health = Health(
            service, lambda: registers.known.health,
            lambda expected, own: registers.swap(f"health/{own.slot}", expected, own),
            lambda: means.guard().status(), endings, unwritten,
        )  # fmt: skip
        self._networks = NetworkKeeper(
            me.host, lambda: networks(register), links, tell, reach, ways.networks
        )
        self._storage = RepositoryKeeper(
            me.host, lambda: repositories(register), mounts, tell, now_ns,
            settings.timing.settle_ns,
        )  # fmt: skip
        self._witness = Witness(self._seen, Echo, now_ns, tell)
        moves = DiskMoves(service, Wishes(service))
        snapshots = Snapshots(service, Wishes(service))
        self._all: tuple[Keeper, ...] = (
            self._balancer, self._fencer, self._power, self._networks, self._storage, self.drills,
            self._health, self._witness, BeatPaths(self._seen, snapshot, tell),
            _Regularly(
                "settling", Settling(snapshot, means.guard, self._storage.since_ns).look, LOOK_S
            ),
            _Regularly("copies", CopyBrake(snapshot, now_ns, timing).look, BRAKE_S),
            _Regularly("records", RecordWatch(me.host, unwritten, tell, now_ns).look, SETTLE_S),
            _Regularly("margin", keep_margin, SETTLE_S),
            _Regularly("disks", moves.look, SETTLE_S),
            _Regularly("snapshots", snapshots.look, SETTLE_S),
            _Regularly("backups", BackupTimer(service, register, tell).look, TIMER_S),
        )  # fmt: skip

    @property
    def switches(self) -> Mapping[int, SwitchSaid]:
        """What the power switches of other hosts said last, by slot."""
        return self._power.known

    @property
    def repositories(self) -> Mapping[str, Answering]:
        """The pool's storage repositories as this host has them. Never blocks."""
        return self._storage.known

    @property
    def networks(self) -> Mapping[str, NetworkHere]:
        """The pool's networks as this host has them. Never blocks."""
        return self._networks.here

    @property
    def witness(self) -> bool | None:
        """Does this host reach the pool's witness? None: there is none, or that is not known."""
        return self._witness.known

    @property
    def health(self) -> Mapping[int, HostHealth]:
        """What each host says of its own readiness, by slot."""
        return self._health.known

    def start(self) -> None:
        for one in self._all:
            one.start()
        self._findings.start(lambda: self._service.picture.facts, lambda: self._networks.troubles)

    def close(self) -> None:
        self._findings.close()
        for one in self._all:
            one.close()

    def _seen(self) -> tuple[Facts, PoolSettings] | None:
        picture = self._service.picture
        return (picture.facts, picture.settings) if picture.facts is not None else None

    def _others(self) -> dict[str, bool]:
        picture = self._service.picture
        return to_be_heard(picture.facts, picture.settings.timing, __version__)
