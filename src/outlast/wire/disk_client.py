"""The agent's calls about disks of VMs, for the command line; see client.py for the promises."""

from __future__ import annotations

from urllib.parse import quote

from pydantic import BaseModel

from outlast.wire.backups import at_host
from outlast.wire.client import AgentClient
from outlast.wire.disks import (
    AdoptWish,
    BackupStatus,
    BackupWish,
    DiskMoveStatus,
    DiskMoveWish,
    ForeignDomain,
    Snapshot,
    SnapshotDone,
    SnapshotWish,
)
from outlast.wire.shapes import VmWish, parse, parse_list


class DiskClient:
    """Snapshots and backups, through one agent."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client

    def snapshots(self, vm: str) -> list[Snapshot]:
        """Oldest first. Raises NotFound."""
        return parse_list(Snapshot, self._client.call("GET", _snapshots(vm)))

    def snapshot(self, vm: str, wish: SnapshotWish) -> SnapshotDone:
        """Raises NotFound, Conflict."""
        return parse(SnapshotDone, self._client.call("POST", _snapshots(vm), _raw(wish)))

    def revert(self, vm: str, name: str) -> SnapshotDone:
        """Raises Conflict while it runs, NotFound."""
        path = f"{_snapshots(vm)}/{quote(name, safe='')}/revert"
        return parse(SnapshotDone, self._client.call("POST", path))

    def forget(self, vm: str, name: str) -> SnapshotDone:
        """Raises NotFound, Conflict."""
        path = f"{_snapshots(vm)}/{quote(name, safe='')}"
        return parse(SnapshotDone, self._client.call("DELETE", path))

    def backup(self, vm: str, wish: BackupWish, *, here: bool = False) -> BackupStatus:
        """Begin one; here: into a folder of the agent's own host, or not at all.

        Raises NotFound, Conflict, InvalidInput.
        """
        path = _backup(vm) + ("?here=1" if here else "")
        return parse(BackupStatus, self._client.call("POST", path, _raw(wish)))

    def backup_status(self, vm: str) -> BackupStatus:
        """Raises NotFound."""
        return parse(BackupStatus, self._client.call("GET", _backup(vm)))

    def move_disk(self, vm: str, wish: DiskMoveWish) -> DiskMoveStatus:
        """Begin it. Raises NotFound, Conflict, InvalidInput."""
        return parse(DiskMoveStatus, self._client.call("POST", _move(vm), _raw(wish)))

    def disk_move_status(self, vm: str) -> DiskMoveStatus:
        """Raises NotFound."""
        return parse(DiskMoveStatus, self._client.call("GET", _move(vm)))

    def give_disk_move_up(self, vm: str) -> DiskMoveStatus:
        """Break it off. Raises NotFound."""
        return parse(DiskMoveStatus, self._client.call("DELETE", _move(vm)))

    def foreign(self, host: str = "") -> list[ForeignDomain]:
        """Domains that are not the pool's, of a host; "" = of the agent's own."""
        return parse_list(ForeignDomain, self._client.call("GET", f"/v1/foreign{at_host(host)}"))

    def foreign_domain(self, name: str, host: str = "") -> ForeignDomain:
        """Raises NotFound."""
        return parse(ForeignDomain, self._client.call("GET", _foreign(name, "", host)))

    def adopt(self, name: str, wish: AdoptWish, host: str = "") -> VmWish:
        """Raises NotFound, Conflict with every reason."""
        return parse(VmWish, self._client.call("POST", _foreign(name, "/adopt", host), _raw(wish)))

    def give_up(self, vm: str) -> BackupStatus:
        """Break a backup off. Raises NotFound."""
        return parse(BackupStatus, self._client.call("DELETE", _backup(vm)))


def _snapshots(vm: str) -> str:
    return f"/v1/vms/{quote(vm, safe='')}/snapshots"


def _backup(vm: str) -> str:
    return f"/v1/vms/{quote(vm, safe='')}/backup"


def _move(vm: str) -> str:
    return f"/v1/vms/{quote(vm, safe='')}/disk-move"


def _foreign(name: str, what: str, host: str) -> str:
    return f"/v1/foreign/{quote(name, safe='')}{what}{at_host(host)}"


def _raw(wish: BaseModel) -> bytes:
    return wish.model_dump_json(exclude_unset=True).encode()
