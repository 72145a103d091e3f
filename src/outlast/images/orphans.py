"""Disks that no VM names any more: which ones lie on the pool's storage, and how one is deleted.

Rules:
1. Looked at are files that are called like disks, right in `images` and right in repositories.
   What is hidden or in folders belongs to others: work under way, the library, templates.
2. A file that a VM's disk lies over is in use as well. One that changed lately may become the disk
   of a VM that is being made: it is left out.
3. Nobody names a path: a name is looked up among those that are found.
4. A file that some QEMU holds open stays. Before it is deleted it is moved aside and the VMs are
   read once more; if one names it by now, it goes back. Killed in between, it is found again.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import Conflict, NotFound
from outlast.images import look
from outlast.storage.files import trouble_of

KINDS = (".raw", ".qcow2", ".img", ".iso", ".removed")
ASIDE = ".removed"
YOUNG_S = 3600.0
FOUND_MAX, DEPTH_MAX = 1000, 8
QEMU_LOCKS_AT, QEMU_LOCKS = 100, 200  # bytes that a QEMU locks for as long as a disk is open
Owners = Callable[[], Mapping[Path, str]]  # which VM has which file, read anew


@dataclass(frozen=True, slots=True)
class Orphan:
    name: str  # of the file; in a repository with its name and a colon before it
    path: Path
    size_bytes: int  # that it takes
    changed_wall_s: float


def found(folders: Mapping[str, Path], owners: Owners, now_s: float) -> list[Orphan]:
    """The largest first, at most FOUND_MAX. folders: by storage, "" = the pool's own.

    Raises StorageTrouble.
    """
    files = [one for store, folder in folders.items() for one in _files(store, folder, now_s)]
    used = _used(owners())
    loose = [one for one in files if one.path.resolve() not in used]
    return sorted(loose, key=lambda one: (-one.size_bytes, one.name))[:FOUND_MAX]


def remove(folders: Mapping[str, Path], owners: Owners, name: str, now_s: float) -> Orphan:
    """Raises NotFound, Conflict when something uses it, StorageTrouble."""
    for one in found(folders, owners, now_s):
        if one.name == name:
            _delete(one, owners)
            return one
    raise NotFound(
        f"there is no disk {name[:80]!r} that no VM names",
        hint="a VM has it, it changed within the last hour, or it is gone",
    )


def _files(store: str, folder: Path, now_s: float) -> Iterable[Orphan]:
    try:
        for entry in os.scandir(folder):
            if entry.name.startswith(".") or not entry.name.endswith(KINDS):
                continue
            if not entry.is_file(follow_symlinks=False):
                continue
            state = entry.stat(follow_symlinks=False)
            if now_s - max(state.st_mtime, state.st_ctime) > YOUNG_S:
                name = f"{store}:{entry.name}" if store else entry.name
                yield Orphan(name, folder / entry.name, state.st_blocks * 512, state.st_mtime)
    except FileNotFoundError:
        return
    except OSError as error:
        raise trouble_of(error, folder) from error


def _used(owners: Mapping[Path, str]) -> set[Path]:
    """Files of VMs, and what those lie over."""
    used, todo = set(owners), list(owners)
    for _ in range(DEPTH_MAX):
        under = [base for path in todo if (base := _base(path)) and base not in used]
        used.update(under)
        todo = under
    return used


def _base(path: Path) -> Path | None:
    try:
        text = look.backing_of(path) if path.suffix == ".qcow2" else ""
    except FileNotFoundError:
        return None
    except OSError as error:
        raise trouble_of(error, path) from error
    return (path.parent / text).resolve() if text else None


def _delete(one: Orphan, owners: Owners) -> None:
    path = one.path
    _check_free(path)
    aside = path if path.name.endswith(ASIDE) else path.with_name(path.name + ASIDE)
    try:
        if aside != path:
            os.link(path, aside)  # never over another file
            path.unlink()
        if vm := owners().get(path.resolve()):
            os.link(aside, path)
            aside.unlink()
            raise Conflict(f"{path} is a disk of {vm} by now: it stays")
        aside.unlink()
    except FileExistsError:
        raise Conflict(f"{aside} is there already", hint="delete that one first") from None
    except OSError as error:
        raise trouble_of(error, path) from error


def _check_free(path: Path) -> None:
    """Raises Conflict when some QEMU has it open, on whatever host."""
    try:
        with path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, QEMU_LOCKS, QEMU_LOCKS_AT)
    except (BlockingIOError, PermissionError):
        raise Conflict(f"{path} is in use by another program", hint="which VM is it?") from None
    except OSError as error:
        raise trouble_of(error, path) from error
