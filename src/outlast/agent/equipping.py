"""Networks, storage repositories, loose disks: what the pool has, how it stands here, wishes.

Rules:
1. What is said of a host is said by that host: other hosts are not asked here, and not judged.
2. A wish is a record on the pool's storage. Each host carries it out by itself (the keepers).
3. Only storage that answers is asked for its size; that must not take long either.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from outlast.agent.images import IMAGES
from outlast.agent.patience import in_time
from outlast.agent.service import Service
from outlast.equipment import OWN_STORAGE, Network, Repository
from outlast.errors import OutlastError
from outlast.images import orphans
from outlast.images.templates import owners_in
from outlast.model import VmSpec
from outlast.mounts import registry as stores
from outlast.network import registry as nets
from outlast.network.plan import uplink_on
from outlast.pool.facts import Answering
from outlast.storage.access import is_shared
from outlast.storage.beneath import mount_of
from outlast.wire.equipment import (
    NetworkChange,
    NetworkInfo,
    NetworkStanding,
    NetworkWish,
    OrphanInfo,
    StorageInfo,
    StorageStanding,
    StorageWish,
)
from outlast.wire.shapes import PoolWish

T = TypeVar("T")


class Equipping:
    """Methods block; for worker threads."""

    def __init__(self, service: Service) -> None:
        self._service = service

    # ---- networks

    def networks(self) -> list[NetworkInfo]:
        """By name. Raises StorageTrouble."""
        found = self._service.agreed(nets.networks)
        specs = self._specs()
        return [self._network(network, specs) for network in found]

    def create_network(self, wish: NetworkWish) -> PoolWish:
        """Raises InvalidInput, Conflict, StorageTrouble."""
        made = Network(wish.name, wish.uplink, tuple(wish.uplinks_of), wish.vlan, wish.mtu)
        self._service.agreed(lambda register: nets.create(register, made))
        return _done(f"every host makes the network {wish.name}")

    def change_network(self, name: str, change: NetworkChange) -> PoolWish:
        """Raises NotFound, InvalidInput, Conflict, StorageTrouble."""
        told = change.model_dump(exclude_none=True)
        if "uplinks_of" in told:
            told["uplinks_of"] = tuple(told["uplinks_of"])
        changed = self._service.agreed(lambda r: nets.change(r, name, lambda n: replace(n, **told)))
        sentence = f"every host changes the network {name}" if changed else f"{name} is so already"
        return PoolWish(changed=changed, sentence=sentence)

    def remove_network(self, name: str) -> PoolWish:
        """Raises NotFound, Conflict, StorageTrouble."""
        self._service.agreed(lambda register: nets.remove(register, name))
        return _done(f"{name} is removed from each host as soon as no VM uses it there")

    def _network(self, network: Network, specs: Iterable[VmSpec]) -> NetworkInfo:
        host = self._service.picture.me.host
        here = self._service.networks_here.get(network.name)
        standing = NetworkStanding(host=host, uplink=uplink_on(network, host))
        if here is not None:
            told = {"there": not here.trouble, "sentence": here.trouble, "deaf": list(here.deaf)}
            standing = standing.model_copy(update=told)
        return NetworkInfo(
            name=network.name, uplink=network.uplink, uplinks_of=list(network.uplinks_of),
            vlan=network.vlan, mtu=network.mtu, hosts=[standing],
            vms=sorted(spec.name for spec in specs if network.name in spec.networks),
        )  # fmt: skip

    # ---- storage

    def storage(self) -> list[StorageInfo]:
        """The pool's own first, then by name. Raises StorageTrouble."""
        specs, facts = self._specs(), self._service.picture.facts
        known = facts.repositories if facts is not None else {}
        return [
            self._own(specs),
            *(
                self._store(one, known.get(one.name), specs)
                for one in self._service.agreed(stores.repositories)
            ),
        ]

    def add_storage(self, wish: StorageWish) -> PoolWish:
        """Raises InvalidInput, Conflict, StorageTrouble."""
        wished = Repository(wish.name, wish.kind, wish.source, wish.path, tuple(wish.options))
        place = Path(self._service.pool_dir)
        made = self._service.agreed(lambda register: stores.add(register, wished, place))
        return _done(f"every host has {made.name} at {made.path} in a moment")

    def remove_storage(self, name: str) -> PoolWish:
        """Raises NotFound, Conflict, StorageTrouble."""
        self._service.agreed(lambda register: stores.remove(register, name))
        return _done(f"{name} is unmounted on each host as soon as nothing uses it there")

    # ---- disks that no VM names

    def orphans(self) -> list[OrphanInfo]:
        """In the storage that answers here, the largest first. Raises StorageTrouble."""
        found = in_time(lambda: orphans.found(self._folders(), self._owners, time.time()))
        return [OrphanInfo(**asdict(one) | {"path": str(one.path)}) for one in found]

    def remove_orphan(self, name: str) -> PoolWish:
        """Raises NotFound, Conflict when something uses it, StorageTrouble."""
        gone = orphans.remove(self._folders(), self._owners, name, time.time())
        return _done(f"{gone.path} is deleted")

    def _folders(self) -> dict[str, Path]:
        place, facts = Path(self._service.pool_dir), self._service.picture.facts
        answers = {n for n, s in facts.repositories.items() if not s.trouble} if facts else set()
        stores_ = [s for s in self._service.agreed(stores.repositories) if s.name in answers]
        own = {"": place / IMAGES} if is_shared(place) else {}
        return own | {one.name: Path(one.path) for one in stores_}

    def _owners(self) -> dict[Path, str]:
        return self._service.agreed(owners_in)

    # ---- parts

    def _own(self, specs: Iterable[VmSpec]) -> StorageInfo:
        """What the pool lives on: who answers here at all has it."""
        place = Path(self._service.pool_dir)
        kind, source = ("etcd", "") if not is_shared(place) else (mount_of(place)[0], "")
        inside = [
            spec.name for spec in specs
            if any(not d.repository and Path(d.path).is_relative_to(place) for d in spec.disks)
        ]  # fmt: skip
        return StorageInfo(
            name=OWN_STORAGE, kind=kind, source=source, path=str(place), own=True,
            vms=sorted(inside), hosts=[self._standing(place, Answering(1, ""))],
        )  # fmt: skip

    def _store(
        self, one: Repository, state: Answering | None, specs: Iterable[VmSpec]
    ) -> StorageInfo:
        using = [s.name for s in specs if any(d.repository == one.name for d in s.disks)]
        told = asdict(one) | {"options": list(one.options), "vms": sorted(using)}
        return StorageInfo(**told, hosts=[self._standing(Path(one.path), state)])

    def _standing(self, place: Path, state: Answering | None) -> StorageStanding:
        host = self._service.picture.me.host
        if state is None:
            return StorageStanding(host=host)
        if state.trouble:
            return StorageStanding(host=host, there=False, sentence=state.trouble)
        size, free = _room(place)
        return StorageStanding(host=host, there=True, size_bytes=size, free_bytes=free)

    def _specs(self) -> list[VmSpec]:
        facts = self._service.picture.facts
        held = facts.vms.values() if facts is not None else ()
        return [one.value.spec for one in held if not one.value.deleted]


def _room(place: Path) -> tuple[int | None, int | None]:
    """How large a file system is and what is free there; None when it does not say."""
    ask: Callable[[], tuple[int, int]] = lambda: shutil.disk_usage(place)[::2]  # noqa: E731
    try:
        return in_time(ask)
    except (OutlastError, OSError):
        return None, None


def _done(sentence: str) -> PoolWish:
    return PoolWish(changed=True, sentence=sentence)
