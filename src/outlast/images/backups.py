"""Backups of VMs: folders outside the pool, each whole from its first moment on.

    <folder>/<vm>-<time>/vm.json      the VM's definition, its disks, how the copy was made
    <folder>/<vm>-<time>/disk-0.qcow2 its disks, which refer to nothing else

Rules:
1. A backup is made in a workplace beside its place and named last (work.py).
2. Only whole backups count when older ones go, and only those of the same VM; what is no backup is
   never touched.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from outlast.errors import InvalidInput, NotFound, OutlastError, StorageTrouble
from outlast.images import qemu_img, work
from outlast.images.library import LAYOUT
from outlast.images.shelf import entries
from outlast.model import VmRecord
from outlast.storage.files import trouble_of
from outlast.storage.records import vm_from, vm_to

ABOUT = "vm.json"


@dataclass(frozen=True, slots=True)
class SavedDisk:
    file: str
    bus: str
    virtual_bytes: int


@dataclass(frozen=True, slots=True)
class Saved:
    """One backup. running: made while the VM ran; quiesced: its file systems were at rest."""

    folder: Path
    vm: str
    record: VmRecord
    disks: tuple[SavedDisk, ...]
    created_wall: int
    by_host: str
    running: bool
    quiesced: bool

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(self.folder / disk.file for disk in self.disks)


def name_of(vm: str, wall_s: float) -> str:
    """The name of a backup; they sort by age."""
    return f"{vm}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(wall_s))}"


def vm_of(name: str) -> str:
    """The VM in a backup's name; "" when the folder was named otherwise."""
    found = re.fullmatch(r"(.+)-\d{8}T\d{6}Z", name)
    return found[1] if found else ""


def describe(
    made: Path, record: VmRecord, wall_s: float, host: str, *, running: bool, quiesced: bool
) -> None:
    """Write vm.json beside the disks that were made. Raises OSError, InvalidInput."""
    disks = []
    for number, disk in enumerate(record.spec.disks):
        file = f"disk-{number}.qcow2"
        size = int(qemu_img.info(made / file, "qcow2")["virtual-size"])
        qemu_img.sync(made / file)
        disks.append(asdict(SavedDisk(file, disk.bus, size)))
    about: Mapping[str, object] = {
        "outlast": LAYOUT, "vm": record.spec.name, "created_wall": int(wall_s), "by_host": host,
        "running": running, "quiesced": quiesced, "record": vm_to(record), "disks": disks,
    }  # fmt: skip
    (made / ABOUT).write_text(json.dumps(about, indent=1))
    qemu_img.sync(made / ABOUT)


def read(folder: Path) -> Saved:
    """Raises NotFound when it is no backup, StorageTrouble when it is damaged."""
    path = folder / ABOUT
    try:
        raw = json.loads(path.read_text())
        disks = tuple(
            SavedDisk(_plain(str(d["file"])), str(d["bus"]), int(d["virtual_bytes"]))
            for d in raw["disks"]
        )
        saved = Saved(
            folder, str(raw["vm"]), vm_from(raw["record"]), disks, int(raw["created_wall"]),
            str(raw["by_host"]), bool(raw["running"]), bool(raw["quiesced"]),
        )  # fmt: skip
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(
            f"{folder} is no backup of a VM", hint="name the folder with vm.json"
        ) from None
    except OSError as error:
        raise trouble_of(error, path) from error
    except (ValueError, KeyError, TypeError, OutlastError):
        raise StorageTrouble(f"{path} is damaged", hint="take another backup") from None
    if missing := [file for file in saved.files if not file.is_file()]:
        raise StorageTrouble(f"the backup {folder} is not whole: {missing[0].name} is missing")
    return saved


def all_of(folder: Path, vm: str) -> list[Saved]:
    """Whole backups of a VM, oldest first. Raises StorageTrouble."""
    found = []
    for path in sorted(entries(folder)):
        if path.name.startswith(f"{vm}-"):
            try:
                saved = read(path)
            except (NotFound, StorageTrouble):
                continue
            if saved.vm == vm:
                found.append(saved)
    return sorted(found, key=lambda one: (one.created_wall, one.folder.name))


def prune(folder: Path, vm: str, keep: int) -> list[Path]:
    """Delete all but the newest; those that went. keep: 0 = all stay. Raises StorageTrouble."""
    old = all_of(folder, vm)[:-keep] if keep else []
    for saved in old:
        work.discard(saved.folder)
    return [saved.folder for saved in old]


def _plain(name: str) -> str:
    if name != Path(name).name or name.startswith("."):
        raise InvalidInput("a disk of a backup lies beside its description")
    return name
