"""The port to a hypervisor's live migration: what the agent's hands ask of it (pure).

Promises:
1. `depart` begins to move a running VM and returns at once; the Departure tells how it goes.
2. The target's machine stands still when the move is complete: nothing here lets it go on.
3. A hypervisor may let the source go on by itself at any moment after an error. `Departure.still`
   is True only while it has certainly not done so since the source stopped.
4. The stream between the two hosts is encrypted and both ends show certificates, always.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from outlast.hypervisor.driver import Driver


@dataclass(frozen=True, slots=True)
class Way:
    """How the VM gets there. socket: a unix socket that leads to the target's hypervisor."""

    id: str  # of the move; the copy carries it (LocalVm.incoming)
    socket: str
    address: str  # where the target listens for the VM's memory, an IP address
    mib_s: int = 0  # at most so much of the network, 0 = all
    connections: int = 1  # the memory's streams


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a move is; all 0 while that is not known."""

    done_bytes: int = 0
    left_bytes: int = 0
    total_bytes: int = 0
    rate_bytes_s: int = 0
    dirty_bytes_s: int = 0  # how fast the VM changes what was copied already
    downtime_ms: int = 0  # expected


class Departure(Protocol):
    """One move under way from this host."""

    def wait(self, limit_s: float) -> bool:
        """Wait for its end; True when it has ended."""

    @property
    def trouble(self) -> str:
        """Why it failed; "" when it worked or has not ended."""

    @property
    def still(self) -> bool:
        """Promise 3."""

    def progress(self) -> Progress: ...

    def abort(self) -> None:
        """Give up, if it is not too late; the VM goes on here."""


class Mover(Protocol):
    def depart(self, name: str, way: Way) -> Departure:
        """Raises NotFound, LibvirtGone, HypervisorTrouble."""


class MovingDriver(Driver, Mover, Protocol):
    """A hypervisor that can also move VMs."""
