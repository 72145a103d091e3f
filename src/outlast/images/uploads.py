"""Images that come in pieces from elsewhere: kept until they are whole, then taken like any file.

    images/library/.upload-<name>/part         what has come so far, all of it on the disk
    images/library/.upload-<name>/upload.json  what it will be: size, SHA-256, key

Rules:
1. Who begins says the SHA-256, or a key of the file where that would mean to read it twice. The
   same one goes on where it was; another one begins anew.
2. A piece is taken only where the last one ended, and is on the disk before it is acknowledged: so
   whoever was broken off asks how much there is, and goes on there.
3. Nothing of it is an image until all of it has come and is what was said.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from outlast.errors import Conflict, InvalidInput, NotFound, StorageTrouble
from outlast.images import work
from outlast.images.library import LIBRARY, Image, Library, check_room, check_sha256
from outlast.images.look import SIZE_MAX
from outlast.images.pace import Progress
from outlast.images.work import Leftover
from outlast.storage.files import trouble_of
from outlast.storage.names import check_name

PREFIX, PART, ABOUT = ".upload-", "part", "upload.json"


@dataclass(frozen=True, slots=True)
class Upload:
    """What an image will be, and how much of it is there."""

    name: str
    size_bytes: int
    sha256: str  # "" = not said
    key: str = ""
    got_bytes: int = 0


class Uploads:
    """Of the pool in this directory. Methods block."""

    def __init__(self, pool_dir: Path) -> None:
        self._library = Library(pool_dir)
        self._folder = pool_dir / LIBRARY

    def begin(self, name: str, size_bytes: int, sha256: str, key: str = "") -> Upload:
        """Begin or go on. Raises InvalidInput, StorageTrouble, Conflict when the name is taken."""
        place = self._place(name)
        wished = Upload(name, size_bytes, check_sha256(sha256), key)
        if not (wished.sha256 or key) or not 0 < size_bytes <= SIZE_MAX:
            raise InvalidInput("an upload says its size, and its SHA-256 or a key")
        if (self._folder / name).exists():
            raise Conflict(f"there is an image '{name}' already",
                           hint=f"take another name, or: outlast image remove {name}")  # fmt: skip
        with contextlib.suppress(NotFound, StorageTrouble):
            found = self.get(name)
            if replace(found, got_bytes=0) == wished:
                return found
        self.forget(name)
        try:
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            check_room(self._folder, size_bytes)
            place.mkdir(mode=0o700)
            (place / PART).touch(mode=0o600)
            (place / ABOUT).write_text(json.dumps(asdict(wished)))
        except OSError as error:
            raise trouble_of(error, place) from error
        return wished

    def get(self, name: str) -> Upload:
        """Raises NotFound, StorageTrouble."""
        place = self._place(name)
        try:
            raw = json.loads((place / ABOUT).read_text())
            got = (place / PART).stat().st_size
            key = str(raw.get("key", ""))
            return Upload(name, int(raw["size_bytes"]), str(raw["sha256"]), key, got)
        except FileNotFoundError:
            raise NotFound(f"no upload of '{name}' is under way") from None
        except OSError as error:
            raise trouble_of(error, place) from error
        except (ValueError, KeyError, TypeError):
            raise StorageTrouble(f"{place / ABOUT} is damaged", hint="begin anew") from None

    def whole(self, name: str) -> Upload:
        """The same. Raises Conflict before all of it is there."""
        known = self.get(name)
        if left := known.size_bytes - known.got_bytes:
            raise Conflict(f"{left} bytes of '{name}' have not come yet", hint="send the rest")
        return known

    def append(self, name: str, offset: int, data: bytes) -> int:
        """Take a piece; how much is there now. Raises Conflict, InvalidInput, NotFound,
        StorageTrouble."""
        known = self.get(name)
        if offset != known.got_bytes:
            raise Conflict(f"{known.got_bytes} bytes of '{name}' are there, not {offset}",
                           hint="does somebody else send it too?")  # fmt: skip
        if offset + len(data) > known.size_bytes:
            raise InvalidInput(f"'{name}' would be larger than the {known.size_bytes} bytes said")
        try:
            fd = os.open(self._place(name) / PART, os.O_WRONLY | os.O_CLOEXEC)
            try:
                rest, at = memoryview(data), offset
                while rest:
                    written = os.pwrite(fd, rest, at)
                    rest, at = rest[written:], at + written
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise trouble_of(error, self._place(name)) from error
        return at

    def take(self, name: str, rate_bytes_s: int, progress: Progress) -> Image:
        """Make the image of it. Raises as `Library.take`; Conflict before all of it is there."""
        known, part = self.whole(name), self._place(name) / PART
        try:
            image = self._library.take(
                name, str(part), sha256=known.sha256, rate_bytes_s=rate_bytes_s,
                progress=progress, told=f"an upload of {name}",
            )  # fmt: skip
        except InvalidInput:
            self.forget(name)  # more of it would not help
            raise
        self.forget(name)
        return image

    def forget(self, name: str) -> None:
        """Nothing happens when there is none."""
        shutil.rmtree(self._place(name), ignore_errors=True)

    def leftovers(self) -> list[Leftover]:
        """Uploads to which nothing has been added for a while. Raises StorageTrouble."""
        try:
            found = list(self._folder.glob(f"{PREFIX}*/{PART}"))
            now_s = work.clock_of(self._folder) if found else 0.0
            return [
                Leftover(part.parent, part.parent.name.removeprefix(PREFIX), size.st_size, "")
                for part in found
                if now_s - (size := part.stat()).st_mtime > work.STILL_S
            ]
        except OSError as error:
            raise trouble_of(error, self._folder) from error

    def _place(self, name: str) -> Path:
        return self._folder / f"{PREFIX}{check_name(name, 'image name')}"
