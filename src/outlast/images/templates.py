"""Templates: disks and sizes that VMs are made of, below images/templates.

    images/templates/<name>/template.json   sizes, where its disks came from
    images/templates/<name>/disk-0.qcow2    the same files as its image's, by a second name, or
                                            copies of a VM's

Rules:
1. A template's disks never change: linked clones are only what changed against them.
2. A template with linked clones stays. Removing first takes its description away, so that no clone
   can be made from it any more, then looks for clones, then deletes or puts the description back.
   Whoever makes a clone looks for the description after its disk has its name.
3. What lies over a template is read from the disks themselves, not from any list.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from outlast.errors import Conflict, OutlastError, StorageTrouble
from outlast.images import look, qemu_img, work
from outlast.images.library import LAYOUT, Library, check_room
from outlast.images.pace import RATE_BYTES_S, Progress, silent, turn
from outlast.images.shelf import Shelf, StoredDisk, entries, stored_disks
from outlast.storage.files import trouble_of
from outlast.storage.names import check_name
from outlast.storage.posix import PosixRegister
from outlast.storage.records import vm_from
from outlast.storage.register import Register
from outlast.words import listed

TEMPLATES = "images/templates"
ABOUT, ASIDE = "template.json", ".template.json"


@dataclass(frozen=True, slots=True)
class Template:
    name: str
    disks: tuple[StoredDisk, ...]
    image: str  # it was made of; "the VM web": of that
    memory_mib: int
    vcpus: int
    networks: tuple[str, ...]
    note: str
    created_wall: int


@dataclass(frozen=True, slots=True)
class Clone:
    """A disk that lies over a template's."""

    path: Path
    vm: str  # "" = no VM of the pool has it


class Templates(Shelf[Template]):
    """The templates of the pool in this directory."""

    noun, about, advice = "template", ABOUT, "make the template again"

    def __init__(self, pool_dir: Path) -> None:
        super().__init__(pool_dir / TEMPLATES)
        self._pool_dir = pool_dir

    def read(self, name: str, raw: Mapping[str, Any]) -> Template:
        return Template(
            name, stored_disks(raw), str(raw["image"]), int(raw["memory_mib"]), int(raw["vcpus"]),
            tuple(map(str, raw["networks"])), str(raw["note"]), int(raw["created_wall"]),
        )  # fmt: skip

    def create(
        self, name: str, image: str, memory_mib: int, vcpus: int,
        networks: tuple[str, ...] = (), note: str = "", *,
        rate_bytes_s: int = RATE_BYTES_S, progress: Progress = silent,
    ) -> Template:  # fmt: skip
        """Make a template of an image; no data is copied. Raises Conflict, NotFound."""
        check_name(name, "template name")
        library = Library(self._pool_dir)
        source = library.get(image)

        def fill(made: Path) -> tuple[StoredDisk, ...]:
            for file in library.files(source):
                _second_name(file, made / file.name, rate_bytes_s, progress)
            return source.disks

        now = int(time.time())
        return self.make(Template(name, (), image, memory_mib, vcpus, networks, note, now), fill)

    def make(self, template: Template, fill: Callable[[Path], tuple[StoredDisk, ...]]) -> Template:
        """A template with the disks that `fill` puts into a folder; whole or not at all.

        Raises Conflict, StorageTrouble, and what `fill` raises.
        """
        self.check_free(template.name)
        with work.workplace(self.folder, template.name) as place:
            try:
                made = place / "made"
                made.mkdir()
                whole = replace(template, disks=fill(made))
                text = json.dumps({"outlast": LAYOUT, **asdict(whole)}, indent=1)
                (made / ABOUT).write_text(text)
                qemu_img.sync(made / ABOUT)
            except OSError as error:
                raise trouble_of(error, place) from error
            work.publish(place, self.folder / template.name)
        return whole

    def check_free(self, name: str) -> None:
        """Raises InvalidInput, Conflict when there is one of this name."""
        if (self.folder / check_name(name, "template name")).exists():
            raise Conflict(f"there is a template '{name}' already", hint="take another name")

    def clones(self, name: str) -> list[Clone]:
        """Disks that lie over a template's. Raises StorageTrouble."""
        return self.all_clones(disks_of_vms(self._pool_dir)).get(name, [])

    def all_clones(self, owners: Mapping[Path, str]) -> dict[str, list[Clone]]:
        """By template; owners: which VM has which file. Raises StorageTrouble."""
        folder, found = self.folder.resolve(), dict[str, list[Clone]]()
        for path in sorted((self._pool_dir / "images").rglob("*.qcow2")):
            try:
                base = look.backing_of(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise trouble_of(error, path) from error
            under = (path.parent / base).resolve().parent
            if base and under.parent == folder:
                clone = Clone(path, owners.get(path.resolve(), ""))
                found.setdefault(under.name, []).append(clone)
        return found

    def told(self, owners: Mapping[Path, str]) -> list[dict[str, Any]]:
        """What the agent's API and the command line tell of each, by the names of the API."""
        clones = self.all_clones(owners)
        return [
            {
                "name": t.name, "image": t.image, "memory_mib": t.memory_mib, "vcpus": t.vcpus,
                "disks": len(t.disks), "networks": list(t.networks), "note": t.note,
                "vms": sorted({c.vm or c.path.name for c in clones.get(t.name, ())}),
                "created_wall_s": t.created_wall,
            }
            for t in self.all()
        ]  # fmt: skip

    def remove(self, name: str) -> None:
        """Raises NotFound, Conflict when VMs lie over it: the sentence names them."""
        about, aside = self.folder / name / ABOUT, self.folder / name / ASIDE
        if aside.exists():
            self.mend()
        if aside.exists():
            raise Conflict(f"the template '{name}' is being removed already", hint="wait a minute")
        self.get(name)
        try:
            about.rename(aside)
            clones = self.clones(name)
        except OSError as error:
            raise trouble_of(error, about) from error
        except OutlastError:
            aside.rename(about)
            raise
        if clones:
            with contextlib.suppress(FileNotFoundError):  # somebody mended it meanwhile
                aside.rename(about)
            raise Conflict(
                f"the template '{name}' stays: {_named(clones)}",
                hint="VMs with whole disks (--full) do not need it",
            )
        work.discard(self.folder / name)

    def mend(self) -> None:
        """Put back the descriptions that a killed removal took away. Raises StorageTrouble."""
        try:
            for path in entries(self.folder):
                aside, about = path / ASIDE, path / ABOUT
                if not aside.exists() or about.exists():
                    continue
                if work.clock_of(self.folder) - aside.stat().st_ctime > work.STILL_S:
                    aside.rename(about)
        except OSError as error:
            raise trouble_of(error, self.folder) from error


def disks_of_vms(pool_dir: Path) -> dict[Path, str]:
    """Which VM has which file, of those that are not deleted. Raises StorageTrouble."""
    if not (pool_dir / "reg").is_dir():
        raise StorageTrouble(f"there is no pool in {pool_dir}", hint="is its storage mounted?")
    return owners_in(PosixRegister(pool_dir, "cli"))


def owners_in(register: Register) -> dict[Path, str]:
    """The same of a register that is open."""
    owners: dict[Path, str] = {}
    for name in register.names("vm"):
        value = register.read(name)[1]
        record = vm_from(value) if value else None
        if record is not None and not record.deleted:
            owners |= {Path(disk.path).resolve(): record.spec.name for disk in record.spec.disks}
    return owners


def _second_name(source: Path, target: Path, rate: int, progress: Progress) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in {errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV}:
            raise
        check_room(target.parent, source.stat().st_blocks * 512)
        with turn(lambda said: progress(said, 0, 0)):
            qemu_img.convert(
                source, "qcow2", target, "qcow2", rate,
                lambda percent: progress("copying", round(percent * 100), 10000),
            )  # fmt: skip
        target.chmod(0o444)


def _named(clones: list[Clone]) -> str:
    vms = sorted({clone.vm for clone in clones if clone.vm})
    loose = [str(clone.path) for clone in clones if not clone.vm]
    parts = []
    if vms:
        are = "is a linked clone" if len(vms) == 1 else "are linked clones"
        parts.append(f"{listed(vms, 8)} {are} of it")
    if loose:
        parts.append(f"{', '.join(loose[:4])} {'lies' if len(loose) == 1 else 'lie'} over it")
    return "; ".join(parts)
