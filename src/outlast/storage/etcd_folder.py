"""The small files that all hosts of a pool on etcd share, as copies in each host's own directory.

    file/<path>      pool.json, secret, pki/..., power/...: the same bytes as on each host
    journal/<slot>   the end of one host's notes

Rules:
1. etcd has the truth. `pull` makes the copies equal to it; a file appears whole or not at all, and
   nobody but root reads it. Where etcd has no pool any more, the copies stay: they may be the last.
2. `shared` is how files are changed: pull, change, and what changed goes to etcd at once, all of it
   or nothing, and only where nobody else changed the same file meanwhile. On this host a lock keeps
   others from pulling then.
3. Nothing is taken from etcd to a place outside of the shared names, whatever its keys say.
4. Notes go one way: a host's own up, those of others down. Losing them costs nothing but history.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from outlast.errors import Conflict, StorageTrouble
from outlast.storage.etcd import NOTHING, Etcd, Value
from outlast.storage.etcd_access import read_access
from outlast.storage.files import trouble_of

FILES, JOURNAL = "file/", "journal/"
JOURNAL_MAX = 128 * 1024  # bytes of a host's newest notes that others can read
LOCK = ".lock"
LAST = "pool.json"  # where it is, everything else is
_SHARED = re.compile(r"pool\.json|secret|(pki|pki/issued|power)/[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class EtcdFolder:
    """The copies in one host's directory."""

    def __init__(self, root: Path, etcd: Etcd) -> None:
        self._root, self._etcd = root, etcd
        self._notes: dict[str, int] = {}  # what was taken of others, by revision
        self._sent = b""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else on this host pulls or changes meanwhile. Raises OSError."""
        fd = os.open(self._root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def pull(self) -> dict[str, Value]:
        """Make the copies what etcd has; all of it by path. Only while it is locked.

        Raises StorageTrouble.
        """
        found = {
            name.removeprefix(FILES): value for name, value in self._etcd.folder(FILES).items()
        }
        found = {path: value for path, value in found.items() if _SHARED.fullmatch(path)}
        if LAST not in found:
            raise StorageTrouble(
                f"there is no pool '{self._etcd.access.pool}' on etcd",
                hint="was it removed, or etcd made anew? this host keeps its copies",
            )
        try:
            for path in sorted(found, key=lambda path: (path == LAST, path)):
                _write(self._root / path, found[path].data)
            for path in self._here() - set(found):
                (self._root / path).unlink(missing_ok=True)
        except OSError as error:
            raise trouble_of(error, self._root) from error
        return found

    def push(self, before: dict[str, Value]) -> None:
        """Send what is not as it was pulled. Raises Conflict, StorageTrouble."""
        try:
            now = {path: (self._root / path).read_bytes() for path in self._here()}
        except OSError as error:
            raise trouble_of(error, self._root) from error
        put = {path: data for path, data in now.items()
               if path not in before or before[path].data != data}  # fmt: skip
        gone = set(before) - set(now)
        if not put and not gone:
            return
        done = self._etcd.transaction(
            [(FILES + path, before.get(path, NOTHING).revision) for path in (*put, *gone)],
            {FILES + path: data for path, data in put.items()},
            delete=[FILES + path for path in gone],
        )
        if not done:
            raise Conflict("somebody else changed the same files of the pool", hint="try again")

    def swap_notes(self, slot: int) -> None:
        """Send the own notes, take those of others. Raises StorageTrouble."""
        folder = self._root / "journal"
        try:
            own = _end(folder / f"{slot}.jsonl")
            if own != self._sent:
                self._etcd.transaction([], {f"{JOURNAL}{slot}": own})
                self._sent = own
            for name, known in self._etcd.folder(JOURNAL, keys_only=True).items():
                other = name.removeprefix(JOURNAL)
                if other == str(slot) or not other.isdigit():
                    continue
                if self._notes.get(other) != known.revision:
                    value = self._etcd.get(name)
                    _write(folder / f"{other}.jsonl", value.data)
                    self._notes[other] = value.revision
        except OSError as error:
            raise trouble_of(error, folder) from error

    def _here(self) -> set[str]:
        paths = (path for path in self._root.rglob("*") if path.is_file())
        names = {path.relative_to(self._root).as_posix() for path in paths}
        return {name for name in names if _SHARED.fullmatch(name)}


@contextlib.contextmanager
def shared(root: Path) -> Iterator[None]:
    """Around a change of shared files: rule 2. On a shared file system it does nothing.

    Raises Conflict, StorageTrouble; then the change is not the pool's, and the next pull undoes it.
    """
    access = read_access(root)
    if access is None:
        yield
        return
    folder = EtcdFolder(root, Etcd(access))
    with folder.locked():
        before = folder.pull()
        yield
        folder.push(before)


def _write(path: Path, data: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == data:
            return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _end(path: Path) -> bytes:
    """The last whole lines of a file, up to JOURNAL_MAX bytes."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - JOURNAL_MAX))
            data = file.read(JOURNAL_MAX)
    except FileNotFoundError:
        return b""
    if size > JOURNAL_MAX:
        data = data.partition(b"\n")[2]
    return data[: data.rfind(b"\n") + 1]
