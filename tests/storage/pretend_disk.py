"""A shared storage in memory that misbehaves on purpose, below several real PosixRegisters.

Each host is a thread that stops before every file operation until the schedule lets it go on, so
that one seed gives one interleaving. With its turn a host is told what the storage makes of the
operation (`Fault`). Links that were put off are executed when the schedule says so, even after
their host has given up or died.

The disk keeps the truth about each register: which value was, at the instant of its link, the
successor of the highest version. A link that comes later onto a collected number is not true.
"""

from __future__ import annotations

import contextlib
import errno
import json
import random
import threading
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from outlast.storage.files import Files, Stat
from outlast.storage.format import version_of


class Fault(Enum):
    NONE = "none"
    FAIL = "not executed, EIO"
    LOST = "executed, answered by EIO"
    LATE = "put off, answered by ETIMEDOUT"
    FULL = "not executed, ENOSPC"
    STALE = "a listing from before the last change"
    DEATH = "the host dies"


class HostDied(BaseException):
    pass


class Disk:
    """All hosts see this one."""

    def __init__(self) -> None:
        self.files: dict[Path, list] = {}  # path -> [bytes, mtime], shared by hard links
        self.folders: dict[Path, list[str] | None] = {}  # its listing before the last change
        self.late: list[tuple[list, Path]] = []
        self.truth: dict[Path, list[object]] = {}  # folder -> value of version 1, 2, ...
        self.now = 0

    def add(self, path: Path, inode: list) -> None:
        if path in self.files or path in self.folders:
            raise FileExistsError(errno.EEXIST, "exists", str(path))
        self.change(path.parent)
        self.files[path] = inode
        version = version_of(path.name)
        if version:
            true = self.truth.setdefault(path.parent, [])
            if version == len(true) + 1:
                true.append(json.loads(inode[0].partition(b"\n")[2])["value"])

    def change(self, folder: Path) -> None:
        if folder not in self.folders:
            raise FileNotFoundError(errno.ENOENT, "no such directory", str(folder))
        self.folders[folder] = self.listing(folder)

    def listing(self, folder: Path) -> list[str]:
        return [p.name for p in (*self.files, *self.folders) if p.parent == folder and p != folder]

    def execute_late(self, index: int) -> None:
        inode, target = self.late.pop(index)
        if self.names(inode):  # a file without a name cannot get one
            with contextlib.suppress(OSError):
                self.add(target, inode)

    def names(self, inode: list) -> int:
        return sum(found is inode for found in self.files.values())


class PretendFiles(Files):
    """One host's access to the disk. `gate` waits for the host's turn and returns its fault."""

    def __init__(self, disk: Disk, gate: Callable[[str], Fault]) -> None:
        self.disk, self.gate = disk, gate

    def _do(self, operation: str, action: Callable[[], object], path: Path) -> object:
        fault = self.gate(operation)
        self.disk.now += 1
        if fault is Fault.DEATH:
            raise HostDied
        if fault is Fault.FAIL:
            raise OSError(errno.EIO, "pretended", str(path))
        if fault is Fault.FULL:
            raise OSError(errno.ENOSPC, "pretended", str(path))
        if fault is Fault.STALE:
            before = self.disk.folders.get(path)
            if before is not None:
                return list(before)
        result = action()
        if fault is Fault.LOST:
            raise OSError(errno.EIO, "pretended", str(path))
        return result

    def read(self, path: Path) -> bytes:
        return self._do("read", lambda: self._find(path)[0], path)

    def create(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        self._do("create", lambda: self.disk.add(path, [data, self.disk.now]), path)

    def overwrite(self, path: Path, data: bytes) -> None:
        def action() -> None:
            self._find(path)[:] = [data, self.disk.now]

        self._do("overwrite", action, path)

    def link(self, source: Path, target: Path) -> None:
        fault = self.gate("link")
        self.disk.now += 1
        if fault is Fault.LATE:
            self.disk.late.append((self._find(source), target))
            raise OSError(errno.ETIMEDOUT, "pretended", str(target))
        given, self.gate = self.gate, lambda _operation: fault
        try:
            self._do("link", lambda: self.disk.add(target, self._find(source)), target)
        finally:
            self.gate = given

    def rename(self, source: Path, target: Path) -> None:
        def action() -> None:
            self.disk.files[target] = self._find(source)
            del self.disk.files[source]

        self._do("rename", action, target)

    def unlink(self, path: Path) -> None:
        def action() -> None:
            self._find(path)
            self.disk.change(path.parent)
            del self.disk.files[path]

        self._do("unlink", action, path)

    def mkdir(self, path: Path, mode: int = 0o700) -> None:
        def action() -> None:
            if path in self.disk.folders:
                raise FileExistsError(errno.EEXIST, "exists", str(path))
            if path.parent != path:
                self.disk.change(path.parent)
            self.disk.folders[path] = None

        self._do("mkdir", action, path)

    def listdir(self, path: Path) -> list[str]:
        def action() -> list[str]:
            if path not in self.disk.folders:
                raise FileNotFoundError(errno.ENOENT, "no such directory", str(path))
            return self.disk.listing(path)

        return self._do("listdir", action, path)

    def stat(self, path: Path) -> Stat:
        def action() -> Stat:
            inode = self._find(path)
            return Stat(inode[1], self.disk.names(inode))

        return self._do("stat", action, path)

    def sync_dir(self, path: Path) -> None:
        self._do("sync_dir", lambda: None, path)

    def _find(self, path: Path) -> list:
        try:
            return self.disk.files[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path)) from None


class Schedule:
    """Runs hosts one operation at a time, in an order and with faults drawn from one seed."""

    def __init__(self, disk: Disk, seed: int, fault_rate: float) -> None:
        self.disk, self.random, self.fault_rate = disk, random.Random(seed), fault_rate
        self._turn = threading.Condition()
        self._waiting: dict[int, str] = {}
        self._fault: dict[int, Fault] = {}
        self._running = 0

    def gate(self, host: int) -> Callable[[str], Fault]:
        def wait(operation: str) -> Fault:
            with self._turn:
                self._waiting[host] = operation
                self._running -= 1
                self._turn.notify_all()
                while host not in self._fault:
                    self._turn.wait()
                return self._fault.pop(host)

        return wait

    def run(self, bodies: list[Callable[[], None]]) -> None:
        troubles: list[BaseException] = []

        def life(body: Callable[[], None]) -> None:
            try:
                body()
            except HostDied:
                pass
            except BaseException as trouble:
                troubles.append(trouble)
            with self._turn:
                self._running -= 1
                self._turn.notify_all()

        threads = [threading.Thread(target=life, args=(body,), daemon=True) for body in bodies]
        self._running = len(threads)
        for thread in threads:
            thread.start()
        slow = self.random.randrange(len(bodies)) if self.random.random() < 0.7 else -1
        while True:
            with self._turn:
                while self._running:
                    assert self._turn.wait(20), "a host neither works nor waits"
                if not self._waiting:
                    break
                if self.disk.late and self.random.random() < 0.04:
                    self.disk.execute_late(self.random.randrange(len(self.disk.late)))
                hosts = sorted(self._waiting)
                host = self.random.choice(hosts)
                if host == slow and self.random.random() < 0.9:
                    host = self.random.choice(hosts)
                operation = self._waiting.pop(host)
                self._fault[host] = self._draw(operation)
                self._running += 1
                self._turn.notify_all()
        for thread in threads:
            thread.join(20)
        while self.disk.late:
            self.disk.execute_late(self.random.randrange(len(self.disk.late)))
        if troubles:
            raise troubles[0]

    def _draw(self, operation: str) -> Fault:
        if self.random.random() >= self.fault_rate:
            return Fault.NONE
        kinds = [Fault.FAIL, Fault.LOST]
        if operation == "link":
            kinds += [Fault.LATE] * 4 + [Fault.LOST] * 2 + [Fault.FULL]
        if operation in {"create", "overwrite"}:
            kinds = [Fault.FAIL, Fault.FULL]
        if operation == "listdir":
            kinds = [Fault.FAIL] + [Fault.STALE] * 3
        if self.random.random() < 0.03:
            return Fault.DEATH
        return self.random.choice(kinds)
