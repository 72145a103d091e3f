"""The directory of a pool on the shared storage: where things are, how a pool is born and opened.

    pool.json     written last, never changed: {"outlast": 1, "uuid", "name", "created_wall"}
    secret        key of the network beats, 64 hex digits, mode 0600
    hb            heartbeat area (format.py)
    reg/          registers (format.py, posix.py)
    tmp/<slot>/   temporaries of one host
    journal/<slot>.jsonl   notes of one host
    images/ logs/ disks and serial logs of VMs;   pki/ certificates, made by another room

A pool on etcd (etcd_pool.py) has neither hb nor reg nor tmp here, but etcd.json.

Rules of a birth:
1. Everything is built in a hidden directory inside the pool's, then moved into place; pool.json
   comes last, by a link. Killed at any point, there is no pool or a complete one.
2. Moving `reg` into place is the claim: of two hosts that try at once only one can. Two on one
   host are kept apart by a lock before that.
3. What a killed birth left behind is replaced by the next one. What looks like a pool in use
   (registers other than `pool`) is never touched, even if its pool.json is gone.
4. What was there before (`images` full of disks, lost+found) stays.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import time
import uuid as uuids
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import Conflict, InvalidInput, OutlastError, StorageTrouble
from outlast.settings import PRESETS, PoolSettings, Timing, check
from outlast.storage.access import is_shared, open_area, open_register
from outlast.storage.etcd_heartbeat import EtcdArea
from outlast.storage.files import Files, trouble_of
from outlast.storage.format import LAYOUT, BadBlock, check_name, decode_header, pool_to
from outlast.storage.heartbeat import HeartbeatFile
from outlast.storage.posix import PosixRegister
from outlast.storage.register import Register
from outlast.storage.temporaries import make_dir

FOLDERS = {"tmp": 0o700, "journal": 0o700, "images": 0o755, "logs": 0o755}
_LOCK, _NEW = ".outlast-init", ".outlast-new-"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_CLAIM_WAIT_S = 2.0  # how long another host's birth, seen half done, is waited for


@dataclass(frozen=True, slots=True)
class PoolDir:
    """An opened pool's directory."""

    root: Path
    uuid: str
    name: str
    created_wall: float  # seconds since 1970

    @property
    def hb(self) -> Path:
        return self.root / "hb"

    @property
    def reg(self) -> Path:
        return self.root / "reg"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    def journal(self, slot: int) -> Path:
        return self.root / "journal" / f"{slot}.jsonl"

    @property
    def shared(self) -> bool:
        """False: this host's own directory of a pool on etcd. Raises StorageTrouble."""
        return is_shared(self.root)

    def register(self, writer: str | int) -> Register:
        """The pool's registers; `writer` names who writes: a slot, or a program."""
        return open_register(self.root, str(writer))

    def area(self, slot: int = 0) -> HeartbeatFile | EtcdArea:
        """The heartbeat area, to write as `slot` or only to read. OSError, StorageTrouble."""
        return open_area(self.root, slot)

    def secret(self) -> bytes:
        """The 32 bytes of the key of the network beats. Raises StorageTrouble."""
        path = self.root / "secret"
        try:
            key = bytes.fromhex(path.read_text(encoding="ascii").strip())
        except OSError as error:
            raise trouble_of(error, path) from error
        except ValueError:
            key = b""
        if len(key) != 32:
            raise StorageTrouble(f"{path} is damaged: not 64 hex digits")
        return key


def create_pool(
    directory: Path | str,
    name: str,
    timing: Timing,
    *,
    lab: bool = False,
    watchdog: str = "automatic",
    partition: str = "fence",
    join: str = "token",
    furnish: Callable[[Path], None] | None = None,
    files: Files | None = None,
) -> PoolDir:
    """Make a pool in an existing directory of the shared storage.

    `furnish` may put more into the pool before it is born: it gets the directory where `pki` and
    the like are to be made. The preset `lab` is refused unless `lab`. Raises InvalidInput (name,
    timing, not a directory), Conflict (there is a pool), StorageTrouble (missing, full, read-only).
    """
    settings = new_settings(
        name, timing, lab=lab, watchdog=watchdog, partition=partition, join=join
    )
    root = Path(directory).absolute()
    _look(root)
    birth = _Birth(root, settings, files or Files(), furnish)
    try:
        with _locked(root):
            birth.run()
    except OSError as error:
        raise trouble_of(error, root) from error
    return open_pool(root, settings.uuid)


def new_settings(
    name: str, timing: Timing, *, lab: bool = False, watchdog: str = "automatic",
    partition: str = "fence", join: str = "token",
) -> PoolSettings:  # fmt: skip
    """The settings of a pool to be, with a uuid of its own. Raises InvalidInput."""
    check_name(name, "pool name")
    check(timing)
    if timing.preset == "lab" and not lab:
        raise InvalidInput(
            "the timing 'lab' is for hosts emulated on one machine only",
            hint="one of: " + ", ".join(key for key in PRESETS if key != "lab"),
        )
    return PoolSettings(name, str(uuids.uuid4()), timing, watchdog, partition, join=join)


def description(settings: PoolSettings) -> bytes:
    """The content of a new pool.json."""
    about = {
        "outlast": LAYOUT, "uuid": settings.uuid, "name": settings.name,
        "created_wall": round(time.time(), 3),
    }  # fmt: skip
    return (json.dumps(about) + "\n").encode()


def new_secret() -> bytes:
    """The content of a new file `secret`."""
    return secrets.token_hex(32).encode() + b"\n"


def open_pool(directory: Path | str, uuid: str = "") -> PoolDir:
    """The pool in this directory; `uuid`, when given, is the only one that is welcome.

    Raises StorageTrouble: missing, not mounted, no pool there, another one, garbage, too new.
    """
    root = Path(directory).absolute()
    path = root / "pool.json"
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        if not root.is_dir():
            raise StorageTrouble(
                f"there is no directory {root}", hint="is the pool's storage mounted?"
            ) from None
        raise StorageTrouble(
            f"there is no pool in {root}",
            hint="is its storage mounted? a new pool is made with 'outlast pool init'",
        ) from None
    except OSError as error:
        raise trouble_of(error, path) from error
    except UnicodeDecodeError:
        raise StorageTrouble(f"{path} is damaged: not text") from None
    pool = _parsed(root, path, text)
    if uuid and pool.uuid != uuid:
        raise StorageTrouble(
            f"{root} holds another pool: '{pool.name}' ({pool.uuid}), not {uuid}",
            hint="is the right storage mounted?",
        )
    for part in (root / "secret", *((pool.hb, pool.reg) if pool.shared else ())):
        if not part.exists():
            raise StorageTrouble(
                f"the pool '{pool.name}' in {root} is not complete: {part.name} is missing",
                hint="was the storage restored in part? nothing is repaired by itself",
            )
    return pool


def _parsed(root: Path, path: Path, text: str) -> PoolDir:
    try:
        value = json.loads(text)
        layout, uuid, name = value["outlast"], value["uuid"], value["name"]
        pool = PoolDir(root, uuid, check_name(name), float(value["created_wall"]))
        if not (isinstance(layout, int) and isinstance(uuid, str) and _UUID.match(uuid)):
            raise ValueError("uuid")
    except (ValueError, KeyError, TypeError, InvalidInput, RecursionError):
        raise StorageTrouble(
            f"{path} is damaged: not the description of a pool", hint="restore it from a backup"
        ) from None
    if layout != LAYOUT:
        raise StorageTrouble(
            f"the pool in {root} has layout {layout}; this Outlast knows layout {LAYOUT}",
            hint="upgrade Outlast on this host",
        )
    return pool


def _look(root: Path) -> None:
    """Refuse a directory that cannot become a pool, in words for people."""
    if not root.exists():
        raise StorageTrouble(
            f"there is no directory {root}", hint="mount the shared storage there, or create it"
        )
    if not root.is_dir():
        raise InvalidInput(f"{root} is not a directory", hint="name a directory of the storage")
    if (root / "pool.json").exists():
        raise _taken(root)


def _taken(root: Path) -> OutlastError:
    pool = open_pool(root)
    return Conflict(
        f"{root} already holds the pool '{pool.name}' ({pool.uuid})",
        hint="join it, or take another directory",
    )


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Keeps births on one host apart; a lock the file system doesn't know is done without."""
    path = root / _LOCK
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    mine = True
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mine = False
            raise Conflict(
                f"another process is making a pool in {root} just now", hint="wait for it"
            ) from None
        except OSError as error:
            if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}:
                raise
        yield
    finally:
        if mine:
            path.unlink(missing_ok=True)
        os.close(fd)


class _Birth:
    """One attempt to make a pool; what it moved into place it takes back when it fails."""

    def __init__(
        self, root: Path, settings: PoolSettings, files: Files,
        furnish: Callable[[Path], None] | None,
    ) -> None:  # fmt: skip
        self._root, self._settings, self._files = root, settings, files
        self._furnish = furnish
        self._build = root / f"{_NEW}{secrets.token_hex(8)}"
        self._placed: dict[Path, int] = {}  # where our part is to stand -> its inode
        self._made: list[Path] = []

    def run(self) -> None:
        if (self._root / "pool.json").exists():  # since the first look
            raise _taken(self._root)
        self._clear_left_overs()
        try:
            self._build_all()
            self._place_all()
        except BaseException:
            self._take_back()
            raise
        shutil.rmtree(self._build, ignore_errors=True)

    def _clear_left_overs(self) -> None:
        """Rule 3: what a killed birth left, and nothing else."""
        root = self._root
        if (root / "reg").exists():
            end = time.monotonic() + _CLAIM_WAIT_S
            while time.monotonic() < end:  # the birth of another host may be under way
                if (root / "pool.json").exists():
                    raise _taken(root)
                time.sleep(0.05)
            found = self._files.listdir(root / "reg")
            if found != ["pool"] or len(self._files.listdir(root / "reg" / "pool")) != 1:
                raise Conflict(
                    f"{root} holds registers of a pool but no pool.json",
                    hint="restore pool.json from a backup, or take another directory",
                )
            aside = root / f"{_NEW}{secrets.token_hex(8)}"
            self._files.mkdir(aside)
            self._files.rename(root / "reg", aside / "reg")
            if (root / "pool.json").exists():  # it was born while it was taken for a left-over
                self._files.rename(aside / "reg", root / "reg")
                raise _taken(root)
        for path in root.glob(f"{_NEW}*"):
            shutil.rmtree(path, ignore_errors=True)

    def _build_all(self) -> None:
        build, files, settings = self._build, self._files, self._settings
        files.mkdir(build)
        files.mkdir(build / "reg")
        if not PosixRegister(build, "init", files=files).swap("pool", 0, pool_to(settings)).ok:
            raise StorageTrouble(f"the first register of the pool could not be written in {build}")
        shutil.rmtree(build / "tmp")
        HeartbeatFile.create(build / "hb", settings.uuid)
        files.create(build / "secret", new_secret())
        if self._furnish:
            self._furnish(build)
        files.create(build / "pool.json", description(settings), 0o644)
        files.sync_dir(build)

    def _place_all(self) -> None:
        root, build, files = self._root, self._build, self._files
        self._note("reg")
        try:
            files.rename(build / "reg", root / "reg")
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                raise Conflict(f"another host is making a pool in {root} just now") from None
            raise
        for entry in sorted(files.listdir(build)):
            if entry != "pool.json" and not entry.startswith(".old-"):
                if (root / entry).exists():
                    files.rename(root / entry, build / f".old-{entry}")
                self._note(entry)
                files.rename(build / entry, root / entry)
        for entry, mode in FOLDERS.items():
            if not (root / entry).is_dir():
                self._made.append(root / entry)
                make_dir(files, root / entry, mode)
        files.sync_dir(root)
        self._check_own()
        self._note("pool.json")
        try:
            files.link(build / "pool.json", root / "pool.json")
        except FileExistsError:
            raise _taken(root) from None
        files.sync_dir(root)
        self._check_own()  # a birth that took ours for a left-over may have begun before the link

    def _note(self, entry: str) -> None:
        """Remember what our part looks like before it moves: only that is ever taken back."""
        self._placed[self._root / entry] = (self._build / entry).stat().st_ino

    def _check_own(self) -> None:
        """Two hosts at once, past every lock: whoever finds a foreign part gives way."""
        try:
            header = self._files.read(self._root / "hb")[:4096]
            value = PosixRegister(self._root, "init", files=self._files).read("pool")[1]
            own = decode_header(header) == (value or {}).get("uuid") == self._settings.uuid
        except BadBlock:
            own = False
        if not own:
            raise Conflict(f"another host is making a pool in {self._root} just now")

    def _take_back(self) -> None:
        with contextlib.suppress(OSError, OutlastError):
            born = open_pool(self._root).uuid == self._settings.uuid
            self._check_own()
            if born:
                return  # it was born after all; only the answer was lost
        for path, inode in reversed(self._placed.items()):
            with contextlib.suppress(OSError):
                if path.stat().st_ino != inode:
                    continue  # what stands there is not ours
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        for path in reversed(self._made):
            with contextlib.suppress(OSError):
                path.rmdir()
        shutil.rmtree(self._build, ignore_errors=True)
