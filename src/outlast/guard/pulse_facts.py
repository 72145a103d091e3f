"""What the pulse's core is told and what it answers. P: values only.

`Instant` pairs and deadlines are nanoseconds of this host's clocks; see pulse_windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from outlast.guard.pulse_windows import Instant
from outlast.model import GuardState, View
from outlast.settings import Timing


class Life(Enum):
    """Where this host's own term stands."""

    LOOKING = "looking"  # reads only: no term yet
    JOINING = "joining"
    MEMBER = "member"  # the guard was opened for it
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Identity:
    pool_uuid: str
    host_uuid: str
    boot_id: str
    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Desk:
    """What the agent and the network said last; goes into the block as it is."""

    vm_count: int = 0
    free_mib: int = 0
    free_vcpus: int = 0
    work_seq: int = 0
    hints: tuple[tuple[str, int], ...] = ()
    agent_away_ms: int = 0
    heard: frozenset[int] = frozenset()
    witness: bool | None = None


@dataclass(frozen=True, slots=True)
class GuardFact:
    """The guard's last word."""

    state: GuardState
    term: str
    empty: bool
    undrained: bool = False  # it waits to hear that what ran has left nothing on its way
    unsettled: bool = False  # so it does of a storage that only the agent asks

    @property
    def quiet(self) -> bool:
        """No term is open and nothing of one is left, but for the pool's own storage."""
        over = self.state in (GuardState.IDLE, GuardState.CLOSED)
        return over and self.empty and not self.unsettled

    def holds(self, term: str) -> bool:
        return self.state is GuardState.OPEN and self.term == term


@dataclass(frozen=True, slots=True)
class Sample:
    """One cycle of the storage thread."""

    started: Instant  # before the write was issued (a cycle without a write: before the read)
    read_start: Instant
    read_end: Instant
    written: bytes | None = None  # None: nothing was to be written
    acked: Instant | None = None  # None: the write was not acknowledged
    before: bytes | None = None  # own block as read before the write; None: not read
    area: Sequence[bytes] | None = None  # 65 pieces, [n] of slot n; None: the read failed
    views: tuple[View, ...] = ()  # newer than the one followed, ascending
    error: str = ""  # of the write or the read of the area
    view_error: str = ""  # of the search for newer views


@dataclass(frozen=True, slots=True)
class Open:
    term: str
    start: Instant


@dataclass(frozen=True, slots=True)
class Confirm:
    term: str
    start: Instant


@dataclass(frozen=True, slots=True)
class Extend:
    """More time without a beat; see pulse_grant."""

    term: str
    start: Instant


@dataclass(frozen=True, slots=True)
class Retime:
    """The open term goes on with another timing; see pulse_promise."""

    term: str
    start: Instant
    timing: Timing


@dataclass(frozen=True, slots=True)
class Close:
    term: str
    reason: str
    reset_if_running: bool = False


@dataclass(frozen=True, slots=True)
class Drained:
    """The storage has answered for X since nothing of this closed term runs."""

    term: str


Command = Open | Confirm | Extend | Retime | Close | Drained


@dataclass(slots=True)
class Gone:
    """A term that a followed view no longer lists."""

    term: str
    version: int
    since: Instant | None = None  # the own block, read back, names that view or a newer one
