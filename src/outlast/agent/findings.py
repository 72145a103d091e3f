"""What this host measures of itself: loads, who answers and lives, networks and disks it lacks.

Rules:
1. In a thread of its own, which may hang with what it asks: then what it found last stands.
2. It only measures. The core publishes what it found (pool/reporting.py).
3. A question that cannot be asked finds nothing: not knowing never looks like "it lacks that".
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from outlast.agent import loads
from outlast.agent.answering import Answering
from outlast.agent.disk_reach import DiskReach
from outlast.agent.life_signs import LifeSigns
from outlast.agent.network_keeper import LinkPort
from outlast.errors import OutlastError
from outlast.hypervisor.guests import Guests
from outlast.network.plan import Link
from outlast.pool.facts import Facts
from outlast.pool.reporting import Found
from outlast.report import Lack
from outlast.settings import S

log = logging.getLogger("outlast.agent.findings")

LOOK_S = 2.0  # for VMs that do not answer yet
LOADS_S = 5.0
NETWORK, BRIDGE = "network", "bridge"


class Findings:
    def __init__(self, guests: Guests, links: LinkPort, pool_dir: Path) -> None:
        self._links = links
        self._loads = loads.Loads()
        self._answering = Answering(guests)
        self._life = LifeSigns(guests)
        self._disks = DiskReach(pool_dir)
        self._lacks: tuple[Lack, ...] = ()
        self._loads_at_s = 0.0
        self._ended = threading.Event()
        self._found = Found()

    def start(
        self, look: Callable[[], Facts | None], troubles: Callable[[], Mapping[str, str]]
    ) -> None:
        """look: what the agent knows. troubles: what is wrong with the pool's networks here."""

        def run() -> None:
            while not self._ended.wait(LOOK_S):
                facts = look()
                if facts is not None:
                    self.step(time.clock_gettime_ns(time.CLOCK_BOOTTIME), facts, troubles())

        threading.Thread(target=run, name="findings", daemon=True).start()
        self._life.start(look)

    @property
    def found(self) -> Found:
        """The newest of everything."""
        return replace(self._found, signs=self._life.signs)

    def close(self) -> None:
        self._ended.set()
        self._life.close()
        self._answering.close()

    def step(self, now_ns: int, facts: Facts, troubles: Mapping[str, str]) -> None:
        """Look once."""
        now_s = now_ns / S
        self._answering.look(now_ns, facts)
        if now_s - self._loads_at_s >= LOADS_S:
            self._loads_at_s = now_s
            self._loads.hear(now_s, loads.read(), facts.local)
            self._lacks = self._look_for(now_s, facts, troubles)
        self._found = Found(
            self._loads.busy_mcores, self._loads.used_mib, self._loads.vms,
            self._answering.answered, self._lacks,
        )  # fmt: skip

    def _look_for(
        self, now_s: float, facts: Facts, troubles: Mapping[str, str]
    ) -> tuple[Lack, ...]:
        specs = [held.value.spec for held in facts.vms.values() if not held.value.deleted]
        disks = self._disks.look(now_s, (disk.path for spec in specs for disk in spec.disks))
        wanted = {name for spec in specs for name in spec.networks}
        try:
            standing = self._links.read() if wanted else {}
        except OutlastError as trouble:
            log.info("which networks stand here is not known: %s", trouble.sentence)
            return disks
        found = {name: troubles.get(name) or _wrong(standing.get(name)) for name in sorted(wanted)}
        return (*(Lack(NETWORK, name, why) for name, why in found.items() if why), *disks)


def _wrong(link: Link | None) -> str:
    """What keeps a VM from being plugged in there."""
    if link is None or link.kind != BRIDGE:
        return "there is no such bridge"
    return "" if link.up else "it is down"
