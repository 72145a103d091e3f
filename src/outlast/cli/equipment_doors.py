"""Two doors to a pool's networks and storage: its directory, and an agent afar or a manager.

Rules:
1. On a host the directory is the way: it works while no agent runs. `--agent` and a manager are for
   who is on no host; a directory that is said goes before them.
2. Both doors take and give the same; how things stand is told by the host at whose door one is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from outlast.cli.context import Options

if TYPE_CHECKING:
    from outlast.equipment import Network, Repository
    from outlast.storage.register import Register
    from outlast.wire.equipment import EquipmentClient


class NetworkDoor(Protocol):
    def all(self) -> tuple[str, list[tuple[Network, str]]]:
        """The host at this door ("" = none), and each network with how it stands there."""

    def create(self, network: Network) -> None: ...

    def change(self, name: str, told: dict[str, Any]) -> bool:
        """False: it is so already."""

    def remove(self, name: str) -> None: ...


class StorageDoor(Protocol):
    def all(self) -> list[tuple[Repository, str]]:
        """Each with what is wrong with it there, "" = nothing."""

    def add(self, wished: Repository) -> Repository: ...

    def remove(self, name: str) -> None: ...


def networks(chosen: Options, pool: Path | None) -> NetworkDoor:
    """Raises InvalidInput, NotFound when this machine is no host."""
    return (
        _NetworksAfar(_client(chosen))
        if chosen.afar and not pool
        else _NetworksHere(_opened(pool)[0])
    )


def storage(chosen: Options, pool: Path | None) -> StorageDoor:
    """Raises InvalidInput, NotFound when this machine is no host."""
    return (
        _StorageAfar(_client(chosen)) if chosen.afar and not pool else _StorageHere(*_opened(pool))
    )


def _client(chosen: Options) -> EquipmentClient:
    from outlast.wire.equipment import EquipmentClient

    return EquipmentClient(chosen.client())


def _opened(pool: Path | None) -> tuple[Register, Path]:
    from outlast.cli import this_host

    opened, register = this_host.opened(pool, this_host.places())
    return register, opened.root


class _NetworksHere:
    def __init__(self, register: Register) -> None:
        self._register = register

    def all(self) -> tuple[str, list[tuple[Network, str]]]:
        from outlast.cli import this_host
        from outlast.errors import NotFound, OutlastError
        from outlast.network import plan, registry
        from outlast.network.links import Links

        found = registry.networks(self._register)
        try:
            host = str(this_host.known(this_host.places()).get("host", ""))
        except NotFound:
            host = ""
        if not host:
            return "", [(network, "") for network in found]
        try:
            links, trouble = Links().read(), ""
        except OutlastError as error:
            links, trouble = {}, error.sentence
        rows = []
        for network in found:
            todo = plan.wanted(network, host, links)
            stands = trouble or todo.trouble or ("being made" if todo.steps else "there")
            rows.append((network, stands))
        return host, rows

    def create(self, network: Network) -> None:
        from outlast.network import registry

        registry.create(self._register, network)

    def change(self, name: str, told: dict[str, Any]) -> bool:
        from dataclasses import replace

        from outlast.network import registry

        return registry.change(self._register, name, lambda old: replace(old, **told))

    def remove(self, name: str) -> None:
        from outlast.network import registry

        registry.remove(self._register, name)


class _NetworksAfar:
    def __init__(self, client: EquipmentClient) -> None:
        self._client = client

    def all(self) -> tuple[str, list[tuple[Network, str]]]:
        from outlast.equipment import Network

        rows, host = [], ""
        for one in self._client.networks():
            network = Network(one.name, one.uplink, tuple(one.uplinks_of), one.vlan, one.mtu)
            stands = ""
            for standing in one.hosts[:1]:
                host = standing.host
                stands = "there" if standing.there else standing.sentence or "being made"
            rows.append((network, stands))
        return host, rows

    def create(self, network: Network) -> None:
        from outlast.wire.equipment import NetworkWish
        from outlast.wire.shapes import make

        self._client.create_network(
            make(NetworkWish, name=network.name, uplink=network.uplink,
                 uplinks_of=list(network.uplinks_of), vlan=network.vlan, mtu=network.mtu)
        )  # fmt: skip

    def change(self, name: str, told: dict[str, Any]) -> bool:
        from outlast.wire.equipment import NetworkChange
        from outlast.wire.shapes import make

        plain = {key: list(v) if isinstance(v, tuple) else v for key, v in told.items()}
        return self._client.change_network(name, make(NetworkChange, **plain)).changed

    def remove(self, name: str) -> None:
        self._client.remove_network(name)


class _StorageHere:
    def __init__(self, register: Register, root: Path) -> None:
        self._register, self._root = register, root

    def all(self) -> list[tuple[Repository, str]]:
        from outlast.cli.storage_facts import repositories

        return repositories(self._register)

    def add(self, wished: Repository) -> Repository:
        from outlast.mounts import registry

        return registry.add(self._register, wished, self._root)

    def remove(self, name: str) -> None:
        from outlast.mounts import registry

        registry.remove(self._register, name)


class _StorageAfar:
    def __init__(self, client: EquipmentClient) -> None:
        self._client = client

    def all(self) -> list[tuple[Repository, str]]:
        from outlast.equipment import Repository

        rows = []
        for one in self._client.storage():
            if one.own:
                continue
            made = Repository(one.name, one.kind, one.source, one.path, tuple(one.options))
            trouble = next((s.sentence or "not there" for s in one.hosts[:1] if not s.there), "")
            rows.append((made, trouble))
        return rows

    def add(self, wished: Repository) -> Repository:
        from outlast.mounts import registry
        from outlast.wire.equipment import StorageWish
        from outlast.wire.shapes import make

        checked = registry.check(wished)
        self._client.add_storage(
            make(StorageWish, name=checked.name, kind=checked.kind, source=checked.source,
                 path=checked.path, options=list(checked.options))
        )  # fmt: skip
        return checked

    def remove(self, name: str) -> None:
        self._client.remove_storage(name)
