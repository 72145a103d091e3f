"""libvirt's words in ours: events, states and error sentences. No connection, no time.

Rules:
1. Tables first; a pair that is in no table is reported with libvirt's own words, never dropped.
2. The constants of libvirt are written as numbers with their names beside them, so that this file
   can be read and tested without the library.
3. Error sentences are matched on the stable English parts (libvirtd runs in the C locale).
"""

from __future__ import annotations

import re

from outlast.errors import Conflict, HypervisorTrouble, OutlastError
from outlast.hypervisor.driver import (
    DISK_ERROR,
    MIGRATION,
    REFUSAL,
    EventKind,
    GuardRefused,
    ImageMissing,
    StartLocked,
)
from outlast.model import VmState

# virDomainEventType
STARTED, SUSPENDED, RESUMED, STOPPED, SHUTDOWN, PMSUSPENDED = 2, 3, 4, 5, 6, 7
SHUTDOWN_HOST = 2  # detail of SHUTDOWN: a signal from the host, not the system inside

# virDomainEventStoppedDetailType. What somebody does to a VM past the pool is no wish of its owner
# and no shutdown by the system inside: the VM was ended like by any other accident. Kills by the
# driver itself are told apart before (libvirt_ledger.py).
_STOPPED = {
    0: (EventKind.STOPPED, "the system inside shut down"),
    1: (EventKind.CRASHED, "somebody killed it through libvirt"),
    2: (EventKind.CRASHED, "the system inside crashed"),
    3: (EventKind.CRASHED, "libvirt ended it here for its copy on another host"),
    4: (EventKind.CRASHED, "somebody saved it to a file through libvirt"),
    5: (EventKind.CRASHED, "its QEMU process ended unexpectedly"),
    6: (EventKind.STOPPED, "replaced by a snapshot"),
}

# virDomainEventSuspendedDetailType
_SUSPENDED = {
    0: "paused through libvirt",
    1: "paused for a migration",
    2: "paused over a disk error",
    3: "paused by the watchdog of the system inside",
    4: "restored paused",
    5: "paused for a snapshot",
    6: "paused over a libvirt error",
    7: "paused for a post-copy migration",
    8: "paused by a failed post-copy migration",
}

# virDomainState
_STATES = {
    0: VmState.RUNNING,  # no state
    1: VmState.RUNNING,
    2: VmState.RUNNING,  # blocked on a resource
    3: VmState.PAUSED,
    4: VmState.RUNNING,  # being shut down: its disks are still in use
    5: VmState.STOPPED,
    6: VmState.RUNNING,  # crashed, but its process is still there
    7: VmState.PAUSED,  # suspended by the system inside
}

# virDomainPausedReason
_PAUSED_REASONS = {
    1: "paused through libvirt",
    2: MIGRATION,
    3: "save",
    4: "dump",
    5: DISK_ERROR,
    6: "watchdog of the system inside",
    8: "shutting down",
    9: "snapshot",
    10: "crashed",
    11: "starting",
}
_PAUSED_STARTING = 11

# virDomainEventIOErrorAction
_IO_ACTIONS = {0: "nothing was done", 1: "the VM was paused", 2: "the error was reported inside"}


def stopped(detail: int, *, by_host_signal: bool) -> tuple[EventKind, str]:
    """What the end of a VM means."""
    if by_host_signal and detail == 0:
        return EventKind.CRASHED, "a signal from this host ended its QEMU process"
    return _STOPPED.get(detail, (EventKind.CRASHED, f"ended, libvirt's detail {detail}"))


def paused(event: int, detail: int) -> str:
    if event == PMSUSPENDED:
        return "suspended by the system inside"
    return _SUSPENDED.get(detail, f"paused, libvirt's detail {detail}")


def io_error(path: str, device: str, action: int, reason: str) -> str:
    """One sentence for a disk error; `reason` is "enospc" or empty."""
    cause = "no space left" if reason == "enospc" else (reason or "input/output error")
    done = _IO_ACTIONS.get(action, f"libvirt's action {action}")
    return f"{cause} on {path or device}; {done}"


def state(number: int, reason: int) -> tuple[VmState, str]:
    """State and reason of a domain as libvirt counts them."""
    if number == 3 and reason == _PAUSED_STARTING:
        return VmState.STARTING, ""
    ours = _STATES.get(number, VmState.RUNNING)
    text = {
        2: "blocked",
        4: "shutting down",
        6: "crashed",
        7: "suspended by the system inside",
    }.get(number, "")
    if number == 3:
        text = _PAUSED_REASONS.get(reason, "")
    return ours, text


_LOCKED = re.compile(r'Failed to get (?:"write"|shared "write"|"[a-z ]+"|shared "[a-z ]+") lock')
_IMAGE = re.compile(r"using the image \[([^\]]+)\]")
_REFUSED = re.compile(re.escape(REFUSAL) + r"[^\n]*", re.IGNORECASE)
_ABSENT = (
    re.compile(r"Cannot access storage file '([^']+)'[^\n]*: No such file"),
    re.compile(r"Cannot access backing file '([^']+)'"),
    re.compile(r"[Cc]ould not open (?:kernel file )?'([^']+)': No such file"),
    re.compile(r"could not load (?:kernel|initrd) '([^']+)': No such file"),
    re.compile(r"unable to (?:stat|open):? '?([^':]+)'?: No such file"),
)
_BRIDGE = re.compile(r"on '([^']+)': No such device")
_TAKEN = re.compile(r"already (?:exists|defined|is defined|active) (?:with uuid|as)|is already def")
_LOG = re.compile(r"Failed to create file '([^']+)'")


def start_trouble(name: str, sentence: str, log: str = "") -> OutlastError:
    """Why a start failed, from libvirt's sentence and what its QEMU log gained meanwhile."""
    both = f"{sentence}\n{log}"
    if refused := _REFUSED.search(both):
        return GuardRefused(
            refused.group(0).strip(),
            hint="`outlast host show` tells the state of this host's guard",
        )
    if _LOCKED.search(both):
        image = _IMAGE.search(both)
        return StartLocked(
            f"'{name}' cannot start yet: {image.group(1) if image else 'its disk'} is still locked",
            hint="the lock of a host that died lapses by itself; it is tried again",
        )
    for pattern in _ABSENT:
        if found := pattern.search(both):
            return ImageMissing(
                f"'{name}' cannot start: {found.group(1)} is not there",
                hint="is the pool's storage mounted on this host?",
            )
    if _TAKEN.search(sentence):
        return Conflict(
            f"'{name}' cannot start: {sentence}",
            hint="another domain of this host uses the name or uuid: `virsh list --all`",
        )
    hint = ""
    if found := _BRIDGE.search(both):
        hint = f"this host has no network bridge '{found.group(1)}'"
    elif found := _LOG.search(both):
        hint = f"does the folder of {found.group(1)} exist?"
    last = next((line for line in reversed(log.splitlines()) if line.strip()), "")
    extra = f" ({last.strip()})" if last and last.strip() not in sentence else ""
    return HypervisorTrouble(f"'{name}' cannot start: {sentence}{extra}", hint=hint)
