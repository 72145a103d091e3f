"""What resets a host whose guard no longer answers, or which the guard gives up.

    kernel device    /dev/watchdogN by its ioctls; opening arms it and counts as a pet
    testing device   "testing:<unix datagram socket>": each act is one datagram
                     ("arm 2", "pet", "disarm", "abandon"); the tester plays the hardware
    none

Policy (`mode`): off = never touched; automatic = used if it works; required = the guard opens no
term without one. Rules:

1. The time-out read back from the device counts, not the one asked for.
2. Disarming (magic close) is only done when the caller has verified that nothing runs.
   Another time-out is set on a device that stays armed (`retime`).
3. A device that is stopped by a mere close is refused: a killed guard would disarm it.
4. Nothing here waits.

The other way to reset, sysrq, is refused outside of the machine's first PID namespace, where it
would reset somebody else's machine.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from outlast.errors import InvalidInput, OutlastError

GETSUPPORT = 0x80285700
KEEPALIVE = 0x80045705
SETTIMEOUT = 0xC0045706
GETTIMEOUT = 0x80045707
MAGICCLOSE = 0x0100  # bit of WDIOC_GETSUPPORT's options
TESTING = "testing:"
FIRST_PID_NAMESPACE = 0xEFFFFFFC  # its inode number is fixed in the kernel
MODES = ("off", "automatic", "required")
RESETS = ("watchdog", "sysrq", "none")


class WatchdogTrouble(OutlastError):
    """The device cannot be used; the sentence says why."""

    code = "watchdog-trouble"


class Device(Protocol):
    """An armed watchdog. `timeout_s` is what was read back."""

    timeout_s: int

    def pet(self) -> None:
        """Raises OSError when the device is gone."""

    def retime(self, timeout_s: int) -> None:
        """Another time-out, without a moment unarmed. Raises OSError when it is not taken."""

    def disarm(self) -> None:
        """Magic close: the device stops."""

    def abandon(self) -> None:
        """Close and leave it running."""


class KernelDevice:
    """A watchdog of the kernel, armed on construction. Raises WatchdogTrouble."""

    def __init__(self, path: str, timeout_s: int) -> None:
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as trouble:
            raise WatchdogTrouble(
                f"the watchdog {path} cannot be opened: {trouble.strerror}",
                hint="another program (often systemd's RuntimeWatchdogSec) may hold it; "
                "without hardware load the module softdog",
            ) from None
        try:
            support = fcntl.ioctl(self._fd, GETSUPPORT, bytes(40))
            self.retime(timeout_s)
        except OSError as trouble:
            self.disarm()  # it was armed by us just now, before any VM may run
            raise WatchdogTrouble(
                f"{path} does not behave like a watchdog: {trouble.strerror}"
            ) from None
        if not struct.unpack_from("I", support)[0] & MAGICCLOSE and not _nowayout(path):
            self.disarm()
            raise WatchdogTrouble(
                f"the watchdog {path} would stop when the guard is killed",
                hint="load its module with nowayout=1",
            )

    def retime(self, timeout_s: int) -> None:
        fcntl.ioctl(self._fd, SETTIMEOUT, struct.pack("i", timeout_s))
        self.timeout_s = int(struct.unpack("i", fcntl.ioctl(self._fd, GETTIMEOUT, bytes(4)))[0])

    def pet(self) -> None:
        fcntl.ioctl(self._fd, KEEPALIVE, bytes(4))

    def disarm(self) -> None:
        try:
            os.write(self._fd, b"V")
        finally:
            os.close(self._fd)

    def abandon(self) -> None:
        os.close(self._fd)


class TestingDevice:
    """A pretend device in another process; see the file's docstring. Raises WatchdogTrouble."""

    def __init__(self, path: str, timeout_s: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.timeout_s = timeout_s
        try:
            self._socket.connect(path)
            self._socket.send(f"arm {timeout_s}".encode())
        except OSError as trouble:
            self._socket.close()
            raise WatchdogTrouble(
                f"the testing watchdog {path} cannot be opened: {trouble.strerror}"
            ) from None

    def retime(self, timeout_s: int) -> None:
        self._socket.send(f"arm {timeout_s}".encode())
        self.timeout_s = timeout_s

    def pet(self) -> None:
        self._socket.send(b"pet")

    def disarm(self) -> None:
        self._socket.send(b"disarm")
        self._socket.close()

    def abandon(self) -> None:
        self._socket.close()


def open_device(path: str, timeout_s: int) -> Device:
    """Arm the device at `path`. Raises WatchdogTrouble."""
    if path.startswith(TESTING):
        return TestingDevice(path.removeprefix(TESTING), timeout_s)
    return KernelDevice(path, timeout_s)


@dataclass(slots=True)
class Watchdog:
    """The policy around one device, which is opened as late as possible."""

    mode: str = "automatic"
    path: str = "/dev/watchdog"
    problem: str = ""
    pets: int = 0
    petted_ns: int = 0
    _device: Device | None = None

    @property
    def timeout_s(self) -> int:
        """Read back from the armed device; 0 without one."""
        return self._device.timeout_s if self._device else 0

    @property
    def refusal(self) -> str:
        """Why no term may open; "" if it may."""
        if self.mode != "required" or self._device:
            return ""
        why = self.problem or "none was armed"
        return f"this pool requires a watchdog and there is none: {why}"

    def arm(self, timeout_s: int) -> None:
        """Open the device if the policy wants one. Only call this while a pet is allowed."""
        if self._device and self.mode != "off" and self._device.timeout_s == timeout_s:
            return
        self.disarm()  # another time-out is wanted: nothing runs now, so the gap is harmless
        if self.mode == "off" or timeout_s <= 0:
            self.problem = "switched off"
            return
        try:
            self._device, self.problem = open_device(self.path, timeout_s), ""
        except WatchdogTrouble as trouble:
            self.problem = trouble.sentence

    def choose(self, mode: str, reset: str, path: str) -> None:
        """Take the pool's wish and the host's. Raises InvalidInput when they contradict."""
        if mode not in MODES:
            raise InvalidInput(f"watchdog must be one of {', '.join(MODES)}")
        self.mode = "off" if reset == "none" and mode != "required" else mode
        self.path = path
        if reset == "none" and mode == "required":
            raise InvalidInput(
                "this pool requires a watchdog, but the host file says that nothing may reset "
                "this host"
            )

    def retime(self, timeout_s: int) -> None:
        """Another time-out for the armed device; the one read back tells what came of it."""
        if self._device is not None and self._device.timeout_s != timeout_s:
            try:
                self._device.retime(timeout_s)
            except OSError as trouble:
                self.problem = f"the watchdog takes no other time-out: {trouble.strerror}"

    def pet(self, now_ns: int) -> None:
        """One sign of life, if a device is armed."""
        if not self._device:
            return
        try:
            self._device.pet()
        except OSError as trouble:
            self.problem = f"the watchdog cannot be petted: {trouble.strerror}"
            return
        self.pets += 1
        self.petted_ns = now_ns

    def disarm(self) -> None:
        """Stop the device. The caller has verified that nothing runs."""
        device, self._device = self._device, None
        if device:
            try:
                device.disarm()
            except OSError as trouble:
                self.problem = f"the watchdog cannot be stopped: {trouble.strerror}"

    def abandon(self) -> None:
        """Leave the device running: the next guard, or nobody, pets it."""
        device, self._device = self._device, None
        if device:
            device.abandon()

    def status(self) -> dict[str, object]:
        return {
            "mode": self.mode,
            "device": self.path,
            "armed": self._device is not None,
            "timeout_s": self.timeout_s,
            "pets": self.pets,
            "petted_ns": self.petted_ns,
            "problem": self.problem,
        }


def sysrq_problem(namespace: Path = Path("/proc/self/ns/pid")) -> str:
    """Why sysrq must not be used here; "" if it may."""
    try:
        number = namespace.stat().st_ino
    except OSError as trouble:
        return f"sysrq is refused: the PID namespace is unknown ({trouble.strerror})"
    if number != FIRST_PID_NAMESPACE:
        return "sysrq is refused: this host is a namespace of a larger machine"
    return ""


def sysrq(trigger: Path) -> str:
    """Reboot at once without any flushing; returns only if that failed, with the reason."""
    try:
        fd = os.open(trigger, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"b")
        finally:
            os.close(fd)
    except OSError as trouble:
        return f"sysrq does not work: {trouble.strerror}"
    return ""


def _nowayout(path: str) -> bool:
    name = Path(path).resolve().name
    if name == "watchdog":
        name = "watchdog0"  # the old name of the first device
    try:
        return Path(f"/sys/class/watchdog/{name}/nowayout").read_text().strip() == "1"
    except OSError:
        return False
