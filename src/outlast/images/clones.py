"""Disks of new VMs, made of a template or a backup: linked or whole, and their seed.

Rules:
1. All files of a VM are made in one workplace in images/, or in a repository's folder, then get
   their names there by links, which never replace anything; the VM's record comes after that,
   made by the caller inside `files_for`.
2. Killed in between, the workplace and the names remain, and have the same inodes: so a later try,
   and `clean`, know what to take away. A file that a VM's record names is never taken away, nor one
   that a record names a moment later.
3. A linked clone refers to its template by a relative path: the pool may be mounted anywhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import Conflict, InvalidInput
from outlast.images import qemu_img, seed, work
from outlast.images.library import check_room
from outlast.images.pace import RATE_BYTES_S, Progress, silent, turn
from outlast.images.templates import Template, Templates, disks_of_vms
from outlast.images.work import Leftover
from outlast.storage.files import trouble_of

SEED = "-seed.iso"  # how the names of seeds end
IMAGES = "images"
SETTLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Source:
    """Disks that are copied, or lain over. still: raises when they are not what they were."""

    files: tuple[Path, ...]
    sizes: tuple[int, ...]  # of the disks, in bytes
    still: Callable[[], object]
    kinds: tuple[str, ...] = ()  # their formats; () = all are qcow2
    seed: int = -1  # which of them is a seed; it stays one, by its name


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the disks of a new VM shall be made."""

    linked: bool = True
    size_bytes: int = 0  # of its first disk; 0 = as the template's
    seed: seed.Seed | None = None
    rate_bytes_s: int = RATE_BYTES_S
    folder: Path | None = None  # of a storage repository; None = the pool's images


@contextlib.contextmanager
def files_for(
    pool_dir: Path, vm: str, source: Source, wanted: Wanted, progress: Progress = silent
) -> Iterator[list[Path]]:
    """The files of a new VM, in the order of its disks; deleted again when the body fails.

    With work.Stay from the body they stay until a later try or `clean` finds out whose they are.
    Raises Conflict when a name is taken, InvalidInput, StorageTrouble.
    """
    images = wanted.folder or pool_dir / IMAGES
    if wanted.linked and wanted.folder is not None:
        raise InvalidInput(
            "a linked clone lies beside its template, on the pool's own storage",
            hint="--full makes whole disks elsewhere",
        )
    names = names_of(vm, len(source.files), wanted.seed is not None)
    if source.seed >= 0:
        names[source.seed] = f"{vm}{SEED}"
    _forget_dead(pool_dir, images, vm)
    taken = [name for name in names if os.path.lexists(images / name)]
    if taken:
        raise Conflict(
            f"the disk {images / taken[0]} exists already",
            hint="it belonged to a VM of this name; move it away, or take another name",
        )
    linked: list[Path] = []
    with work.workplace(images, vm) as place:
        try:
            _make(pool_dir, place, names, source, wanted, progress)
            for name in names:
                os.link(place / name, images / name)
                linked.append(images / name)
            qemu_img.sync(images)
            source.still()
            yield linked
        except work.Stay:
            raise
        except OSError as error:
            _unlink(linked)
            raise trouble_of(error, images) from error
        except BaseException:
            _unlink(linked)
            raise


def of_template(pool_dir: Path, template: Template) -> Source:
    """The disks of a template, for linked clones and whole copies."""
    templates = Templates(pool_dir)
    sizes = tuple(disk.virtual_bytes for disk in template.disks)
    return Source(tuple(templates.files(template)), sizes, lambda: templates.get(template.name))


def names_of(vm: str, disks: int, seeded: bool) -> list[str]:
    """The file names of a VM's disks, its seed last."""
    names = [f"{vm}.qcow2", *(f"{vm}-{number}.qcow2" for number in range(2, disks + 1))]
    return [*names, f"{vm}{SEED}"] if seeded else names


def is_seed(path: str) -> bool:
    """Is this disk of a VM a seed that was made for it?"""
    return path.endswith(SEED)


def clean(pool_dir: Path, folder: Path) -> list[Leftover]:
    """Take away what killed deployments left; what was taken away. Raises StorageTrouble."""
    dead = [left for left in work.leftovers(folder) if not left.alive]
    for left in dead:
        _forget(pool_dir, left)
    return dead


def _make(
    pool_dir: Path, place: Path, names: list[str], source: Source, wanted: Wanted,
    progress: Progress,
) -> None:  # fmt: skip
    kinds = source.kinds or ("qcow2",) * len(source.files)
    for number, (base, virtual) in enumerate(zip(source.files, source.sizes, strict=True)):
        kind = kinds[number]
        file = place / names[number]
        size = wanted.size_bytes if number == 0 else 0
        if size and size < virtual:
            raise InvalidInput(
                f"its first disk has {virtual >> 20} MiB, it cannot become smaller",
                hint="leave --disk out, or say more",
            )
        if wanted.linked:
            qemu_img.overlay(file, str(base.relative_to(pool_dir / IMAGES)), size or virtual)
        else:
            check_room(place, base.stat().st_blocks * 512)
            with turn(lambda said: progress(said, 0, 0)):
                qemu_img.convert(
                    base, kind, file, "raw" if is_seed(names[number]) else "qcow2",
                    wanted.rate_bytes_s,
                    lambda percent: progress("copying", round(percent * 100), 10000),
                )  # fmt: skip
            if size:
                qemu_img.resize(file, size)
        file.chmod(0o600)
        qemu_img.sync(file)
    if wanted.seed is not None:
        seed.write(place / names[-1], wanted.seed)


def _forget_dead(pool_dir: Path, folder: Path, vm: str) -> None:
    for left in work.leftovers(folder):
        if left.name == vm and left.alive:
            raise Conflict(f"'{vm}' is being made already, by {left.alive}", hint="wait for it")
        if left.name == vm:
            _forget(pool_dir, left)


def _forget(pool_dir: Path, left: Leftover) -> None:
    """Rule 2."""
    owned, gone = disks_of_vms(pool_dir), []
    for file in left.path.iterdir():
        name = left.path.with_name(file.name)
        with contextlib.suppress(OSError):
            if name.resolve() not in owned and name.samefile(file):
                name.unlink()
                gone.append((file, name))
    if gone:  # what the dead one asked an agent for may just be coming true
        time.sleep(SETTLE_S)
        owned = disks_of_vms(pool_dir)
        for file, name in gone:
            if name.resolve() in owned:
                os.link(file, name)
    shutil.rmtree(left.path, ignore_errors=True)


def _unlink(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
