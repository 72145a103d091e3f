"""What this machine keeps of the pool it is a host of: its file, its pool, its certificates."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.cli import qemu_tls
from outlast.errors import NotFound, StorageTrouble
from outlast.storage.etcd_folder import shared
from outlast.storage.layout import PoolDir, open_pool
from outlast.storage.register import Register
from outlast.wire.seal import install, issue_host

WRITER = "cli"


@dataclass(frozen=True, slots=True)
class Places:
    """Where this host keeps things."""

    etc: Path
    var: Path


def places() -> Places:
    return Places(
        Path(os.environ.get("OUTLAST_ETC", "/etc/outlast")),
        Path(os.environ.get("OUTLAST_VAR", "/var/lib/outlast")),
    )


def known(where: Places) -> dict[str, Any]:
    """The host file as it is. Raises NotFound when this machine is no host, StorageTrouble."""
    path = where.etc / "host.json"
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFound("this machine is no host of a pool", hint="outlast host join DIR") from None
    except (OSError, ValueError) as error:
        raise StorageTrouble(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise StorageTrouble(f"{path} is damaged")
    return found


def opened(pool_dir: Path | None, where: Places) -> tuple[PoolDir, Register]:
    """The pool in this directory, or that of this host. Raises NotFound, StorageTrouble."""
    if pool_dir is None:
        pool_dir = Path(str(known(where).get("pool_dir")))
    pool = open_pool(pool_dir.absolute())
    return pool, pool.register(WRITER)


def renew(where: Places) -> tuple[str, list[str]]:
    """New certificates for this host, from its pool's authority; its name, and warnings.

    The old ones stay good until they are revoked. Raises NotFound when this machine is no host,
    StorageTrouble.
    """
    raw = known(where)
    try:
        pool_dir, host, uuid = Path(raw["pool_dir"]), str(raw["host"]), str(raw["uuid"])
        addresses = (*map(str, raw["beat_addresses"]), str(raw["api_address"]))
        addresses += (str(raw["migration_address"]),) if raw.get("migration_address") else ()
    except (KeyError, TypeError) as error:
        raise StorageTrouble(f"{where.etc / 'host.json'} is damaged") from error
    pki = open_pool(pool_dir).pki
    with shared(pool_dir):
        key, cert = issue_host(pki, host, uuid, addresses)
    install(where.etc / "pki", pki, key, cert)
    note = qemu_tls.install(pki, host, uuid, addresses)
    return host, [note] if note else []
