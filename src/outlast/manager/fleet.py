"""What is known of all pools: the newest answer of each, compared with the one before.

Promises:
1. Reading never waits. What is handed out never changes afterwards.
2. A pool that has not answered for STALE_S is stale and says since when; its last answer stays.
3. Each VM, host and pool has a version; it grows when something that is shown has changed, and the
   hub is told. Ages of beats and who happened to answer are no such change.
4. An answer that is older than the one that is known (by when it was asked for) changes nothing.

It asks nobody: followers bring the answers (follower.py).
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from outlast.errors import NotFound
from outlast.manager.hub import Hub
from outlast.manager.listing import Listing, row_of
from outlast.manager.ports import Change, PoolEntry, VmItem, VmPage, VmQuery
from outlast.manager.troubles import Troubles
from outlast.wire.difference import same_vm
from outlast.wire.shapes import HostStatus, PoolStatus, VmStatus

log = logging.getLogger("outlast.manager.fleet")

STALE_S = 10.0
# fields of a host that change without anything having happened
TREMBLING = ("beat_age_ms", "agent_away_ms", "deadline_ms", "answering", "guard")
TREMBLING_POOL = ("age_ms", "answered_by", "hosts", "vms", "refused_calls", "mark")


@dataclass(slots=True)
class _Pool:
    id: str
    name: str
    status: PoolStatus
    trouble: str
    asked_s: float = 0.0  # when the newest answer was asked for; the loop's clock
    answered_s: float = 0.0  # the same clock
    seen_wall_s: float = 0.0
    stale: bool = True
    version: int = 0
    vms: dict[str, VmItem] = field(default_factory=dict)
    uuids: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, HostStatus] = field(default_factory=dict)
    entry: PoolEntry | None = None


class Fleet:
    """The read model, on one event loop. `why` and `timeline` are next door (asking.py)."""

    def __init__(
        self, hub: Hub | None = None, *, stale_s: float = STALE_S,
        clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.hub = hub or Hub()
        self._stale_s, self._clock, self._wall = stale_s, clock, wall
        self._troubles = Troubles(log)
        self._pools: dict[str, _Pool] = {}
        self._listing = Listing()
        self._versions = itertools.count(1)
        self.answers = 0  # of agents, since the start

    # ---- what followers bring

    def add(self, pool_id: str, name: str) -> None:
        """A pool that shall be followed; nothing is known of it yet."""
        if pool_id in self._pools:
            return
        status = PoolStatus(
            name=name, uuid=pool_id, preset="", answered_by="",
            sentence="nothing is known of this pool yet",
        )  # fmt: skip
        self._pools[pool_id] = _Pool(pool_id, name, status, "it has not answered yet")
        self._touch(self._pools[pool_id])

    def remove(self, pool_id: str) -> None:
        pool = self._pools.pop(pool_id, None)
        if pool is not None:
            for name in pool.vms:
                self._listing.remove(pool_id, name)
            self.hub.publish("pool", pool_id)

    def heard(self, status: PoolStatus, asked_s: float, trouble: str = "") -> None:
        """An answer of an agent that was asked at `asked_s` (the fleet's clock).

        trouble: why the answer is not to be trusted as the present, "" if it is.
        """
        pool = self._pools.get(status.uuid)
        if pool is None or asked_s < pool.asked_s:
            return
        self.answers += 1
        pool.asked_s, pool.answered_s, pool.seen_wall_s = asked_s, self._clock(), self._wall()
        before = (pool.name, pool.stale, pool.trouble, pool.status)
        pool.name, pool.stale, pool.trouble = status.name, bool(trouble), trouble
        self._say(pool)
        pool_ha = status.ha_off is None
        anew = status.name != before[0] or pool_ha != (before[3].ha_off is None)
        vms = self._compare_vms(pool, status.vms, pool_ha, anew)
        self._compare_hosts(pool, status.hosts)
        pool.status = status.model_copy(update={"vms": vms})
        after = (pool.name, pool.stale, pool.trouble)
        if before[:3] != after or _steady(before[3]) != _steady(status):
            self._touch(pool)
        pool.entry = None

    def silent(self, pool_id: str, trouble: str) -> None:
        """No agent of a pool answers."""
        pool = self._pools.get(pool_id)
        if pool is not None and pool.trouble != trouble:
            pool.trouble = trouble
            self._touch(pool)

    def age(self) -> None:
        """Find out which pools have become stale; called every second or so."""
        now_s = self._clock()
        for pool in self._pools.values():
            if not pool.stale and now_s - pool.answered_s > self._stale_s:
                pool.stale = True
                pool.trouble = pool.trouble or "it does not answer"
                self._say(pool)
                self._touch(pool)

    def _say(self, pool: _Pool) -> None:
        """In the log, once: somebody has to look after a pool that is stale."""
        if pool.stale:
            self._troubles.tell(f"pool {pool.name}", pool.trouble)
        else:
            self._troubles.over(f"pool {pool.name}")

    # ---- what is read

    def pools(self) -> list[PoolEntry]:
        return sorted(map(self._entry, self._pools.values()), key=lambda e: (e.name, e.id))

    def pool(self, pool_id: str) -> PoolEntry:
        return self._entry(self._known(pool_id))

    def find(self, word: str) -> PoolEntry:
        """By id, or by a name that only one has. Raises NotFound."""
        if word in self._pools:
            return self._entry(self._pools[word])
        named = [pool for pool in self._pools.values() if pool.name == word]
        if len(named) != 1:
            many = f"{len(named)} pools are named" if named else "there is no pool"
            raise NotFound(f"{many} {word[:80]!r}", hint="use its id: see the list of pools")
        return self._entry(named[0])

    def vm(self, pool_id: str, vm: str) -> VmItem:
        pool = self._known(pool_id)
        item = pool.vms.get(vm) or pool.vms.get(pool.uuids.get(vm, ""))
        if item is None:
            hint = "the list is old: the pool does not answer" if pool.stale else "see its VMs"
            raise NotFound(f"there is no VM {vm[:80]!r} in pool {pool.name}", hint=hint)
        return item

    def host(self, pool_id: str, host: str) -> HostStatus:
        pool = self._known(pool_id)
        found = pool.hosts.get(host)
        if found is None:
            raise NotFound(f"there is no host {host[:80]!r} in pool {pool.name}")
        return found

    def vms(self, query: VmQuery) -> VmPage:
        return self._listing.page(query)

    def changes(self, after: int | None = None) -> AsyncIterator[Change]:
        return self.hub.changes(after)

    def asked_s(self, pool_id: str) -> float:
        """When the newest answer was asked for, on the fleet's clock; 0: never."""
        pool = self._pools.get(pool_id)
        return pool.asked_s if pool else 0.0

    def now_s(self) -> float:
        return self._clock()

    # ---- inside

    def _known(self, pool_id: str) -> _Pool:
        pool = self._pools.get(pool_id)
        if pool is None:
            raise NotFound(f"there is no pool {pool_id[:80]!r}", hint="see the list of pools")
        return pool

    def _entry(self, pool: _Pool) -> PoolEntry:
        if pool.entry is None:
            pool.entry = PoolEntry(
                pool.id, pool.name, pool.status, pool.seen_wall_s, pool.stale, pool.trouble,
                pool.version,
            )  # fmt: skip
        return pool.entry

    def _touch(self, pool: _Pool) -> None:
        pool.version, pool.entry = next(self._versions), None
        self.hub.publish("pool", pool.id)

    def _compare_vms(
        self, pool: _Pool, new: list[VmStatus], pool_ha: bool, anew: bool
    ) -> list[VmStatus]:
        """Take over what differs; the list to keep, with old objects where nothing did."""
        before, pool.vms = pool.vms, {}
        kept, changed = [], False
        for vm in new:
            item = before.get(vm.name)
            if item is None or not same_vm(item.vm, vm):
                item = VmItem(pool.id, vm, next(self._versions))
                self.hub.publish("vm", pool.id, vm.name)
                changed = True
            pool.vms[vm.name] = item
            kept.append(item.vm)
            if anew or before.get(vm.name) is not item:
                self._listing.put(row_of(item, pool.name, pool_ha))
        for name in before.keys() - pool.vms.keys():
            self._listing.remove(pool.id, name)
            self.hub.publish("vm", pool.id, name)
            changed = True
        if changed:
            pool.version = next(self._versions)
            pool.uuids = {item.vm.uuid: name for name, item in pool.vms.items()}
        return kept

    def _compare_hosts(self, pool: _Pool, new: list[HostStatus]) -> None:
        before, pool.hosts = pool.hosts, {host.name: host for host in new}
        for name in before.keys() | pool.hosts.keys():
            old, now = before.get(name), pool.hosts.get(name)
            if old is None or now is None or _steady_host(old) != _steady_host(now):
                pool.version = next(self._versions)
                self.hub.publish("host", pool.id, name)


def _steady(status: PoolStatus) -> dict[str, object]:
    return {k: v for k, v in status.__dict__.items() if k not in TREMBLING_POOL}


def _steady_host(host: HostStatus) -> dict[str, object]:
    steady = {k: v for k, v in host.__dict__.items() if k not in TREMBLING}
    steady["agent_away"] = host.agent_away_ms > 0
    return steady
