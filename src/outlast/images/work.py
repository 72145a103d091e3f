"""Hidden folders in which things are made before they have a name, and what is left of dead ones.

    .new-<name>.<8 hex>/   owner.json says who works here; its time of change says that he lives
    .gone-<8 hex>/         what is being deleted

Rules:
1. What is finished gets its name by one rename of the whole folder; a name that is taken stays.
2. The owner touches owner.json every few seconds. A folder is left over when its owner was a
   process of this host that is gone, or when the storage's own clock says that it is still.
3. Whoever takes over a left-over takes only what cannot hurt: a download, which is checked.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import Conflict, OutlastError
from outlast.images.qemu_img import sync
from outlast.storage.files import trouble_of

BEAT_S, STILL_S = 5.0, 60.0
NEW, GONE, OWNER = ".new-", ".gone-", "owner.json"


@dataclass(frozen=True, slots=True)
class Leftover:
    path: Path
    name: str  # of what was to be made; "" for what was being deleted
    size_bytes: int
    alive: str  # who is at work there still; "" = nobody


class Stay(Exception):
    """From the body of a workplace: all stays as it is, as if this process had been killed."""

    def __init__(self, trouble: OutlastError) -> None:
        super().__init__(trouble.sentence)
        self.trouble = trouble


@contextlib.contextmanager
def workplace(folder: Path, name: str) -> Iterator[Path]:
    """A hidden folder for making `name`; gone afterwards, whatever happened.

    Raises StorageTrouble.
    """
    path = folder / f"{NEW}{name}.{secrets.token_hex(4)}"
    done = threading.Event()
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
        path.mkdir(mode=0o711)  # a QEMU that is not root writes backups inside
        owner = path / OWNER
        owner.write_text(json.dumps(_me()))
    except OSError as error:
        raise trouble_of(error, path) from error
    beating = threading.Thread(target=_beat, args=(owner, done), daemon=True)
    beating.start()
    keep = False
    try:
        yield path
    except Stay:
        keep = True
        raise
    finally:
        done.set()
        beating.join()
        if not keep:
            shutil.rmtree(path, ignore_errors=True)


def publish(place: Path, target: Path) -> None:
    """Give what is in a workplace its name. Raises Conflict when it is taken, StorageTrouble."""
    try:
        made = place / "made"
        sync(made)
        made.chmod(0o755)
        os.rename(made, target)  # noqa: PTH104 - must not replace anything
        sync(target.parent)
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
            raise Conflict(f"there is '{target.name}' already") from None
        raise trouble_of(error, target) from error


def discard(path: Path) -> None:
    """Delete a folder: its name first, in one step. Raises FileNotFoundError, StorageTrouble."""
    aside = path.with_name(f"{GONE}{secrets.token_hex(4)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise trouble_of(error, path) from error
    shutil.rmtree(aside, ignore_errors=True)


def leftovers(folder: Path) -> list[Leftover]:
    """All hidden folders, those at work included. Raises StorageTrouble."""
    found = []
    try:
        if not folder.is_dir():
            return []
        hidden = [p for p in folder.iterdir() if p.name.startswith((NEW, GONE)) and p.is_dir()]
        now_s = clock_of(folder) if hidden else 0.0
    except OSError as error:
        raise trouble_of(error, folder) from error
    for path in sorted(hidden):
        name = path.name.removeprefix(NEW).rpartition(".")[0] if NEW in path.name else ""
        alive = _alive(path / OWNER, now_s)
        found.append(Leftover(path, name, _size(path), alive))
    return found


def clean(folder: Path) -> list[Leftover]:
    """Delete what is left over; what was deleted. Raises StorageTrouble."""
    dead = [left for left in leftovers(folder) if not left.alive]
    for left in dead:
        forget(left)
    return dead


def forget(left: Leftover) -> None:
    """Delete one."""
    shutil.rmtree(left.path, ignore_errors=True)


def _me() -> dict[str, object]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "life": _life(os.getpid())}


def _life(pid: int) -> str:
    """What tells one process from a later one with its number; "" when there is none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        text = Path(f"/proc/{pid}/stat").read_text()
        state, *rest = text.rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else f"{boot}/{rest[18]}"


def _alive(owner: Path, now_s: float) -> str:
    try:
        there = owner if owner.exists() else owner.parent  # nobody has signed it yet
        if now_s - there.stat().st_mtime > STILL_S:
            return ""
        said = json.loads(owner.read_text())
        host, pid, life = str(said["host"]), int(said["pid"]), str(said["life"])
    except (OSError, ValueError, KeyError, TypeError):
        return "somebody who has just begun" if owner.parent.name.startswith(NEW) else ""
    if host == socket.gethostname() and _life(pid) != life:
        return ""
    return f"process {pid} on {host}"


def _beat(owner: Path, done: threading.Event) -> None:
    while not done.wait(BEAT_S):
        with contextlib.suppress(OSError):
            os.utime(owner)


def clock_of(folder: Path) -> float:
    """What time it is for this storage. Raises OSError."""
    probe = folder / f".time-{secrets.token_hex(4)}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _size(path: Path) -> int:
    total = 0
    for file in path.rglob("*"):
        with contextlib.suppress(OSError):
            total += file.stat().st_blocks * 512
    return total
