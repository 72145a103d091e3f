"""The ioctls against a watchdog that answers them: a FUSE file served by another process.

The same server also plays a disk that hangs: a process that writes to it cannot even be killed.

Run as a program this file is that server: `test_watchdog_device.py FOLDER LOG OPTIONS`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "contract"))
from guard_kit import T1, T2, open_term
from guard_process import FakeWatchdog, ProcessGuard, why_not
from guard_process import until as happens

from outlast.guard.watchdog import Watchdog, WatchdogTrouble, open_device

MAGICCLOSE, SETTIMEOUT, KEEPALIVE = 0x100, 0x80, 0x8000
ATTR = struct.Struct("<6Q10I")
HANG = 1 << 20  # not an option of watchdogs: writes are never answered
LONGEST_S = 5  # like a device that rounds: it never takes less than this


class Device:
    """The file system with one file in it; each request gives (error, answer)."""

    def __init__(self, log: str, options: int) -> None:
        self.options, self.timeout_s = options, 60
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def say(self, words: str) -> None:
        os.write(self.log, f"{words}\n".encode())

    def attributes(self, number: int) -> bytes:
        mode = stat.S_IFDIR | 0o755 if number == 1 else stat.S_IFREG | 0o600
        return ATTR.pack(number, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def ioctl(self, body: bytes) -> tuple[int, bytes]:
        _, _, command, _, _, size = struct.unpack_from("<QIIQII", body)
        reply = bytes(size)
        if command == 0x80285700:
            self.say("support")
            reply = struct.pack("<II32s", self.options, 1, b"dog")
        elif command == 0xC0045706:
            self.timeout_s = max(LONGEST_S, struct.unpack_from("<i", body, 32)[0])
            self.say(f"set {self.timeout_s}")
            reply = struct.pack("<i", self.timeout_s)
        elif command == 0x80045707:
            reply = struct.pack("<i", self.timeout_s)
        elif command == 0x80045705:
            self.say("pet")
        else:
            return -errno.ENOTTY, b""
        return 0, struct.pack("<i3I", 0, 0, 0, 0) + reply

    def answer(self, op: int, number: int, body: bytes) -> tuple[int, bytes] | None:
        """None: no answer at all."""
        match op:
            case 2 | 42:  # forget
                return None
            case 26:  # init
                rest = (0, 8, 6, 4096, 1, 1, 0, *[0] * 8)
                return 0, struct.pack("<4I2H2I2HI7I", 7, 31, 4096, *rest)
            case 1:  # lookup
                if not body.startswith(b"watchdog\0"):
                    return -errno.ENOENT, b""
                return 0, struct.pack("<4Q2I", 2, 0, 99, 99, 0, 0) + self.attributes(2)
            case 3 | 4:  # get and set attributes
                return 0, struct.pack("<Q2I", 99, 0, 0) + self.attributes(number)
            case 14:  # open
                self.say("open")
                return 0, struct.pack("<Q2I", 1, 5, 0)
            case 16:  # write
                length = struct.unpack_from("<I", body, 16)[0]
                self.say("write " + body[40 : 40 + length].decode())
                return None if self.options & HANG else (0, struct.pack("<2I", length, 0))
            case 39:
                return self.ioctl(body)
            case 18:  # release
                self.say("close")
                return 0, b""
            case 25 | 38:  # flush, destroy
                return 0, b""
        return -errno.ENOSYS, b""


def serve(folder: str, log: str, options: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fuse = os.open("/dev/fuse", os.O_RDWR)
    data = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"dog", folder.encode(), b"fuse.dog", 2 | 4, data):
        raise OSError(ctypes.get_errno(), "mount")
    device = Device(log, options)
    while True:
        try:
            frame = os.read(fuse, 1 << 17)
        except OSError as trouble:
            if trouble.errno == errno.ENODEV:  # unmounted
                return
            continue
        _, op, unique, number = struct.unpack_from("<IIQQ", frame)
        answered = device.answer(op, number, frame[40:])
        if answered:
            error, answer = answered
            os.write(fuse, struct.pack("<IiQ", 16 + len(answer), error, unique) + answer)


pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/fuse", os.W_OK), reason="needs root and /dev/fuse"
)
S, MS = 10**9, 10**6
Start = Callable[[int], tuple[str, Callable[[], list[str]]]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    folder, log = tmp_path / "dev", tmp_path / "log"
    folder.mkdir()
    servers: list[subprocess.Popen[bytes]] = []

    def begin(options: int) -> tuple[str, Callable[[], list[str]]]:
        servers.append(
            subprocess.Popen(
                [sys.executable, __file__, str(folder), str(log), str(options)],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
            )
        )
        end = time.monotonic() + 10
        while not (folder / "watchdog").exists():
            assert time.monotonic() < end and servers[-1].poll() is None, "no pretend device"
            time.sleep(0.01)
        return str(folder / "watchdog"), lambda: log.read_text().splitlines()

    yield begin
    stop_all(folder, servers)


def stop_all(folder: Path, servers: list[subprocess.Popen[bytes]]) -> None:
    for server in servers:
        ctypes.CDLL(None).umount2(str(folder).encode(), 2)
        server.kill()
        server.wait(10)


def until(heard: Callable[[], list[str]], words: list[str]) -> None:
    end = time.monotonic() + 5
    while heard() != words:
        assert time.monotonic() < end, (heard(), words)
        time.sleep(0.01)


def test_armed_petted_and_disarmed_by_magic_close(start: Start) -> None:
    path, heard = start(MAGICCLOSE | SETTIMEOUT | KEEPALIVE)
    watchdog = Watchdog("required", path)
    watchdog.arm(10)
    assert (watchdog.timeout_s, watchdog.refusal) == (10, "")
    watchdog.pet(1)
    watchdog.disarm()
    until(heard, ["open", "support", "set 10", "pet", "write V", "close"])


def test_abandoned_it_is_closed_without_the_magic(start: Start) -> None:
    path, heard = start(MAGICCLOSE | SETTIMEOUT | KEEPALIVE)
    watchdog = Watchdog("automatic", path)
    watchdog.arm(10)
    watchdog.abandon()
    until(heard, ["open", "support", "set 10", "close"])


def test_what_is_read_back_counts(start: Start) -> None:
    path, _ = start(MAGICCLOSE | SETTIMEOUT | KEEPALIVE)
    device = open_device(path, 1)
    assert device.timeout_s == LONGEST_S
    device.disarm()


def test_a_device_that_a_mere_close_stops_is_refused(start: Start) -> None:
    path, heard = start(SETTIMEOUT | KEEPALIVE)
    with pytest.raises(WatchdogTrouble, match="would stop when the guard is killed"):
        open_device(path, 10)
    until(heard, ["open", "support", "set 10", "write V", "close"])


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize("resettable", [True, False])
def test_a_vm_on_a_hung_disk_does_not_die_and_that_is_not_hidden(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resettable: bool
) -> None:
    disk, written = start(HANG)
    monkeypatch.setenv("FAKE_DISK", disk)
    (tmp_path / "host").mkdir()
    dog = FakeWatchdog(tmp_path / "dog")
    bench = ProcessGuard(
        tmp_path / "host", reset="watchdog" if resettable else "none", watchdog_device=dog.device
    )
    kill_ns = 1300 * MS
    try:
        assert open_term(bench, T1, fence_ns=20 * S, kill_ns=kill_ns)["ok"]
        bench.ask("admit", vm="web")
        assert bench.start("web", "stuck")["ok"]
        until(written, ["open", "write x"])
        began_ns = bench.reading().boot_ns
        bench.ask("close", term=T1, reason="excluded")
        told_ns = bench.reading().boot_ns + kill_ns - 100 * MS
        while bench.reading().boot_ns < told_ns:
            said = bench.ask("status")
            assert said["empty"] is False
            assert said["state"] != "closed"
            time.sleep(0.02)
        if resettable:
            happens(lambda: dog.fired_ns, "the host is reset")
            assert dog.fired_ns < began_ns + kill_ns
        else:
            happens(lambda: bench.ask("status")["unsafe_reset"], "it is said")
            said = bench.ask("status")
            assert (said["state"], said["quiesced_possible"]) == ("closing", False)
            assert not open_term(bench, T2)["ok"]
    finally:
        ctypes.CDLL(None).umount2(str(Path(disk).parent).encode(), 1)  # MNT_FORCE: abort it all
        bench.clean()
        dog.close()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
