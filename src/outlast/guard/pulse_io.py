"""The pulse's storage thread: every read and write of the pool's storage happens here.

Rules:
1. One thread, one job at a time. A job may hang for ever (a process in D state cannot be helped);
   the main thread never waits for it, it only learns how long it has been pending.
2. A cycle is: look at the own block, write it, read the whole area, then look for newer views by
   their exact names. Every clock stamp is taken here, around the call it belongs to.
3. A register's newest version is searched by listing once, then by probing forward from the last
   known version by exact name. A damaged version is an error, never a reason to fall back.
4. Every trouble becomes a sentence in the result; nothing is retried within a job.

It decides nothing; pulse_core does.
"""

from __future__ import annotations

import contextlib
import errno
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from json import JSONDecodeError, loads
from pathlib import Path
from typing import Protocol

from outlast.errors import OutlastError, StorageTrouble
from outlast.guard.pulse_facts import Sample
from outlast.guard.pulse_windows import Instant
from outlast.model import SLOT_MAX, SlotRecord, View
from outlast.settings import PoolSettings
from outlast.storage.format import (
    RECORD_MAX,
    pool_from,
    record_parse,
    slot_from,
    version_of,
    version_text,
    view_from,
)

SECRET_BYTES = 32
_LIST_TRIES = 3


def now() -> Instant:
    """This moment on both clocks."""
    return Instant(
        time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
    )


class Area(Protocol):
    """The heartbeat area, as storage/heartbeat.py gives it. Calls may block for ever."""

    def write_block(self, raw: bytes) -> None: ...

    def read_all(self, slots_max: int = SLOT_MAX) -> list[bytes]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Basics:
    """What does not change while a pulse runs."""

    pool_uuid: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LoadJob:
    """Read pool.json and the secret."""


@dataclass(frozen=True, slots=True)
class RefreshJob:
    """Read the settings and the records of these slots."""

    slots: frozenset[int]


@dataclass(frozen=True, slots=True)
class CycleJob:
    slot: int
    block: bytes | None  # None: only read
    known_view: int
    named_views: frozenset[int]  # versions that blocks or beats have named


Job = LoadJob | RefreshJob | CycleJob


@dataclass(frozen=True, slots=True)
class Done:
    """The result of one job; what could not be read is None or absent and told in `error`."""

    job: Job
    basics: Basics | None = None
    settings: PoolSettings | None = None
    slots: Mapping[int, SlotRecord | None] = field(default_factory=dict)  # None: not registered
    sample: Sample | None = None
    error: str = ""


class Registers:
    """Reads register versions under `reg/`. Raises StorageTrouble, never guesses."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, int] = {}

    def newest(self, name: str) -> tuple[int, dict[str, object] | None]:
        """Newest version and value; (0, None): never written."""
        for _ in range(_LIST_TRIES):
            version = self._known.get(name) or self._listed(name)
            value = self.at(name, version) if version else None
            while (later := self.at(name, version + 1)) is not None:
                version, value = version + 1, later
            if value is not None or not version:
                self._known[name] = version
                return version, value
            self._known.pop(name, None)  # collected meanwhile: list again
        raise StorageTrouble(f"the versions of register {name} vanish faster than they are read")

    def newer(
        self, name: str, known: int, named: Iterable[int]
    ) -> Iterator[tuple[int, dict[str, object]]]:
        """All versions above `known` that can be found, ascending; `named` may jump over holes.

        Nearly always there are none, which must cost little: `known` is only looked for then.
        The known version must still be there (the newest ones are never collected), else the
        folder is listed again: what stands right above a hole may be a link that came too late.
        """
        named = [n for n in named if n > known]
        quiet = known and not named and self._stands(name, known)
        if quiet and self.at(name, known + 1) is None:
            return
        if not known or self.at(name, known) is None:
            self._known.pop(name, None)
            version, value = self.newest(name)
            if version <= known and known:
                raise StorageTrouble(
                    f"version {known} of register {name} is gone and none is newer: the storage "
                    "went back in time, or is not mounted where it was"
                )
            if value is not None:
                yield version, value
            known = max(known, version)
        hints = sorted(n for n in named if n > known + 1)
        while True:
            found = self.at(name, known + 1)
            while found is None and hints:
                hint = hints.pop(0)
                if hint > known and (found := self.at(name, hint)) is not None:
                    known = hint - 1
            if found is None:
                return
            known += 1
            self._known[name] = known
            yield known, found

    def _stands(self, name: str, version: int) -> bool:
        """True when there is such a file, by what the mount knows of it."""
        try:
            (self._root / name / version_text(version)).stat()
        except FileNotFoundError:
            return False
        except OSError as trouble:
            raise _trouble(f"version {version} of register {name}", trouble) from None
        return True

    def at(self, name: str, version: int) -> dict[str, object] | None:
        """The value of exactly this version; None: there is no such file."""
        path = self._root / name / version_text(version)
        for attempt in (1, 2):
            try:
                with open(path, "rb") as file:
                    data = file.read(RECORD_MAX + 4096)
                return record_parse(data, name, version).value
            except FileNotFoundError:
                return None
            except OSError as trouble:
                if trouble.errno != errno.ESTALE or attempt == 2:
                    raise _trouble(f"version {version} of register {name}", trouble) from None
        return None

    def _listed(self, name: str) -> int:
        try:
            names = (entry.name for entry in (self._root / name).iterdir())
            return max(map(version_of, names), default=0)
        except FileNotFoundError:
            return 0
        except OSError as trouble:
            raise _trouble(f"register {name}", trouble) from None


def _trouble(what: str, trouble: OSError) -> StorageTrouble:
    return StorageTrouble(f"{what} cannot be read: {trouble.strerror or trouble}")


class Reader(Protocol):
    """Registers, as Registers above and storage/etcd_register.py read them."""

    def newest(self, name: str) -> tuple[int, dict[str, object] | None]: ...

    def newer(
        self, name: str, known: int, named: Iterable[int]
    ) -> Iterator[tuple[int, dict[str, object]]]: ...


class Store:
    """Carries out jobs, in whatever thread calls it.

    open_area(path, slot) opens the heartbeat area, on first use and again after each trouble.
    registers: where they are read; below the directory when none is given.
    """

    def __init__(
        self, pool_dir: Path, open_area: Callable[[Path, int], Area],
        registers: Reader | None = None,
    ) -> None:  # fmt: skip
        self._dir = pool_dir
        self._open_area = open_area
        self._area: Area | None = None
        self._registers = registers or Registers(pool_dir / "reg")

    def do(self, job: Job) -> Done:
        try:
            if isinstance(job, LoadJob):
                return Done(job, basics=self._basics())
            if isinstance(job, RefreshJob):
                return self._refresh(job)
        except OutlastError as trouble:
            return Done(job, error=trouble.sentence)
        return Done(job, sample=self._cycle(job))

    def close(self) -> None:
        if self._area is not None:
            self._area.close()
            self._area = None

    def _basics(self) -> Basics:
        try:
            said = loads((self._dir / "pool.json").read_bytes())
            secret = bytes.fromhex((self._dir / "secret").read_text("ascii").strip())
            if len(secret) != SECRET_BYTES:
                raise ValueError("not the length of a secret")
            return Basics(str(said["uuid"]), secret)
        except OSError as trouble:
            name = trouble.filename or self._dir
            raise _trouble(str(name), trouble) from None
        except (JSONDecodeError, KeyError, TypeError, ValueError):
            raise StorageTrouble(f"pool.json or secret in {self._dir} is damaged") from None

    def _refresh(self, job: RefreshJob) -> Done:
        version, value = self._registers.newest("pool")
        if value is None:
            raise StorageTrouble(f"there are no pool settings in {self._dir} (register pool)")
        settings = pool_from(value)
        slots: dict[int, SlotRecord | None] = {}
        errors: list[str] = []
        for slot in sorted(job.slots):
            try:
                version, value = self._registers.newest(f"slot/{slot}")
                slots[slot] = slot_from(value) if version else None
            except StorageTrouble as trouble:
                errors.append(trouble.sentence)
        return Done(job, settings=settings, slots=slots, error="; ".join(errors))

    def _cycle(self, job: CycleJob) -> Sample:
        started = now()
        before, acked, area, error = None, None, None, ""
        read_start = read_end = started
        try:
            file = self._area = self._area or self._open_area(self._dir / "hb", job.slot)
            if job.block is not None:
                before = file.read_all(job.slot)[job.slot]
                started = now()
                file.write_block(job.block)
                acked = now()
            read_start = now()
            area = file.read_all()
            read_end = now()
        except (OSError, StorageTrouble) as trouble:
            error = f"heartbeat area: {_sentence(trouble)}"
            with contextlib.suppress(OSError, StorageTrouble):
                self.close()
            self._area = None
            read_end = now()
        views, view_error = self._views(job) if area is not None else ([], "")
        return Sample(
            started, read_start, read_end, written=job.block, acked=acked, before=before,
            area=area, views=tuple(views), error=error, view_error=view_error,
        )  # fmt: skip

    def _views(self, job: CycleJob) -> tuple[list[View], str]:
        views: list[View] = []
        try:
            for version, value in self._registers.newer("view", job.known_view, job.named_views):
                views.append(view_from(value, version))
        except StorageTrouble as trouble:
            return views, trouble.sentence
        return views, ""


def _sentence(trouble: OSError | StorageTrouble) -> str:
    return trouble.sentence if isinstance(trouble, StorageTrouble) else str(trouble)


class StorageThread:
    """Runs one job at a time; `wake` is called (in the thread) after each result was queued."""

    def __init__(self, store: Store, wake: Callable[[], None]) -> None:
        self._store, self._wake = store, wake
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Done | Exception] = queue.SimpleQueue()
        self.pending: Job | None = None
        self._since = now()
        self._thread = threading.Thread(target=self._run, name="storage", daemon=True)
        self._thread.start()

    def give(self, job: Job) -> None:
        """Start a job. Only when none is pending."""
        if self.pending is not None:
            raise RuntimeError("the storage thread is busy")
        self.pending, self._since = job, now()
        self._jobs.put(job)

    def take(self) -> Done | None:
        """The result of the pending job, or None while it is not there.

        Raises what the job raised when that is no trouble of the storage but a mistake here.
        """
        try:
            done = self._results.get_nowait()
        except queue.Empty:
            return None
        if isinstance(done, Exception):
            raise done
        self.pending = None
        return done

    def pending_ns(self) -> int:
        """How long the pending job has been running; 0 without one."""
        return now().boot_ns - self._since.boot_ns if self.pending is not None else 0

    def stop(self, within_s: float) -> bool:
        """Ask the thread to end; False when the storage holds it longer than that."""
        self._jobs.put(None)
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._results.put(self._store.do(job))
            except Exception as mistake:  # else the thread would end unseen: the main thread raises
                self._results.put(mistake)
            self._wake()
        self._store.close()
