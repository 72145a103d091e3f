"""A host's /dev/watchdog and /proc/sysrq-trigger that live outside of the host.

Promises:
1. It fires `timeout` after the last pet even when every process of the host is frozen or gone.
2. It behaves like a kernel driver: opening arms it, any write or WDIOC_KEEPALIVE pets it, 'V' as
   the last write before closing disarms it (unless nowayout), a second opener gets EBUSY, the
   WDIOC_* calls answer (SETOPTIONS cannot carry its value over FUSE: refused).
3. A host that was reset starts with a disarmed watchdog; GETBOOTSTATUS tells that it had fired.

Writing "b" to the sysrq file resets the host, "o" switches it off; other letters do nothing.
It is a small FUSE file system served by one thread here; the host gets the two files bound in.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import struct
import threading
import time
from collections.abc import Callable

from outlast.rack import fuse
from outlast.rack.fuse import Op

WATCHDOG, SYSRQ = 2, 3
FILES = {b"watchdog": WATCHDOG, b"sysrq": SYSRQ}
GETSUPPORT, GETSTATUS, GETBOOTSTATUS, SETOPTIONS, KEEPALIVE, SETTIMEOUT, GETTIMEOUT = (
    0, 1, 2, 4, 5, 6, 7,
)  # fmt: skip
GETTIMELEFT = 10
CAN = 0x8000 | 0x0100 | 0x0080  # keepalive ping, magic close, set timeout
CARD_RESET = 0x0020
WATCHDOG_LETTER = ord("W")
DEFAULT_S, MAX_S = 10, 65535
CACHE_S = 3600
IOCTL_IN = struct.Struct("<QIIQII")  # fh, flags, command, argument, in size, out size


class Watchdog:
    """The device of one host. `fire` gets "watchdog", "sysrq-reset" or "sysrq-off"."""

    def __init__(self, fire: Callable[[str], None], nowayout: bool = False) -> None:
        self._fire, self._nowayout = fire, nowayout
        self._guard = threading.RLock()
        self._timeout_s = DEFAULT_S
        self._deadline_s: float | None = None
        self._holder = 0  # handle of the one opener
        self._last_fh = 0
        self._magic = False
        self._was_fired = False
        self.fired = 0
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="watchdog", daemon=True)

    def mount_options(self) -> str:
        """Data for mounting it as fuse.rackdog; then call `start`."""
        return f"fd={self._fd},rootmode=40000,user_id=0,group_id=0,allow_other"

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End it without firing. Unmount afterwards."""
        self._closing = True
        os.eventfd_write(self._wake, 1)
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._fd)
        os.close(self._wake)

    def power_off(self) -> None:
        """The host lost its power: disarm, forget the opener and the time-out."""
        with self._guard:
            self._deadline_s, self._holder, self._magic = None, 0, False
            self._timeout_s = DEFAULT_S

    def status(self) -> dict[str, object]:
        with self._guard:
            left = None if self._deadline_s is None else self._deadline_s - time.monotonic()
            return {
                "armed": left is not None,
                "timeout_s": self._timeout_s,
                "left_ms": None if left is None else round(left * 1000),
                "fired": self.fired,
            }

    # -- the thread

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._closing:
            left = self._left_s()
            for fd, _ in poll.poll(None if left is None else max(0.0, left) * 1000):
                if fd == self._fd and not self._take():
                    return
            self._expire()

    def _left_s(self) -> float | None:
        with self._guard:
            return None if self._deadline_s is None else self._deadline_s - time.monotonic()

    def _expire(self) -> None:
        with self._guard:
            if self._deadline_s is None or time.monotonic() < self._deadline_s:
                return
            self._deadline_s = None
            self._was_fired = True
            self.fired += 1
        self._call("watchdog")

    def _call(self, why: str) -> None:
        threading.Thread(target=self._fire, args=(why,), name="reset", daemon=True).start()

    def _take(self) -> bool:
        """Answer one request of the kernel. False: unmounted."""
        try:
            frame = os.read(self._fd, fuse.FRAME_MAX)
        except OSError as error:
            return error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT)
        _, op, unique, node, _, _, _, _, _ = fuse.IN.unpack_from(frame)
        body = frame[fuse.IN.size :]
        if op in (Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT):
            return True
        if op == Op.INIT:
            answer = fuse.init_reply(unique, body, wanted=0)
        else:
            try:
                answer = fuse.reply(unique, self._do(op, node, body))
            except OSError as error:
                answer = fuse.failure(unique, error.errno or errno.EIO)
        with contextlib.suppress(OSError):  # the asking process is gone
            os.write(self._fd, answer)
        return True

    def _do(self, op: int, node: int, body: bytes) -> bytes:
        if op == Op.LOOKUP:
            found = FILES.get(fuse.name_in(op, body))
            if found is None:
                raise OSError(errno.ENOENT, "no such file")
            return fuse.ENTRY.pack(found, 0, CACHE_S, CACHE_S, 0, 0) + _attributes(found)
        if op in (Op.GETATTR, Op.SETATTR):
            return fuse.ATTR_OUT.pack(CACHE_S, 0, 0) + _attributes(node)
        if op == Op.OPEN:
            flags = fuse.DIRECT_IO | fuse.NONSEEKABLE
            return fuse.OPEN_OUT.pack(self._open(node), flags, 0)
        if op == Op.WRITE:
            (size,) = struct.unpack_from("<I", body, 16)
            self._write(node, body[fuse.WRITE_IN_SIZE : fuse.WRITE_IN_SIZE + size])
            return struct.pack("<II", size, 0)
        if op == Op.IOCTL and node == WATCHDOG:
            return self._ioctl(body)
        if op == Op.RELEASE:
            self._release(fuse.FH.unpack_from(body)[0])
            return b""
        if op in (Op.FLUSH, Op.DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "not offered")

    # -- the device

    def _open(self, node: int) -> int:
        with self._guard:
            self._last_fh += 1
            if node == WATCHDOG:
                if self._holder:
                    raise OSError(errno.EBUSY, "somebody has it open")
                self._holder, self._magic = self._last_fh, False
                self._pet()
            return self._last_fh

    def _write(self, node: int, data: bytes) -> None:
        if node == SYSRQ:
            if data[:1] in (b"b", b"o"):
                self._call("sysrq-reset" if data[:1] == b"b" else "sysrq-off")
            return
        with self._guard:
            self._magic = b"V" in data
            self._pet()

    def _release(self, fh: int) -> None:
        with self._guard:
            if fh != self._holder:
                return
            self._holder = 0
            if self._magic and not self._nowayout:
                self._deadline_s = None  # closed politely; otherwise it stays armed

    def _pet(self) -> None:
        self._deadline_s = time.monotonic() + self._timeout_s

    def _ioctl(self, body: bytes) -> bytes:
        _, _, command, _, _, out_size = IOCTL_IN.unpack_from(body)
        number, letter = command & 0xFF, command >> 8 & 0xFF
        if letter != WATCHDOG_LETTER:
            raise OSError(errno.ENOTTY, "not a watchdog call")
        with self._guard:
            data = self._answer(number, body[IOCTL_IN.size :])
        return struct.pack("<iIII", 0, 0, 0, 0) + data[:out_size].ljust(out_size, b"\0")

    def _answer(self, number: int, data: bytes) -> bytes:
        if number == GETSUPPORT:
            return struct.pack("<II32s", CAN, 1, b"outlast rack watchdog")
        if number == KEEPALIVE:
            self._pet()
            return b""
        if number == SETTIMEOUT:
            (wanted,) = struct.unpack_from("<i", data)
            if not 1 <= wanted <= MAX_S:
                raise OSError(errno.EINVAL, "no such time-out")
            self._timeout_s = wanted
            self._pet()
            return struct.pack("<i", wanted)
        if number == GETTIMEOUT:
            return struct.pack("<i", self._timeout_s)
        if number == GETTIMELEFT:
            left = max(0.0, (self._deadline_s or 0.0) - time.monotonic())
            return struct.pack("<i", int(left))
        if number in (GETSTATUS, GETBOOTSTATUS):
            boot = CARD_RESET if self._was_fired and number == GETBOOTSTATUS else 0
            return struct.pack("<i", boot)
        raise OSError(errno.EOPNOTSUPP if number == SETOPTIONS else errno.ENOTTY, "not offered")


def _attributes(node: int) -> bytes:
    mode = stat.S_IFDIR | 0o755 if node == fuse.ROOT else stat.S_IFREG | 0o600
    return fuse.ATTR.pack(node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
