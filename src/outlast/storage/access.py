"""Where a pool's registers and heartbeats are: in its directory, or on the etcd that it names.

A pool on etcd has a directory on each host too, of that host alone (etcd_pool.py); in it etcd.json
says how to reach etcd. So whoever knows the directory asks here and need not know more.
Standard library only, because the pulse asks here as well.
"""

from __future__ import annotations

from pathlib import Path

from outlast.storage.etcd import Etcd
from outlast.storage.etcd_access import read_access
from outlast.storage.etcd_heartbeat import EtcdArea
from outlast.storage.etcd_register import EtcdRegister
from outlast.storage.heartbeat import HeartbeatFile
from outlast.storage.posix import PosixRegister

HEARTBEATS = "hb"


def is_shared(root: Path) -> bool:
    """False: the directory is this host's own, the pool is on etcd. Raises StorageTrouble."""
    return read_access(root) is None


def open_register(root: Path, writer: str) -> PosixRegister | EtcdRegister:
    """The registers of the pool in this directory; `writer` names who writes. Asks nothing yet.

    Raises StorageTrouble when etcd.json is damaged.
    """
    access = read_access(root)
    return PosixRegister(root, writer) if access is None else EtcdRegister(Etcd(access), writer)


def open_area(root: Path, slot: int = 0) -> HeartbeatFile | EtcdArea:
    """Its heartbeat area, to write as `slot` or only to read. Raises OSError, StorageTrouble."""
    access = read_access(root)
    return (
        HeartbeatFile(root / HEARTBEATS, slot) if access is None else EtcdArea(Etcd(access), slot)
    )
