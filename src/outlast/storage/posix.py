"""The register on a shared file system: one file per version, published by link(2).

It keeps what register.py promises as long as the mount keeps link(2) atomic between hosts and an
acknowledged link durable (`outlast storage probe` asks it). Rules:

1. A value is written to a temporary (in another directory), synced, then linked to the name of
   version expected + 1, and the directory is synced. A version file never changes.
2. The name being taken is a conflict unless the file there has the nonce of this swap: then an
   earlier try of it had succeeded and only the reply was lost.
3. A link may be executed hours late, onto the name of a version that was collected meanwhile. So
   a version counts only if it is *real*: it is the highest and its predecessor, with the nonce
   this process had read there, still opens by its exact name; or its successor names it as
   `prev`. (Lowest goes first: while a version is there, none after it has been collected.)
4. An error is neither success nor failure: look again, repeat the link with the same temporary
   and nonce, for `settle_s` seconds; then the answer is UNKNOWN.
5. Reading probes exact names forward from the newest version known (directory caches may lie for
   a minute, a failed open of a new name seldom does); a listing is used when nothing is known.
6. The collector removes lowest first, only versions <= newest - keep whose successor is older
   than `keep_age_s` by the storage's own time stamps, and which have no second name: as long as
   its temporary is there, a late link could bring a version back. Foreign names stay.
7. Less than was seen before, or another content under a known version, means that the storage
   went back in time: no reading, no swap, StorageTrouble.
8. One spare temporary is kept ready (temporaries.py), so that a full volume stops no swap.

It does not bound how long the storage may hang: calls block with it.
"""

from __future__ import annotations

import errno
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from outlast.errors import InvalidInput, StorageTrouble
from outlast.storage.files import Files, trouble_of
from outlast.storage.format import Record, record_bytes, record_parse, version_of, version_text
from outlast.storage.names import SINGLES, check_class, split_name
from outlast.storage.register import Outcome, Swap
from outlast.storage.temporaries import Temporaries, make_dir

ROUNDS_MAX = 20  # a register that moves on this often during one read is left to the caller
_PAUSE_S = (0.02, 0.5)  # first and longest pause between two tries


@dataclass(frozen=True, slots=True)
class _Known:
    """The newest version this process has seen of one register."""

    version: int
    nonce: str  # "" when only the number is known


@dataclass(frozen=True, slots=True)
class _Task:
    """One swap under way."""

    name: str
    folder: Path
    temporary: Path
    expected: int
    prev: str  # nonce of version `expected`
    nonce: str

    @property
    def version(self) -> int:
        return self.expected + 1


class PosixRegister:
    """See the rules above. Safe for several threads, and for several processes per writer."""

    def __init__(
        self,
        root: Path,
        writer: str,
        *,
        keep: int = 8,
        keep_age_s: float = 3600,
        settle_s: float = 5,
        files: Files | None = None,
        nonce: Callable[[], str] = lambda: secrets.token_hex(16),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        seen: Mapping[str, int] | None = None,
    ) -> None:
        """`root` is the pool's directory, `writer` names this host there (its slot).

        `seen`: versions this host saw in an earlier life, for rule 7. Touches no file yet.
        Raises InvalidInput for a writer that cannot be a directory's name.
        """
        if not writer.isascii() or not writer.replace("-", "").isalnum() or keep < 2:
            raise InvalidInput(f"no usable writer or keep: {writer!r}, {keep}")
        self._reg = root / "reg"
        self._writer, self._keep, self._keep_age_ns = writer, keep, int(keep_age_s * 1e9)
        self._settle_s = settle_s
        self._files = files or Files()
        self._nonce, self._clock, self._sleep = nonce, clock, sleep
        self._lock = threading.Lock()
        self._known = {name: _Known(version, "") for name, version in (seen or {}).items()}
        self._temporaries = Temporaries(self._files, root / "tmp" / writer, nonce)
        self.trouble = ""  # the last trouble that did not reach the caller, for the log

    # ---- the port

    def read(self, name: str) -> tuple[int, dict[str, object] | None]:
        version, record = self._newest(name)
        return version, record.value if record else None

    def swap(self, name: str, expected: int, value: Mapping[str, object]) -> Swap:
        folder = self._folder(name)
        known = self._known.get(name)
        if known is None or known.version < expected or not known.nonce:
            self._newest(name)
        known = self._known.get(name, _Known(0, ""))
        if known.version != expected:
            return Swap(Outcome.CONFLICT, known.version)
        nonce = self._nonce()
        data = record_bytes(name, expected + 1, nonce, self._writer, value, known.nonce)
        task = _Task(name, folder, self._temporaries.path(nonce), expected, known.nonce, nonce)
        try:
            self._prepare(task)
            self._temporaries.write(task.temporary, data)
            outcome = self._publish(task)
        finally:
            self._temporaries.drop(task.temporary)
        if outcome is Outcome.OK:
            self._remember(name, task.version, nonce, None)
            if task.version % self._keep == 0:
                self.collect(name)
            return Swap(outcome, task.version)
        return Swap(outcome, self._known.get(name, known).version)

    def names(self, kind: str) -> list[str]:
        top = self._reg / check_class(kind)
        try:
            if kind in SINGLES:
                return [kind] if self._listing(top) else []
            return sorted(
                name
                for name in (f"{kind}/{ident}" for ident in self._entries(top))
                if self._written(name)
            )
        except OSError as error:
            raise trouble_of(error, top) from error

    # ---- besides the port

    def seen(self) -> dict[str, int]:
        """The newest version seen of each register, to be kept for the next life (rule 7)."""
        with self._lock:
            return {name: known.version for name, known in self._known.items()}

    def collect(self, name: str) -> int:
        """Remove what rule 6 allows of one register; how many went. Trouble only ends it."""
        folder, gone = self._folder(name), 0
        try:
            versions = self._listing(folder)
            if not versions:
                return 0
            newest_ns = self._files.stat(folder / version_text(versions[-1])).mtime_ns
            for version, successor in pairwise(versions):
                if version > versions[-1] - self._keep:
                    break
                path = folder / version_text(version)
                try:
                    since_ns = self._files.stat(folder / version_text(successor)).mtime_ns
                    names = self._files.stat(path).names
                    if newest_ns - since_ns < self._keep_age_ns or names > 1:
                        break
                    self._files.unlink(path)
                except FileNotFoundError:  # another host's collector was quicker
                    continue
                gone += 1
        except (OSError, StorageTrouble) as trouble:
            self.trouble = f"collecting {name}: {trouble}"
        return gone

    # ---- reading

    def _newest(self, name: str) -> tuple[int, Record | None]:
        folder = self._folder(name)
        before = self._known.get(name)
        start = before
        for _ in range(ROUNDS_MAX):
            try:
                found = self._newest_from(name, folder, start)
            except OSError as error:
                if error.errno != errno.ESTALE:  # else collected while open: look again
                    raise trouble_of(error, folder) from error
                found = None
            if found is not None:
                version, record = found
                self._remember(name, version, record.nonce if record else "", before)
                return found
            start = None  # what was known is collected: list
        raise StorageTrouble(
            f"register {name} does not hold still: its files vanish while they are read",
            hint="check the mount options of the pool's storage with 'outlast storage probe'",
        )

    def _newest_from(
        self, name: str, folder: Path, known: _Known | None
    ) -> tuple[int, Record | None] | None:
        """One pass of rule 5 from what is known, or from a listing; None: to be repeated."""
        listed = [] if known else self._listing(folder)
        start = known.version if known else (listed[-1] if listed else 0)
        later: list[bytes] = []
        while (more := self._raw(folder, start + len(later) + 1)) is not None:
            later.append(more)
        newest = start + len(later)
        if newest == 0:
            return 0, None
        # Only while `start` is still there were the names after it the first of their number.
        first = self._raw(folder, start) if start else later[0]
        if first is None:
            return None
        record = record_parse(later[-1] if later else first, name, newest)
        if known and known.nonce:  # rule 7; a version that is damaged but not the newest passes
            was = _record(first, name, start)
            after = _record(later[0], name, start + 1) if later else None
            if after and after.prev != known.nonce:
                raise _rewritten(name, start)
            if was and was.nonce != known.nonce:
                return None  # a late link onto its collected number, or rewritten: list
        return newest, record

    def _remember(self, name: str, version: int, nonce: str, before: _Known | None) -> None:
        """Keep what was read; `before` is what was known when the reading began."""
        if before and before.version > version:
            raise StorageTrouble(
                f"the pool's storage went backwards: register {name} was at version "
                f"{before.version} and is at version {version} now",
                hint="was a snapshot or an old replica brought back? decide which is right",
            )
        with self._lock:
            known = self._known.get(name, _Known(0, ""))
            if known.version == version and known.nonce not in {"", nonce}:
                raise _rewritten(name, version)
            if version > known.version or (version == known.version and version):
                self._known[name] = _Known(version, nonce)

    # ---- writing

    def _publish(self, task: _Task) -> Outcome:
        give_up, pause = self._clock() + self._settle_s, _PAUSE_S[0]
        first = True
        while True:
            try:
                outcome = self._attempt(task, first)
            except (OSError, StorageTrouble) as trouble:
                self.trouble, outcome = f"swap of {task.name}: {trouble}", None
            if outcome is not None:
                return outcome
            first = False
            if self._clock() >= give_up:
                return Outcome.UNKNOWN
            self._sleep(pause)
            pause = min(2 * pause, _PAUSE_S[1])

    def _attempt(self, task: _Task, first: bool) -> Outcome | None:
        """One try; None or an error means: not settled yet."""
        target = task.folder / version_text(task.version)
        refused: OSError | None = None
        linked = False
        try:
            self._files.link(task.temporary, target)
            linked = True
        except FileExistsError:
            pass
        except OSError as error:
            refused = error
        nonce = task.nonce
        if not linked:
            data = self._raw(task.folder, task.version)
            if data is None:
                listed = self._listing(task.folder)
                if listed and listed[-1] > task.version:
                    return Outcome.UNKNOWN  # written by whomever, and collected since
                if refused is not None:
                    self.trouble = f"swap of {task.name}: {refused}"
                return None
            nonce = record_parse(data, task.name, task.version).nonce
        if nonce != task.nonce:
            return Outcome.CONFLICT if self._is_real(task, nonce) else Outcome.UNKNOWN
        self._files.sync_dir(task.folder)
        if self._is_real(task, nonce):
            return Outcome.OK
        # Landed on a collected number. An earlier try may have been real before that.
        return Outcome.CONFLICT if linked and first else Outcome.UNKNOWN

    def _is_real(self, task: _Task, nonce: str) -> bool:
        """Rule 3 for the file that stands at the version of this swap."""
        listed = self._listing(task.folder)
        if listed and listed[-1] == task.version:
            if not task.expected:
                return True
            before = self._raw(task.folder, task.expected)
            if before and record_parse(before, task.name, task.expected).nonce == task.prev:
                return True
        after = self._raw(task.folder, task.version + 1)
        if after and record_parse(after, task.name, task.version + 1).prev == nonce:
            return True
        # Not real, if it is still there: then no real successor of it can have been collected.
        still = self._raw(task.folder, task.version)
        if not still or record_parse(still, task.name, task.version).nonce != nonce:
            raise StorageTrouble(f"version {task.version} of {task.name} was collected meanwhile")
        if not listed or listed[-1] <= task.version:
            raise StorageTrouble(f"the storage gives an old listing of {task.folder}")
        return False

    def _prepare(self, task: _Task) -> None:
        """The directories of a new register and of this writer's temporaries."""
        try:
            if task.expected == 0 or not self._temporaries.ready:
                self._files.listdir(self._reg)  # not mounted? then nothing is made
            if task.expected == 0:
                for folder in (task.folder.parent, task.folder):
                    if folder != self._reg:
                        make_dir(self._files, folder)
            self._temporaries.prepare()
        except OSError as error:
            raise trouble_of(error, task.folder) from error

    # ---- paths

    def _folder(self, name: str) -> Path:
        kind, ident = split_name(name)
        return self._reg / kind / ident if ident else self._reg / kind

    def _raw(self, folder: Path, version: int) -> bytes | None:
        try:
            return self._files.read(folder / version_text(version))
        except FileNotFoundError:
            return None

    def _listing(self, folder: Path) -> list[int]:
        """All versions in a register's directory, lowest first."""
        return sorted(version for entry in self._entries(folder) if (version := version_of(entry)))

    def _entries(self, folder: Path) -> list[str]:
        try:
            return self._files.listdir(folder)
        except FileNotFoundError:
            self._files.listdir(self._reg)  # absent too: the storage is not mounted
            return []

    def _written(self, name: str) -> bool:
        try:
            folder = self._folder(name)
            return name in self._known or bool(self._listing(folder))
        except (InvalidInput, NotADirectoryError):  # something foreign
            return False


def _record(data: bytes, name: str, version: int) -> Record | None:
    try:
        return record_parse(data, name, version)
    except StorageTrouble:
        return None


def _rewritten(name: str, version: int) -> StorageTrouble:
    return StorageTrouble(
        f"the pool's storage went backwards: version {version} of register {name} is not the one "
        "that was read before",
        hint="was a snapshot or an old replica brought back? decide which is right",
    )
