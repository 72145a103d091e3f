"""The port to a host's hypervisor: what callers may ask and what every driver promises.

Promises, checked for all drivers by tests/contract/driver_kit.py:
1. Every method blocks, may be called from any thread, and ends: a hypervisor that does not answer
   leads to LibvirtGone within the driver's time limit. Never call from an event loop's thread.
2. `start` of a VM that runs here already (same name and uuid) does nothing and succeeds. A VM is
   up when `start` returns: `list` shows it, `started` was or is about to be reported.
3. `kill` leaves no such VM behind and is silent about a name that is not there. `shutdown`,
   `resume`, `open_console` and `open_screen` raise NotFound for it.
4. `list` shows only VMs of the pool, asks no VM anything and costs little.
5. Events of one VM reach each subscriber in order, exactly once each: started, then any of
   paused/resumed/io-error, then one of stopped/crashed. What ended while the hypervisor was out of
   reach is reported when it is back. VMs that ran before the driver was made are in `list`, and
   have no `started` event.
6. Start again is the caller's decision: no driver ever starts or restarts a VM by itself.

After LibvirtGone from `start`, `shutdown` or `kill` the outcome is unknown: look at `list`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from outlast.errors import HypervisorTrouble
from outlast.model import HostResources, LocalVm, VmSpec

# The emulator wrapper begins its refusal with these words; drivers know it by them.
REFUSAL = "Outlast does not let VM"
# LocalVm.reason of a VM that QEMU paused because one of its disks failed.
DISK_ERROR = "disk error"
MIGRATION = "migration"  # it was stopped to be moved
# Detail of the `stopped` of a VM that its own driver killed.
KILLED = "killed"
# What systems inside can take as a new module of memory.
MEMORY_STEP_MIB = 128


class StartLocked(HypervisorTrouble):
    """Another client, perhaps a dead one, still holds the lock of a disk image: try again later."""


class ImageMissing(HypervisorTrouble):
    """A disk image or kernel of the VM is not there; the sentence names the path."""


class GuardRefused(HypervisorTrouble):
    """This host's guard did not let the VM in: no live term, or the VM was not admitted."""


class LibvirtGone(HypervisorTrouble):
    """No connection to the hypervisor, or no answer in time; what was asked may still happen."""


def check_room(name: str, more_mib: int, free_mib: int) -> None:
    """Raises HypervisorTrouble when a running VM cannot have so much more memory here."""
    if more_mib % MEMORY_STEP_MIB:
        raise HypervisorTrouble(f"'{name}' can only have {MEMORY_STEP_MIB} MiB more at a time")
    if more_mib > free_mib:
        raise HypervisorTrouble(
            f"'{name}' cannot have {more_mib} MiB more: this host has {free_mib} MiB left",
            hint="move it to a host with more: outlast vm migrate",
        )


class EventKind(StrEnum):
    """What happened to a VM. A VM is over after `stopped` or `crashed`."""

    STARTED = "started"
    STOPPED = "stopped"  # the system inside shut down, or this driver killed it
    CRASHED = "crashed"  # its process ended by itself or was killed by others
    PAUSED = "paused"
    RESUMED = "resumed"
    IO_ERROR = "io-error"  # a disk failed; a `paused` comes with it


@dataclass(frozen=True, slots=True)
class DriverEvent:
    """Something that happened to one VM; `detail` is for people."""

    name: str
    kind: EventKind
    detail: str
    at_ns: int  # CLOCK_BOOTTIME when the driver learned of it


class Console(Protocol):
    """Both directions of a VM's first serial port, or of the VNC server of its screen.

    The newest opener has the serial port, older ones end; a screen has many viewers.
    """

    def recv(self, limit: int) -> bytes:
        """Wait for 1..limit bytes; b"" when the console or the VM has ended."""

    def send(self, data: bytes) -> None:
        """Send all of it, waiting as needed.

        Raises LibvirtGone when the console has ended.
        """

    def close(self) -> None:
        """End it, also under a waiting `recv`; a second call does nothing."""


class Processors(Protocol):
    """What processor the VMs of a host see."""

    @property
    def accelerator(self) -> str:
        """kvm or tcg."""

    def own(self) -> str:
        """What this host could show its VMs, as the hypervisor describes it.

        Raises HypervisorTrouble when it does not know.
        """

    def baseline(self, cpus: Sequence[str]) -> str:
        """What all of these have, so that a VM that sees no more can move between their hosts.

        Raises HypervisorTrouble when there is no such thing.
        """

    def use(self, cpu: str) -> None:
        """Show this one to VMs that are started from now on; "" = whatever suits this host."""


class Driver(Protocol):
    """A host's hypervisor; see the promises above. All methods may raise LibvirtGone."""

    def list(self) -> list[LocalVm]:
        """The pool's VMs that exist here, by name; what is absent does not run here."""

    def start(self, spec: VmSpec) -> None:
        """Start a VM.

        Raises StartLocked, ImageMissing, GuardRefused, Conflict (the name or uuid is in use by
        another VM here), InvalidInput, or HypervisorTrouble for any other refusal.
        """

    def shutdown(self, name: str) -> None:
        """Ask the system inside to shut down and return at once; it may never obey.

        Raises NotFound.
        """

    def kill(self, name: str) -> None:
        """End a VM at once.

        Raises HypervisorTrouble when it does not die: its storage may be stuck.
        """

    def resume(self, name: str) -> None:
        """Let a VM go on that was paused over a disk error; a running one is left as it is.

        Raises NotFound.
        """

    def resize(self, name: str, vcpus: int = 0, memory_mib: int = 0) -> None:
        """Let a running VM have so much, up to what it was started with as the most; 0 = as it is.

        Memory is added in steps of MEMORY_STEP_MIB, and never taken away.
        Raises NotFound; HypervisorTrouble when it cannot have it: look at `list` for what it has.
        """

    def resources(self) -> HostResources:
        """What this host has and what is not promised to the VMs that run here."""

    def subscribe(self, callback: Callable[[DriverEvent], None]) -> None:
        """Call back, from the driver's own thread, for each event from now on.

        The callback must be quick and must not call the driver.
        """

    def open_console(self, name: str) -> Console:
        """The serial console of a running VM.

        Raises NotFound.
        """

    def open_screen(self, name: str) -> Console:
        """The screen of a running VM: what a VNC server says and hears (RFB), after no password.

        Raises NotFound, HypervisorTrouble for one without a screen.
        """

    def close(self) -> None:
        """Let go of the hypervisor; VMs keep running."""
