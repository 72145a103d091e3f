"""Files of VMs on the pool's storage: which paths may be named, and new disks.

Rules:
1. A VM's files lie on the pool's storage, disks in one of its repositories too, so that every host
   finds them, and never among the pool's own files (registers, heartbeat, secret, keys).
2. A new disk appears whole under its name, or not at all: a sparse temporary beside it, synced,
   then linked. A name that is taken is never written to.
3. What a failed creation made is removed again, and nothing else.

It does not convert or read disks; qcow2 is told from raw by name and first bytes, so that
no guest can make the host open other files by writing a header to its raw disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from outlast.agent.devices import plan_device
from outlast.errors import Conflict, InvalidInput, OutlastError, StorageTrouble
from outlast.images import qemu_img
from outlast.model import Disk
from outlast.storage.access import is_shared
from outlast.wire.shapes import BadField, DiskWish

IMAGES = "images"
OWN = frozenset({"reg", "tmp", "pki", "journal", "hb", "secret", "pool.json"})
SHARED = frozenset({"library", "templates"})  # below images/
QCOW2_MAGIC = b"QFI\xfb"


@dataclass(frozen=True, slots=True)
class Planned:
    """A disk of a VM to be: `size_bytes` is 0 for a file that is there already."""

    disk: Disk
    size_bytes: int


def check_path(pool_dir: str, text: str, field: str) -> str:
    """The absolute path of a VM's file, relative ones counted from the pool's directory.

    Raises BadField when it is not on the pool's storage or among the pool's own files.
    """
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise BadField(f"{field}: the path has control characters in it", field=field)
    root = os.path.realpath(pool_dir)
    real = os.path.realpath(os.path.join(root, text))  # noqa: PTH118 - must not normalize
    try:
        parts = Path(real).relative_to(root).parts
    except ValueError:
        raise BadField(
            f"{field}: {text} is not on the pool's storage, so other hosts would not find it",
            hint=f"copy it below {pool_dir} first",
            field=field,
        ) from None
    if not parts or parts[0] in OWN:
        raise BadField(
            f"{field}: {text} belongs to the pool itself", hint=f"use {IMAGES}/", field=field
        )
    if len(parts) > 1 and parts[0] == IMAGES and parts[1] in SHARED:
        raise BadField(
            f"{field}: {text} is shared by many, no VM may write to it",
            hint="make the VM of a template: outlast template deploy --help",
            field=field,
        )
    return str(Path(pool_dir).joinpath(*parts))


def check_file(path: str, field: str) -> None:
    """Raises BadField when there is no such file, StorageTrouble when it cannot be looked at."""
    try:
        mode = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise BadField(f"{field}: there is no file {path}", field=field) from None
    except OSError as error:
        raise trouble_of(error, path) from error
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise BadField(f"{field}: {path} is no file", field=field)


def check_folder_of(path: str, field: str) -> None:
    """Raises BadField when the folder a file is to be made in does not exist."""
    if not Path(path).parent.is_dir():
        raise BadField(f"{field}: there is no folder {Path(path).parent}", field=field)


def find_disk(
    pool_dir: str, roots: Mapping[str, str], wish: DiskWish, default: str, field: str
) -> tuple[str, str]:
    """The absolute path of a disk, and its repository. Raises BadField."""
    if wish.repository and wish.repository not in roots:
        known = ", ".join(sorted(roots)) or "none"
        raise BadField(f"{field}: there is no storage '{wish.repository}' in this pool",
                       hint=f"there is: {known}", field=field)  # fmt: skip
    base = roots.get(wish.repository, os.path.join(pool_dir, IMAGES))  # noqa: PTH118
    text = wish.path or f"{base}/{default}"
    for name, root in roots.items():
        real = os.path.realpath(text)
        if text.startswith("/") and Path(real).is_relative_to(root) and real != root:
            if Path(real).relative_to(root).parts[0].startswith("."):
                raise BadField(f"{field}: {text} belongs to the pool itself", field=field)
            return real, name
    return check_path(pool_dir, text, field), ""


def plan(
    pool_dir: str, roots: Mapping[str, str], vm: str, wishes: list[DiskWish], use_existing: bool
) -> list[Planned]:
    """The disks of a new VM, checked; nothing is made yet. roots: repositories and their paths.

    Without a shared file system they are devices (devices.py). Raises BadField, and Conflict for
    what exists and was not to be used.
    """
    found: list[Planned] = []
    shared = is_shared(Path(pool_dir))
    for index, wish in enumerate(wishes):
        field = f"disks.{index}"
        if not shared:
            disk = plan_device(wish, field, use_existing=use_existing)
            _check_once(found, disk.path, field)
            found.append(Planned(disk, 0))
            continue
        default = f"{vm}.raw" if index == 0 else f"{vm}-{index + 1}.raw"
        path, repository = find_disk(pool_dir, roots, wish, default, f"{field}.path")
        _check_once(found, path, field)
        kind = "qcow2" if path.endswith(".qcow2") else "raw"
        check_folder_of(path, f"{field}.path")
        exists = os.path.lexists(path)
        if exists and not use_existing:
            raise Conflict(
                f"the disk {path} exists already",
                hint="--use-existing takes it as it is, with what is on it",
            )
        if exists:
            check_file(path, f"{field}.path")
            _check_kind(path, kind, field)
        elif wish.size is None:
            hint = "give a size to make a new disk"
            raise BadField(f"{field}: there is no file {path}", hint=hint, field=field)
        size = 0 if exists else wish.size or 0
        found.append(Planned(Disk(path, kind, wish.bus, repository), size))
    return found


def _check_once(found: list[Planned], path: str, field: str) -> None:
    if any(path == other.disk.path for other in found):
        raise BadField(f"{field}: {path} is named twice", field=field)


def make(planned: list[Planned]) -> list[str]:
    """Make the new disks; the paths that were made.

    Raises Conflict, StorageTrouble; then none of them is left.
    """
    made: list[str] = []
    try:
        for item in planned:
            if item.size_bytes:
                _make_one(item.disk.path, item.disk.format, item.size_bytes)
                made.append(item.disk.path)
    except OutlastError:
        remove(made)
        raise
    return made


def remove(paths: list[str]) -> list[str]:
    """Remove files; the sentences of those that could not be."""
    left = []
    for path in paths:
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as error:
            left.append(f"{path} is left: {error.strerror or error}")
    return left


def _make_one(path: str, kind: str, size_bytes: int) -> None:
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, 0 if kind == "qcow2" else size_bytes)
            os.fsync(fd)
        finally:
            os.close(fd)
        if kind == "qcow2":
            qemu_img.create(temporary, size_bytes)
            qemu_img.sync(temporary)
        os.link(temporary, target)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):  # some file systems keep names by themselves
                os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise Conflict(f"the disk {path} exists already", hint="choose another path") from None
    except OSError as error:
        raise trouble_of(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _check_kind(path: str, kind: str, field: str) -> None:
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise trouble_of(error, path) from error
    if (magic == QCOW2_MAGIC) != (kind == "qcow2"):
        what = "is a qcow2 image" if kind == "raw" else "is no qcow2 image"
        raise BadField(
            f"{field}: {path} {what}, its name says otherwise",
            hint="a name that ends with .qcow2 means qcow2, all others mean raw",
            field=field,
        )


_WORDS = {
    errno.ENOSPC: ("the pool's storage is full", "free some space"),
    errno.EDQUOT: ("the quota of the pool's storage is used up", "raise it or free space"),
    errno.EROFS: ("the pool's storage is read-only", "mount it for writing"),
    errno.EFBIG: ("the disk is too large for the pool's storage", "take a smaller size"),
    errno.EACCES: ("the agent may not write to the pool's storage", "check the export's rights"),
    errno.EPERM: ("the agent may not write to the pool's storage", "check the export's rights"),
    errno.ENOENT: ("the folder is not there", "is the pool's storage mounted?"),
}


def trouble_of(error: OSError, path: str) -> OutlastError:
    """An OSError about a VM's file as a sentence with a hint."""
    number = error.errno or 0
    words, hint = _WORDS.get(number, ("the pool's storage failed", "see the host's kernel log"))
    sentence = f"{words} ({path}: {error.strerror or error})"
    kind = InvalidInput if number == errno.EFBIG else StorageTrouble
    return kind(sentence, hint=hint)
