"""The temporaries of one writer, `tmp/<writer>/`: where the content of a version is born.

Rules:
1. One file per swap, named by its nonce, written and synced before it gets its real name by a
   link, dropped afterwards (its real name stays).
2. One file more, `spare`, is kept written in full. When the volume is full, its blocks take the
   content instead, so that a lease can still change hands while a guest has filled the storage.
   File systems that never write in place (copy on write) may refuse even that.
3. What an earlier life left behind is swept once it is an hour old by the time stamps of the
   storage.

It knows nothing of registers and versions.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

from outlast.storage.files import FULL, Files, trouble_of

SPARE = "spare"
SPARE_BYTES = 64 * 1024
LEFT_OVER_NS = 3600 * 10**9


class Temporaries:
    """See the rules above. `ready` tells whether directory and, if possible, spare are there."""

    def __init__(self, files: Files, folder: Path, name: Callable[[], str]) -> None:
        self._files, self._folder, self._name = files, folder, name
        self._lock = threading.Lock()
        self._swept = False
        self.ready = False
        self.trouble = ""

    def path(self, name: str) -> Path:
        return self._folder / name

    def prepare(self) -> None:
        """Make directory and spare unless they are there. Raises OSError."""
        with self._lock:
            if self.ready:
                return
            make_dir(self._files, self._folder.parent)
            make_dir(self._files, self._folder)
            self._keep_spare()
            if not self._swept:
                self._sweep()
            self.ready = self._swept = True

    def write(self, path: Path, data: bytes) -> None:
        """A new temporary with this content, on the disk. Raises StorageTrouble."""
        try:
            self._files.create(path, data)
        except OSError as error:
            if error.errno not in FULL or len(data) > SPARE_BYTES:
                raise trouble_of(error, path) from error
            try:
                self._from_spare(path, data)
            except OSError:
                raise trouble_of(error, path) from error

    def drop(self, path: Path) -> None:
        """Remove a temporary; what cannot be removed is swept in a later life."""
        with contextlib.suppress(OSError):
            self._files.unlink(path)

    def _from_spare(self, path: Path, data: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.unlink(path)
        self.ready = False  # the next swap makes a new spare if there is room
        self._files.rename(self._folder / SPARE, path)
        self._files.overwrite(path, data)

    def _keep_spare(self) -> None:
        try:
            self._files.create(self._folder / SPARE, b"\xa5" * SPARE_BYTES)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.trouble = f"no spare temporary: {error}"
            self.drop(self._folder / SPARE)  # half a spare is none

    def _sweep(self) -> None:
        """Of all writers: a host may never come back. At worst a sleeper's swap gets UNKNOWN."""
        probe = self._folder / self._name()
        try:
            self._files.create(probe, b"")
            now_ns = self._files.stat(probe).mtime_ns
            self._files.unlink(probe)
            for writer in self._files.listdir(self._folder.parent):
                for entry in self._files.listdir(self._folder.parent / writer):
                    path = self._folder.parent / writer / entry
                    old = now_ns - self._files.stat(path).mtime_ns > LEFT_OVER_NS
                    if old and entry != SPARE:
                        self._files.unlink(path)
        except OSError as error:  # next life, then
            self.trouble = f"sweeping {self._folder.parent}: {error}"


def make_dir(files: Files, folder: Path, mode: int = 0o700) -> None:
    """A directory, its name on the disk; nothing if it is there. Raises OSError."""
    try:
        files.mkdir(folder, mode)
    except FileExistsError:
        return
    files.sync_dir(folder.parent)
