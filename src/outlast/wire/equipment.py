"""Shapes and calls of the agent's API about networks for VMs and storage besides the pool's own.

Every host says how things stand on itself: whoever wants the whole asks all, and joins it.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, Field

from outlast.wire.client import AgentClient
from outlast.wire.shapes import Answer, PoolWish, Request, parse, parse_list

CARD_MAX, HOSTS_MAX = 15, 64


class NetworkWish(Request):
    """A network for VMs: a bridge of this name on every host."""

    name: str
    uplink: str = Field(default="", max_length=CARD_MAX)  # its way to other hosts; "" = it has none
    uplinks_of: list[str] = Field(default=[], max_length=HOSTS_MAX)  # like b=eth1
    vlan: int = Field(default=0, ge=0, le=4094)  # 0 = not tagged
    mtu: int = Field(default=1500, ge=576, le=65521)


class NetworkChange(Request):
    """What is not given stays as it is."""

    uplink: str | None = Field(default=None, max_length=CARD_MAX)
    uplinks_of: list[str] | None = Field(default=None, max_length=HOSTS_MAX)
    vlan: int | None = Field(default=None, ge=0, le=4094)
    mtu: int | None = Field(default=None, ge=576, le=65521)


class Standing(Answer):
    """How something of the pool stands on one host, as that host says."""

    host: str
    there: bool | None = None  # None: not known, the host does not answer or has not looked yet
    sentence: str = ""


class NetworkStanding(Standing):
    uplink: str = ""  # the card it uses there
    deaf: list[str] = Field(default=[])  # hosts that are not heard on it, with packets of full size


class NetworkInfo(Answer):
    name: str
    uplink: str = ""
    uplinks_of: list[str] = Field(default=[])
    vlan: int = 0
    mtu: int = 1500
    vms: list[str] = Field(default=[])
    hosts: list[NetworkStanding] = Field(default=[])


class StorageWish(Request):
    """More storage for disks of VMs, at the same path on every host."""

    name: str
    kind: Literal["nfs", "nfs3", "ocfs2", "gfs2", "glusterfs", "cephfs", "dir"]
    source: str = Field(default="", max_length=1000)  # like nas:/export/vms; none of a dir
    path: str = Field(default="", max_length=1000)  # "" = /srv/NAME
    options: list[str] = Field(default=[], max_length=32)


class StorageStanding(Standing):
    size_bytes: int | None = None
    free_bytes: int | None = None


class StorageInfo(Answer):
    name: str
    kind: str = ""
    source: str = ""
    path: str = ""
    options: list[str] = Field(default=[])
    own: bool = False  # the one that the pool itself lives on
    vms: list[str] = Field(default=[])  # with a disk on it
    hosts: list[StorageStanding] = Field(default=[])


class OrphanInfo(Answer):
    """A disk on the pool's storage that no VM names."""

    name: str  # of the file; in a repository with its name and a colon before it
    path: str
    size_bytes: int  # that it takes
    changed_wall_s: float


class EquipmentClient:
    """Through one agent."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client

    def networks(self) -> list[NetworkInfo]:
        """By name, as they stand on that host. Raises StorageTrouble."""
        return parse_list(NetworkInfo, self._client.call("GET", "/v1/networks"))

    def create_network(self, wish: NetworkWish) -> PoolWish:
        """Raises Conflict when there is one of this name, InvalidInput."""
        return self._wish("POST", "/v1/networks", wish)

    def change_network(self, name: str, change: NetworkChange) -> PoolWish:
        """Raises NotFound, InvalidInput."""
        return self._wish("PATCH", f"/v1/networks/{quote(name, safe='')}", change)

    def remove_network(self, name: str) -> PoolWish:
        """Raises NotFound."""
        return self._wish("DELETE", f"/v1/networks/{quote(name, safe='')}")

    def storage(self) -> list[StorageInfo]:
        """The pool's own first, then by name, as they stand on that host. Raises StorageTrouble."""
        return parse_list(StorageInfo, self._client.call("GET", "/v1/storage"))

    def add_storage(self, wish: StorageWish) -> PoolWish:
        """Raises Conflict, InvalidInput."""
        return self._wish("POST", "/v1/storage", wish)

    def remove_storage(self, name: str) -> PoolWish:
        """Raises NotFound, Conflict while disks of VMs are on it."""
        return self._wish("DELETE", f"/v1/storage/{quote(name, safe='')}")

    def orphans(self) -> list[OrphanInfo]:
        """Disks that no VM names, the largest first. Raises StorageTrouble."""
        return parse_list(OrphanInfo, self._client.call("GET", "/v1/orphans"))

    def remove_orphan(self, name: str) -> PoolWish:
        """Delete one. Raises NotFound, Conflict when something uses it."""
        return self._wish("DELETE", f"/v1/orphans/{quote(name, safe='')}")

    def _wish(self, method: str, path: str, body: BaseModel | None = None) -> PoolWish:
        raw = body.model_dump_json(exclude_unset=True).encode() if body else b""
        return parse(PoolWish, self._client.call(method, path, raw))
