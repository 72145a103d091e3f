"""What this machine sees of its pool's storage: what is wrong with it, how much is free.

Rules:
1. Nothing is changed, but for a file of one page that is made and removed where none can be read.
2. A server that does not answer is not waited for longer than LIMIT_S; storage() itself may hang.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from outlast.cli import machine
from outlast.cli.host_lights import StorageFacts
from outlast.equipment import Repository
from outlast.errors import OutlastError
from outlast.mounts import registry, table
from outlast.mounts.systemd import Mounts
from outlast.mounts.table import Mount
from outlast.storage.beneath import mount_of
from outlast.storage.etcd import Etcd
from outlast.storage.etcd_access import Access, read_access
from outlast.storage.etcd_tls import CERT
from outlast.storage.register import Register
from outlast.wire import seal

T = TypeVar("T")

LIMIT_S = 5.0
ETCD_S = 1.0  # for each of its addresses
PIECE = 4096


def within(limit_s: float, ask: Callable[[], T], otherwise: T) -> T:
    """The answer, or `otherwise` when there is none in time or it fails."""
    answer: list[T] = []

    def asked() -> None:
        with contextlib.suppress(OSError, OutlastError, ValueError):
            answer.append(ask())

    thread = threading.Thread(target=asked, daemon=True)
    thread.start()
    thread.join(limit_s)
    return answer[0] if answer else otherwise


def quietly(ask: Callable[[], T], otherwise: T) -> T:
    try:
        return ask()
    except (OSError, ValueError):
        return otherwise


def free_mib(place: Path) -> int:
    return quietly(lambda: shutil.disk_usage(place).free // 2**20, 0)


def etcd(pool_dir: Path, access: Access) -> StorageFacts:
    """The pool's etcd, as this host reaches it."""
    silent = []
    for url in access.urls:
        try:
            Etcd(replace(access, urls=(url,), answer_s=ETCD_S)).get("x")
        except OutlastError as error:
            silent.append(error.sentence)
    trouble = silent[0] if len(silent) == len(access.urls) else ""
    off_s = None
    with contextlib.suppress(OutlastError):
        off_s = machine.clock_off(pool_dir, time.time())
    return StorageFacts(
        str(pool_dir), trouble, "etcd", free_mib=free_mib(pool_dir), clock_off_s=off_s,
        silent=tuple(silent),
        etcd_days=seal.days_of(Path(access.pki) / CERT, time.time()) if access.pki else None,
    )  # fmt: skip


def storage(pool_dir: Path) -> StorageFacts:
    """The pool's directory; may hang with its server."""
    path = str(pool_dir)
    if (access := read_access(pool_dir)) is not None:
        return etcd(pool_dir, access)
    if not pool_dir.is_dir():
        return StorageFacts(path, f"there is no directory {path}")
    fs_type, mounted = mount_of(pool_dir)
    options = tuple(mounted.rpartition("(")[2].rstrip(")").split(","))
    own_disk = pool_dir.stat().st_dev == Path("/").stat().st_dev
    off_s, trouble = None, ""
    if (pool_dir / "tmp").is_dir():
        try:
            off_s = machine.clock_off(pool_dir, time.time())
        except OutlastError as error:
            trouble = error.sentence
    return StorageFacts(
        path, trouble, fs_type, options, own_disk, direct_trouble(pool_dir), free_mib(pool_dir),
        off_s,
    )  # fmt: skip


def repositories(register: Register) -> list[tuple[Repository, str]]:
    """The pool's further storage, and what is wrong with it here. Raises StorageTrouble."""
    mounted = Mounts().all()
    return [(one, repository_trouble(one, mounted)) for one in registry.repositories(register)]


def repository_trouble(one: Repository, mounted: Sequence[Mount]) -> str:
    """In a sentence; no server is waited for longer than LIMIT_S."""
    if one.kind == "dir":
        there = within(LIMIT_S, Path(one.path).is_dir, None)
        words = {True: "", False: f"there is no directory {one.path}", None: "it does not answer"}
        return words[there]
    choice, found = registry.choice_of(one), table.at(mounted, one.path)
    why = table.trouble(choice, one.path, mounted)
    if why or found is None:
        return why
    lacking = table.lacking(choice.options, found.fs_type, found.options)
    return f"it is mounted without {', '.join(lacking)}" if lacking else ""


def direct_trouble(pool_dir: Path) -> str:
    """Why a read past the cache fails; "" = it works. Reads the heartbeat area, or tries a file."""
    area = pool_dir / "hb"
    made = None
    if not area.exists():
        made = area = pool_dir / f".outlast-check-{os.getpid()}"
        try:
            area.write_bytes(bytes(PIECE))
        except OSError as error:
            return f"nothing can be written there ({error.strerror})"
    try:
        fd = os.open(area, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        try:
            with mmap.mmap(-1, PIECE) as page:
                return "" if os.preadv(fd, [page], 0) == PIECE else "the read was short"
        finally:
            os.close(fd)
    except OSError as error:
        return str(error.strerror)
    finally:
        if made is not None:
            made.unlink(missing_ok=True)
