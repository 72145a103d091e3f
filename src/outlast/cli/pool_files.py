"""Where a pool's files are on this machine: its shared file system, its storage repositories."""

from __future__ import annotations

from pathlib import Path


def pool_dir_of(pool: Path | None) -> Path:
    """Where its files are.

    Raises NotFound when this machine is no host, InvalidInput when it shares none, StorageTrouble.
    """
    from outlast.cli.this_host import opened, places
    from outlast.errors import InvalidInput

    found = opened(pool, places())[0]
    if not found.shared:
        raise InvalidInput(
            "this pool has no shared file system, so it has no images, templates and copies",
            hint="make the device first, then: outlast vm create --disk PATH --use-existing",
        )
    return found.root


def folder_on(name: str, pool: Path | None) -> Path | None:
    """Where disks are in a storage repository; None for "". Raises NotFound, StorageTrouble."""
    if not name:
        return None
    from outlast.cli.storage_facts import repository_trouble
    from outlast.cli.this_host import opened, places
    from outlast.errors import StorageTrouble
    from outlast.mounts.registry import get
    from outlast.mounts.systemd import Mounts

    found = get(opened(pool, places())[1], name)
    if trouble := repository_trouble(found, Mounts().all()):
        raise StorageTrouble(f"the storage '{name}' is not there: {trouble}")
    return Path(found.path)
