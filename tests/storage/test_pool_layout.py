"""A pool's birth: complete or not at all, whatever happens; and its opening."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from outlast.errors import Conflict, InvalidInput, OutlastError, StorageTrouble
from outlast.settings import preset
from outlast.storage.files import Files
from outlast.storage.format import AREA_SIZE, decode_header, pool_from
from outlast.storage.heartbeat import HeartbeatFile
from outlast.storage.layout import create_pool, open_pool

STANDARD = preset("standard")
PARTS = {"pool.json", "secret", "hb", "reg", "tmp", "journal", "images", "logs"}


class Counted(Files):
    """Counts the changing operations, and does something at one of them."""

    def __init__(self, at: int = -1, deed=None, after: bool = False) -> None:
        self.at, self.deed, self.after, self.count = at, deed, after, 0

    def _step(self, method: str, *args) -> object:
        hit = self.count == self.at
        self.count += 1
        if hit and not self.after:
            self.deed()
        result = getattr(super(), method)(*args)
        if hit and self.after:
            self.deed()
        return result

    def create(self, *args) -> None:
        self._step("create", *args)

    def link(self, *args) -> None:
        self._step("link", *args)

    def rename(self, *args) -> None:
        self._step("rename", *args)

    def mkdir(self, *args) -> None:
        self._step("mkdir", *args)

    def sync_dir(self, *args) -> None:
        self._step("sync_dir", *args)


def whole(root: Path) -> bool:
    """True: a complete pool; False: none. Anything between fails the test."""
    if not (root / "pool.json").exists():
        with pytest.raises(StorageTrouble, match="no pool in"):
            open_pool(root)
        return False
    pool = open_pool(root)
    assert {path.name for path in root.iterdir()} >= PARTS
    assert decode_header(pool.hb.read_bytes()[:4096]) == pool.uuid
    version, value = pool.register(1).read("pool")
    assert (version, pool_from(value).uuid) == (1, pool.uuid)
    assert len(pool.secret()) == 32
    return True


@pytest.fixture(autouse=True)
def short_wait(monkeypatch) -> None:
    """No other host is at work here, so none needs to be waited for."""
    monkeypatch.setattr("outlast.storage.layout._CLAIM_WAIT_S", 0.05)


def steps(tmp_path: Path) -> int:
    files = Counted()
    (tmp_path / "count").mkdir()
    create_pool(tmp_path / "count", "p", STANDARD, files=files)
    return files.count


def test_a_new_pool_has_everything(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "old.img").write_text("a disk")
    pool = create_pool(tmp_path, "east", STANDARD, watchdog="required")
    assert whole(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == PARTS | {"lost+found"}
    assert (tmp_path / "images" / "old.img").read_text() == "a disk"
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    settings = pool_from(pool.register(1).read("pool")[1])
    assert (settings.name, settings.timing, settings.watchdog) == ("east", STANDARD, "required")
    with HeartbeatFile(pool.hb) as area:
        assert not any(b"".join(area.read_all()[1:]))
    assert pool.hb.stat().st_blocks * 512 >= AREA_SIZE, "every block is really there"
    assert abs(pool.created_wall - time.time()) < 60
    assert open_pool(tmp_path, pool.uuid) == pool


def test_a_room_may_furnish_it(tmp_path: Path) -> None:
    def furnish(build: Path) -> None:
        (build / "pki").mkdir(mode=0o700)
        (build / "pki" / "ca.pem").write_text("x")
        assert not (tmp_path / "pool.json").exists()

    pool = create_pool(tmp_path, "east", STANDARD, furnish=furnish)
    assert (pool.pki / "ca.pem").read_text() == "x"


def test_a_second_birth_names_the_first(tmp_path: Path) -> None:
    pool = create_pool(tmp_path, "east", STANDARD)
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    with pytest.raises(Conflict, match=f"already holds the pool 'east' .{pool.uuid}"):
        create_pool(tmp_path, "west", STANDARD)
    assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before


def test_killed_at_every_step_there_is_no_pool_or_a_whole_one(tmp_path: Path) -> None:
    outcomes = set()
    for after in (False, True):
        for at in range(99):
            root = tmp_path / f"{after}-{at}"
            root.mkdir()
            files = Counted(at, lambda: os.kill(os.getpid(), signal.SIGKILL), after)
            child = os.fork()
            if not child:
                create_pool(root, "east", STANDARD, files=files)
                os._exit(0)
            status = os.waitpid(child, 0)[1]
            if not os.WIFSIGNALED(status):
                assert os.WEXITSTATUS(status) == 0
                break
            born = whole(root)
            outcomes.add(born)
            if born:
                with pytest.raises(Conflict):
                    create_pool(root, "west", STANDARD)
            else:
                create_pool(root, "west", STANDARD)
                assert whole(root)
                assert not [p for p in root.iterdir() if p.name not in PARTS], "left-overs"
    assert outcomes == {True, False}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.EIO, "I/O error")])
def test_interrupted_at_every_step_nothing_is_left(tmp_path: Path, error) -> None:
    def deed() -> None:
        raise error

    total = steps(tmp_path)
    for at in range(total):
        root = tmp_path / str(at)
        root.mkdir()
        (root / "keep").write_text("x")
        with contextlib.suppress(KeyboardInterrupt, OutlastError):
            create_pool(root, "east", STANDARD, files=Counted(at, deed))
        if not whole(root):
            assert [p.name for p in root.iterdir()] == ["keep"], f"step {at}"


def test_killed_at_any_moment(tmp_path: Path) -> None:
    code = (
        "import sys; from outlast.storage.layout import create_pool; "
        "from outlast.settings import preset; print('go', flush=True); "
        "create_pool(sys.argv[1], 'east', preset('standard'))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for number in range(8):
        root = tmp_path / str(number)
        root.mkdir()
        with subprocess.Popen(
            [sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, env=env
        ) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(number * 0.002)
            process.kill()
        if not whole(root):
            create_pool(root, "east", STANDARD)
            assert whole(root)


def test_two_births_at_once_make_one_pool(tmp_path: Path) -> None:
    children = []
    for number in range(6):
        child = os.fork()
        if not child:
            try:
                create_pool(tmp_path, f"p{number}", STANDARD)
            except Conflict:
                os._exit(7)
            except BaseException:
                os._exit(1)
            os._exit(0)
        children.append(child)
    codes = [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(codes) == [0, 7, 7, 7, 7, 7]
    assert whole(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == PARTS


def test_without_the_lock_two_births_still_make_one_pool(tmp_path: Path, monkeypatch) -> None:
    """As on two hosts whose file system keeps no locks between them."""
    monkeypatch.setattr("outlast.storage.layout.fcntl.flock", lambda *_: None)
    children = []
    for number in range(4):
        child = os.fork()
        if not child:
            try:
                create_pool(tmp_path, f"p{number}", STANDARD)
            except OutlastError:
                os._exit(7)
            except BaseException:
                os._exit(1)
            os._exit(0)
        children.append(child)
    codes = [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children]
    assert codes.count(0) <= 1
    assert set(codes) <= {0, 7}
    if whole(tmp_path):
        assert codes.count(0) == 1


def test_the_registers_of_a_pool_are_never_taken_for_left_overs(tmp_path: Path) -> None:
    pool = create_pool(tmp_path, "east", STANDARD)
    assert pool.register(1).swap("lease/web", 0, {}).ok
    (tmp_path / "pool.json").unlink()
    with pytest.raises(Conflict, match=r"no pool\.json"):
        create_pool(tmp_path, "east", STANDARD)
    assert pool.register(1).read("lease/web") == (1, {})


def test_bad_input_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    lab, no = preset("lab"), tmp_path / "no"
    for kind, match, call in (
        (StorageTrouble, "there is no directory", lambda: create_pool(no, "p", STANDARD)),
        (InvalidInput, "not a directory", lambda: create_pool(file, "p", STANDARD)),
        (InvalidInput, "pool name", lambda: create_pool(tmp_path, "Bad Name", STANDARD)),
        (InvalidInput, "one machine only", lambda: create_pool(tmp_path, "p", lab)),
        (InvalidInput, "must stay below",
         lambda: create_pool(tmp_path, "p", replace(STANDARD, dead_ns=STANDARD.fence_ns))),
    ):  # fmt: skip
        with pytest.raises(kind, match=match) as caught:
            call()
        assert caught.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    create_pool(tmp_path, "p", lab, lab=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
@pytest.mark.parametrize(
    ("options", "match"), [("size=128k", "full"), ("ro", "read-only"), ("size=4m", "")]
)
def test_full_and_read_only_storage(tmp_path: Path, options: str, match: str) -> None:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(tmp_path)], capture_output=True
    )
    if done.returncode:
        pytest.skip("no mounts here")
    try:
        if not match:
            create_pool(tmp_path, "p", STANDARD)
            assert whole(tmp_path)
            return
        with pytest.raises(StorageTrouble, match=match) as caught:
            create_pool(tmp_path, "p", STANDARD)
        assert caught.value.hint
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def fill(path: Path) -> None:
    """As a guest does whose image grows until nothing is left."""
    with path.open("ab", buffering=0) as image:
        while True:
            try:
                image.write(b"x" * 4096)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                return


def test_a_full_volume_still_lets_a_lease_change_hands(tmp_path: Path) -> None:
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(tmp_path)], capture_output=True
        ).returncode
    ):
        pytest.skip("no mounts here")
    try:
        pool = create_pool(tmp_path, "p", STANDARD)
        register = pool.register(1)
        assert register.swap("lease/web", 0, {"slot": 1}).ok
        fill(tmp_path / "images" / "guest.img")
        assert register.swap("lease/web", 1, {"slot": 2}).ok, "the spare is for this"
        with HeartbeatFile(pool.hb, 1) as area:
            area.write_block(b"\1" * 4096)
        fill(tmp_path / "images" / "guest.img")
        with pytest.raises(StorageTrouble, match="full") as caught:
            register.swap("lease/web", 2, {"slot": 3})
        assert "free" in caught.value.hint
        (tmp_path / "images" / "guest.img").unlink()
        assert register.swap("lease/web", 2, {"slot": 3}).ok
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "damaged"), ("[]", "damaged"), ('{"outlast": 1}', "damaged"), ("\xff", "damaged"),
        ('{"outlast":1,"uuid":"x","name":"a","created_wall":1}', "damaged"),
        ('{"outlast":2,"uuid":"12345678-1234-1234-1234-123456789abc","name":"a",'
         '"created_wall":1}', "layout 2"),
        ('{"outlast":1,"uuid":"12345678-1234-1234-1234-123456789abc","name":"a",'
         '"created_wall":1}', "not complete"),
    ],
)  # fmt: skip
def test_a_garbage_pool_is_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "pool.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(StorageTrouble, match=match):
        open_pool(tmp_path)


def test_another_or_no_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageTrouble, match="no pool in") as caught:
        open_pool(tmp_path)
    assert "mounted" in caught.value.hint
    with pytest.raises(StorageTrouble, match="no directory"):
        open_pool(tmp_path / "absent")
    create_pool(tmp_path, "p", STANDARD)
    with pytest.raises(StorageTrouble, match="another pool"):
        open_pool(tmp_path, "12345678-1234-1234-1234-123456789abc")
    (tmp_path / "secret").write_text("zz")
    with pytest.raises(StorageTrouble, match="damaged"):
        open_pool(tmp_path).secret()
