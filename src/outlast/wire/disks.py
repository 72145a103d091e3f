"""Shapes of the agent's API about disks of VMs: snapshots and backups."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from outlast.wire.shapes import Answer, Request

Quiesce = Literal["auto", "yes", "no"]


class SnapshotWish(Request):
    name: str
    quiesce: Quiesce = "auto"  # yes: refuse when the guest agent does not answer


class Snapshot(Answer):
    name: str
    taken_wall_s: int
    whole: bool = True  # False: not on all disks of the VM


class SnapshotDone(Answer):
    vm: str
    name: str
    quiesced: bool = False
    sentence: str


class BackupWish(Request):
    folder: str = Field(min_length=1, max_length=4096)  # on the host that runs it, absolute
    quiesce: Quiesce = "auto"
    keep: int = Field(default=0, ge=0, le=10_000)  # older ones go; 0 = all stay
    rate_bytes_s: int = Field(default=48 << 20, ge=0)


class JobStatus(Answer):
    """The newest work of its kind that this agent did or does."""

    state: str  # running | done | failed
    sentence: str
    done_bytes: int = 0
    total_bytes: int = 0


class DiskMoveWish(Request):
    to: str = Field(max_length=63)  # a storage repository; "" = the pool's own storage
    disk: int = Field(default=1, ge=1, le=26)
    rate_bytes_s: int = Field(default=48 << 20, ge=0)


class DiskMoveStatus(JobStatus):
    vm: str
    path: str = ""  # of the disk, once it has moved


class BackupStatus(JobStatus):
    vm: str
    folder: str = ""  # of this backup, once it is done
    quiesced: bool = False
    removed: list[str] = Field(default_factory=list)  # older backups that went


class ForeignDisk(Answer):
    path: str
    format: str
    bus: str
    away: str = ""  # why the pool cannot use it where it is; "" = it can


class ForeignDomain(Answer):
    """A domain of a host's libvirt that is not the pool's."""

    name: str
    uuid: str = ""
    memory_mib: int = 0
    vcpus: int = 0
    machine: str = ""
    disks: list[ForeignDisk] = Field(default_factory=list)
    networks: list[str] = Field(default_factory=list)
    refusals: list[str] = Field(default_factory=list)  # why it cannot be adopted
    lost: list[str] = Field(default_factory=list)  # cards that need another bridge
    remarks: list[str] = Field(default_factory=list)  # what will be otherwise


class AdoptWish(Request):
    name: str  # of the VM
    disks: list[str] | None = None  # copies on the pool's storage, in order; None = as they are
    networks: list[str] | None = None  # bridges instead of its own
