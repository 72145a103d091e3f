"""libvirt's sentences, as libvirt 9.0 and QEMU 7.2 wrote them, and what we make of them."""

from __future__ import annotations

import pytest

from outlast.errors import Conflict, HypervisorTrouble, OutlastError
from outlast.hypervisor import libvirt_words as words
from outlast.hypervisor.driver import EventKind, GuardRefused, ImageMissing, StartLocked
from outlast.model import VmState

LOCK = (
    "internal error: qemu unexpectedly closed the monitor: 2026-01-02T02:03:39.57Z "
    'qemu-system-x86_64: -device {"driver":"virtio-blk-pci"}: Failed to get "write" lock\n'
    "Is another process using the image [/srv/pool/images/web.raw]?"
)
EXITED = "internal error: process exited while connecting to monitor: "
REFUSAL = "Outlast does not let VM web start on this host: no term is open"


@pytest.mark.parametrize(
    ("sentence", "log", "kind", "part"),
    [
        (LOCK, "", StartLocked, "/srv/pool/images/web.raw"),
        ("failed to connect to monitor socket: Connection refused", LOCK, StartLocked, "web.raw"),
        ("Cannot access storage file '/p/web.raw': No such file or directory", "", ImageMissing,
         "/p/web.raw is not there"),
        ("Cannot access storage file '/p/web.raw' (as uid:64055, gid:64055): No such file or "
         "directory", "", ImageMissing, "/p/web.raw"),
        (EXITED + "qemu: could not open kernel file '/p/vmlinuz': No such file or directory", "",
         ImageMissing, "/p/vmlinuz"),
        (EXITED + "Could not open '/p/base.qcow2': No such file or directory", "", ImageMissing,
         "/p/base.qcow2"),
        (EXITED + REFUSAL, "", GuardRefused, "no term is open"),
        ("failed to connect to monitor socket: Connection refused", f"x\n{REFUSAL}\n",
         GuardRefused, "no term is open"),
        ("operation failed: domain 'web' already exists with uuid 1", "", Conflict, "uuid 1"),
        ("operation failed: domain 'db' is already defined with uuid 1", "", Conflict, "'db'"),
        ("Cannot access storage file '/p/web.raw': Permission denied", "", HypervisorTrouble,
         "Permission denied"),
        ("Cannot get interface MTU on 'br9': No such device", "", HypervisorTrouble, "br9"),
        ("something new", "", HypervisorTrouble, "something new"),
        ("something new", "a\nqemu: the reason\n", HypervisorTrouble, "qemu: the reason"),
    ],
)  # fmt: skip
def test_why_a_start_failed(sentence: str, log: str, kind: type[OutlastError], part: str) -> None:
    trouble = words.start_trouble("web", sentence, log)
    assert type(trouble) is kind
    assert part in trouble.sentence


@pytest.mark.parametrize(
    ("detail", "signal", "kind"),
    [
        (0, False, EventKind.STOPPED),
        (0, True, EventKind.CRASHED),
        (1, False, EventKind.CRASHED),  # by somebody past the pool: its owner wished no such thing
        (1, True, EventKind.CRASHED),
        (4, False, EventKind.CRASHED),
        (2, False, EventKind.CRASHED),
        (5, False, EventKind.CRASHED),
        (99, False, EventKind.CRASHED),
    ],
)
def test_what_an_end_means(detail: int, signal: bool, kind: EventKind) -> None:
    assert words.stopped(detail, by_host_signal=signal)[0] is kind


@pytest.mark.parametrize(
    ("number", "reason", "expected"),
    [
        (1, 1, (VmState.RUNNING, "")),
        (3, 5, (VmState.PAUSED, "disk error")),
        (3, 11, (VmState.STARTING, "")),
        (3, 99, (VmState.PAUSED, "")),
        (4, 0, (VmState.RUNNING, "shutting down")),
        (5, 0, (VmState.STOPPED, "")),
        (6, 0, (VmState.RUNNING, "crashed")),
        (42, 0, (VmState.RUNNING, "")),
    ],
)
def test_states(number: int, reason: int, expected: tuple[VmState, str]) -> None:
    assert words.state(number, reason) == expected


def test_disk_errors() -> None:
    assert words.io_error("/p/a.raw", "virtio-disk0", 1, "enospc") == (
        "no space left on /p/a.raw; the VM was paused"
    )
    assert words.io_error("", "virtio-disk0", 1, "").startswith("input/output error on virtio-d")


def test_the_numbers_are_libvirts() -> None:
    libvirt = pytest.importorskip("libvirt")
    assert words.STARTED == libvirt.VIR_DOMAIN_EVENT_STARTED
    assert words.SUSPENDED == libvirt.VIR_DOMAIN_EVENT_SUSPENDED
    assert words.RESUMED == libvirt.VIR_DOMAIN_EVENT_RESUMED
    assert words.STOPPED == libvirt.VIR_DOMAIN_EVENT_STOPPED
    assert words.SHUTDOWN == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN
    assert words.PMSUSPENDED == libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED
    assert words.SHUTDOWN_HOST == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST
    assert words._PAUSED_STARTING == libvirt.VIR_DOMAIN_PAUSED_STARTING_UP
    assert libvirt.VIR_DOMAIN_PAUSED_IOERROR == 5
    assert libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED == 5
    assert libvirt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR == 2
