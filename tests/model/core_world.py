"""What core_model.py moves: rules as switches, hosts and the world as immutable values."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import NamedTuple

KILL = 1  # K in ticks
NAMES = "AB"


@dataclass(frozen=True)
class Rules:
    """Each rule of docs/PROTOCOL.md as a switch."""

    fresh: bool = True  # silence needs a read that began after T_dead, not a timer
    admit: bool = True  # a VM starts only through an open guard; closed is a state
    newterm: bool = True  # a closed guard ends its term for good
    keepterm: bool = True  # a restart of the agent leaves the term alone
    reset: bool = True  # a guard that closes resets the host unless it is told that all has landed
    confirm: bool = True  # the deadline moves only after a read that shows the newest view
    p3: bool = True  # an excluded term counts as dead only T_dead after the announcement
    slack: bool = True  # T_dead > F + K
    sponsor: bool = True  # only hosts listed in the newest view act; others are admitted
    joinwin: bool = True  # what a joiner saw before its admission does not count
    drained: bool = True  # a lease is freed only when nothing of its VM can be on its way
    announce: bool = True  # more time is asked only of members of a view that a block names

    def without(self, name: str) -> Rules:
        return replace(self, **{name: False})


RULE_NAMES = tuple(f.name for f in fields(Rules))


class Guard(IntEnum):
    IDLE = 0
    OPEN = 1
    CLOSED = 2


class Shown(IntEnum):
    """What the host's block on the storage says."""

    OLD = 0  # the term before the present one
    LIVE = 1
    CLOSED = 2


class Intent(IntEnum):
    """Where the agent stands between deciding and doing."""

    NONE = 0
    TAKE = 1  # it has a proof and will swap the lease
    START = 2  # the lease is its own and it will ask the guard


class Host(NamedTuple):
    up: bool = True
    path: bool = True  # to the storage
    awake: bool = True  # agent and pulse
    guard: Guard = Guard.OPEN
    left: int = 0  # ticks until D + K; the deadline D is past when left <= KILL
    runs: bool = False
    queued: bool = False  # a write of the VM waits in this kernel
    intent: Intent = Intent.NONE
    ahead: int = 0  # present term minus the lease's; matters for the lease's holder only
    shown: Shown = Shown.LIVE
    listed: bool = True  # the newest view names the present term
    in_view: bool = True  # ... or at least this host
    knows: bool = True  # it follows the newest view
    peer: bool = True  # the view it follows names the other host
    still: int = 0  # how long it has seen the other's block unchanged
    unread: bool = True  # the other wrote since it last read


class World(NamedTuple):
    hosts: tuple[Host, Host]
    faults: int
    owner: int = 1  # whom the lease names, or named last
    free: bool = False  # it names nobody
    link: bool = True
    announced: bool = True  # a listed block names the newest view
    out_for: int = 0  # how long such a view has left out the lease's holder

    def put(self, i: int, host: Host) -> World:
        pair = (host, self.hosts[1]) if i == 0 else (self.hosts[0], host)
        return World(pair, *self[1:])
