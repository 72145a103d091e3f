"""The pool's images: folders below images/library, each whole from its first moment on.

    images/library/<name>/image.json    what it is, where it came from, its source's checksum
    images/library/<name>/disk-0.qcow2  its disks; an OVA may bring several

Rules:
1. Files of an image never change; they are written once, as qcow2 that refers to nothing else.
2. An import is made in a workplace and named last. Killed at any byte it leaves nothing that is
   seen; the next try of the same address goes on with what was fetched.
3. There must be room for all of it, and some for the pool's own registers, before it begins.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from outlast.errors import Conflict, InvalidInput, NotFound, StorageTrouble
from outlast.images import fetch, look, ova, qemu_img, work
from outlast.images.pace import RATE_BYTES_S, Pace, Progress, silent, turn
from outlast.images.shelf import Shelf, StoredDisk, stored_disks
from outlast.storage.files import trouble_of
from outlast.storage.names import check_name

LIBRARY = "images/library"
ABOUT = "image.json"
LAYOUT = 1
RESERVE = 256 << 20  # for the registers, and what VMs write meanwhile
FORMATS = ("qcow2", "raw", "vmdk")


@dataclass(frozen=True, slots=True)
class Image:
    name: str
    disks: tuple[StoredDisk, ...]
    source: str  # address or path it came from
    kind: str  # format of the source
    sha256: str  # of the source
    created_wall: int
    by_host: str

    @property
    def virtual_bytes(self) -> int:
        return sum(disk.virtual_bytes for disk in self.disks)


class Library(Shelf[Image]):
    """The images of the pool in this directory."""

    noun, about, advice = "image", ABOUT, "import the image again"

    def __init__(self, pool_dir: Path) -> None:
        super().__init__(pool_dir / LIBRARY)

    def read(self, name: str, raw: Mapping[str, Any]) -> Image:
        return Image(
            name, stored_disks(raw), str(raw["source"]), str(raw["kind"]), str(raw["sha256"]),
            int(raw["created_wall"]), str(raw["by_host"]),
        )  # fmt: skip

    def told(self, image: Image) -> dict[str, Any]:
        """What the agent's API and the command line tell of it, by the names of the API."""
        folder = self.folder / image.name
        return {
            "name": image.name, "disks": len(image.disks), "virtual_bytes": image.virtual_bytes,
            "stored_bytes": sum(p.stat().st_blocks * 512 for p in folder.iterdir()),
            "source": image.source, "kind": image.kind, "sha256": image.sha256,
            "created_wall_s": image.created_wall, "by_host": image.by_host,
            "files": [str(path) for path in self.files(image)],
        }  # fmt: skip

    def take(
        self, name: str, source: str, *, sha256: str = "", rate_bytes_s: int = RATE_BYTES_S,
        progress: Progress = silent, told: str = "",
    ) -> Image:  # fmt: skip
        """Import an image from a file or an address. told: what to call it instead, for people.

        Raises InvalidInput, NotFound, Conflict, Unreachable, StorageTrouble; then nothing of it
        is there except, after a broken download, the part that the next try goes on with.
        """
        check_name(name, "image name")
        sha256 = check_sha256(sha256)
        if fetch.is_address(source):
            fetch.check_address(source, sha256)
        else:
            source = str(look.check_source(source))
        if (self.folder / name).exists():
            raise Conflict(
                f"there is an image '{name}' already",
                hint=f"take another name, or: outlast image remove {name}",
            )
        self._check_alone(name)
        with turn(lambda said: progress(said, 0, 0)), work.workplace(self.folder, name) as place:
            try:
                return self._take(place, name, source, sha256, rate_bytes_s, progress, told)
            except InvalidInput as error:
                part = place / fetch.PART
                part.unlink(missing_ok=True)  # more of it would not help
                said = error.sentence.replace(str(part), source)
                said = said.replace(source, told or source)
                raise InvalidInput(said, hint=error.hint) from error
            except OSError as error:
                raise trouble_of(error, place) from error
            finally:
                self._keep_part(place, name)

    def export(
        self, name: str, target: Path, kind: str = "qcow2", *, rate_bytes_s: int = RATE_BYTES_S,
        progress: Progress = silent,
    ) -> list[Path]:  # fmt: skip
        """Write an image's disks to files outside the pool; an OVA's second one is NAME-2.

        Raises NotFound, Conflict when a file is there, InvalidInput, StorageTrouble.
        """
        if kind not in FORMATS:
            raise InvalidInput(f"the format {kind!r} is not known", hint=", ".join(FORMATS))
        return copy_all(self.files(self.get(name)), target, kind, rate_bytes_s, progress)

    def remove(self, name: str) -> None:
        """Templates made from it keep their own names of its files. Raises NotFound."""
        self.get(name)
        work.discard(self.folder / name)

    # ---- parts

    def _check_alone(self, name: str) -> None:
        for left in work.leftovers(self.folder):
            if left.name == name and left.alive and not left.path.name.endswith(".part"):
                raise Conflict(
                    f"'{name}' is being imported already, by {left.alive}", hint="wait for it"
                )

    def _take(
        self, place: Path, name: str, source: str, sha256: str, rate: int, progress: Progress,
        told: str,
    ) -> Image:  # fmt: skip
        pace = Pace(rate)
        path = Path(source)
        if fetch.is_address(source):
            self._adopt(place, name, source)
            path = fetch.fetch(source, place, pace, room(place), progress)
        digest = self._digest(path, pace, progress)
        if sha256 and digest != sha256:
            raise InvalidInput(
                f"the SHA-256 of {source} is {digest}, not {sha256}",
                hint="it is damaged, or not the file you meant",
            )
        kind = look.sniff(path)
        parts = [path]
        if kind == look.OVA:
            parts = ova.unpack(path, place, pace, room(place), progress)
        made = place / "made"
        made.mkdir()
        disks = []
        for number, part in enumerate(parts):
            file = made / f"disk-{number}.qcow2"
            size = self._convert(part, file, rate, progress)
            disks.append(StoredDisk(file.name, size))
        image = Image(
            name, tuple(disks), told or source, kind, digest, int(time.time()), socket.gethostname()
        )
        (made / ABOUT).write_text(json.dumps({"outlast": LAYOUT, **asdict(image)}, indent=1))
        qemu_img.sync(made / ABOUT)
        (place / fetch.PART).unlink(missing_ok=True)
        work.publish(place, self.folder / name)
        return image

    def _convert(self, source: Path, target: Path, rate: int, progress: Progress) -> int:
        looked = look.look(source, look.sniff(source))
        check_room(target.parent, qemu_img.needed_bytes(source, looked.kind))
        qemu_img.convert(
            source, looked.kind, target, "qcow2", rate,
            lambda percent: progress("converting", round(percent * 100), 10000),
        )  # fmt: skip
        target.chmod(0o444)
        return looked.virtual_bytes

    def _digest(self, path: Path, pace: Pace, progress: Progress) -> str:
        look.sniff(path)
        digest, done, size = hashlib.sha256(), 0, path.stat().st_size
        with path.open("rb") as file:
            while data := file.read(pace.piece_bytes):
                digest.update(data)
                done += len(data)
                pace.took(len(data))
                progress("checking", done, size)
        return digest.hexdigest()

    def _adopt(self, place: Path, name: str, source: str) -> None:
        """Go on with what an earlier try of the same address fetched."""
        for left in work.leftovers(self.folder):
            if left.name == name and (not left.alive or left.path.name.endswith(".part")):
                part = left.path / fetch.PART
                about = part.with_suffix(".json")
                try:
                    if json.loads(about.read_text())["url"] == source:
                        about.rename(place / about.name)
                        part.rename(place / part.name)
                        shutil.rmtree(left.path, ignore_errors=True)
                        return
                except (OSError, ValueError, KeyError, TypeError):
                    continue

    def _keep_part(self, place: Path, name: str) -> None:
        """After an ordinary failure: the fetched part stays, as if this process had been killed."""
        part = place / fetch.PART
        about = part.with_suffix(".json")
        if part.exists() and about.exists():
            aside = self.folder / f"{work.NEW}{name}.part"
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(mode=0o700)
            about.rename(aside / about.name)
            part.rename(aside / part.name)


def copy_all(
    files: Sequence[Path], target: Path, kind: str, rate: int, progress: Progress
) -> list[Path]:
    """Copy qcow2 disks to new files; the second one is TARGET-2. Raises as copy_out does."""
    made = []
    with turn(lambda said: progress(said, 0, 0)):
        for number, file in enumerate(files, 1):
            stem = target.stem if number == 1 else f"{target.stem}-{number}"
            path = target.with_name(f"{stem}{target.suffix}").absolute()
            copy_out(file, path, kind, rate, progress)
            made.append(path)
    return made


def copy_out(file: Path, path: Path, kind: str, rate: int, progress: Progress) -> None:
    """Copy a qcow2 disk to a new file of any format, whole or not at all.

    Raises Conflict, StorageTrouble, InvalidInput.
    """
    if path.exists():
        raise Conflict(f"{path} exists already", hint="take another name")
    if not path.parent.is_dir():
        raise NotFound(f"there is no folder {path.parent}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        qemu_img.convert(
            file, "qcow2", temporary, kind, rate,
            lambda percent: progress(f"writing {path.name}", round(percent * 100), 10000),
        )  # fmt: skip
        os.link(temporary, path)
    except FileExistsError:
        raise Conflict(f"{path} exists already", hint="take another name") from None
    except OSError as error:
        raise trouble_of(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def room(folder: Path) -> int:
    """Bytes that may be written there: the free ones without a reserve. Raises StorageTrouble."""
    usage = shutil.disk_usage(folder)
    if not usage.total:
        raise StorageTrouble(
            "the storage does not say how much room it has, so nothing large is written to it",
            hint="a Ceph says so when its manager (mgr) runs, see 'ceph -s'; start it, try again",
        )
    return usage.free - min(RESERVE, usage.total // 20)


def check_room(folder: Path, needed: int) -> None:
    """Raises StorageTrouble."""
    free = room(folder)
    if needed > free:
        raise StorageTrouble(
            f"{needed >> 20} MiB are needed, there is room for {max(0, free) >> 20} MiB",
            hint="free some space there; see also 'outlast image clean'",
        )


def check_sha256(text: str) -> str:
    """A checksum as hex digits, "" for none. Raises InvalidInput."""
    text = text.strip().lower()
    if text and (len(text) != 64 or not set(text) <= set("0123456789abcdef")):
        raise InvalidInput("a SHA-256 has 64 hex digits", hint="as sha256sum prints it")
    return text


def percent_of(tell: Callable[[str], None]) -> Progress:
    """Progress as sentences, one for each twentieth."""

    def progress(what: str, done: int, all_: int) -> None:
        if all_:
            tell(f"{what} {20 * done // all_ * 5} %")
        else:
            tell(f"{what} {done >> 20} MiB" if done else what)

    return progress
