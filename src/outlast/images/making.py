"""A VM out of disks that are made for it: files first, then the VM, nothing half."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from outlast.errors import Conflict, InvalidInput, OutlastError
from outlast.images.clones import Source, Wanted, files_for
from outlast.images.pace import Progress, silent
from outlast.images.work import Stay

T = TypeVar("T")


def make_vm(
    pool_dir: Path, vm: str, source: Source, wanted: Wanted,
    create: Callable[[list[str]], T], progress: Progress = silent,
) -> T:  # fmt: skip
    """Make the files of a VM and then the VM.

    create: makes the VM with these disks, as paths in the pool or absolute ones. Files of a VM
    that was certainly not made are deleted again; when nobody can tell they stay: 'outlast image
    clean' finds out.
    """
    try:
        with files_for(pool_dir, vm, source, wanted, progress) as files:
            try:
                inside = wanted.folder is None
                return create([str(p.relative_to(pool_dir) if inside else p) for p in files])
            except (Conflict, InvalidInput):
                raise
            except OutlastError as error:
                raise Stay(error) from error
    except Stay as stay:
        raise stay.trouble from None
