"""The seam between the manager's back end and those who show it: REST routes, pages, tests.

Rules:
1. Reads never block and never wait for a pool: they answer from what was heard last, and say how
   old it is. Those that are `async` ask agents, and raise OutlastError when none answers.
2. Everything here lives on one event loop. Nothing here may be called from another thread.
3. Who may do what is decided by `People.may`; `Reads` and `Acts` (acts_port.py) do not ask. Callers
   must.
4. A refusal is an OutlastError: sentence, hint, HTTP status (errors.py).
5. VMs are named by (pool id, VM name or uuid), hosts by (pool id, host name): never by a path.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from outlast.wire.backups import ScheduleInfo
from outlast.wire.disks import Snapshot
from outlast.wire.equipment import (
    NetworkInfo,
    OrphanInfo,
    StorageInfo,
)
from outlast.wire.images import ImageInfo
from outlast.wire.shapes import (
    PoolStatus,
    TimelineEntry,
    VmStatus,
)
from outlast.wire.templates import TemplateInfo
from outlast.wire.why import Why

# Every action that `People.may` is asked about, in the order in which they are shown.
ACTIONS = (
    "see", "start", "stop", "kill", "migrate", "ha", "create", "delete", "console", "set",
    "snapshot",  # VMs
    "backup", "adopt",  # VMs, by folders and domains of their hosts
    "catalog",  # networks, storage, images and templates of a pool: see them
    "images", "maintain", "resume", "power-off", "power-on", "confirm-off", "host-remove", "drill",
    "pool-ha", "pool-set",  # hosts, pools
    "tasks", "people", "tokens", "audit", "pools", "webhooks", "settings",  # the manager itself
)  # fmt: skip
ROLES = ("admin", "operator", "viewer", "own")
COOKIE = "__Host-outlast"  # holds Session.cookie_token; Secure, HttpOnly, SameSite=Strict, Path=/
CSRF_HEADER = "X-CSRF-Token"  # Session.csrf, on each change that comes with the cookie


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """A pool as it was heard last."""

    id: str  # uuid
    name: str
    status: PoolStatus  # hosts and VMs included; without both when it never answered
    seen_wall_s: float  # when it answered last; 0: never
    stale: bool  # its last answer is too old to be taken for the present
    trouble: str  # why, in a sentence; "" = it answers
    version: int  # grows with each change of what is shown; not with ages of beats


@dataclass(frozen=True, slots=True)
class Scope:
    """What somebody may see. Everything, or these pools and VMs by (pool id, name)."""

    everything: bool = True
    pools: frozenset[str] = frozenset()
    vms: frozenset[tuple[str, str]] = frozenset()
    folders: frozenset[tuple[str, str]] = frozenset()  # (pool id, how names of its VMs begin)

    def sees_pool(self, pool_id: str) -> bool:
        """The whole pool, its hosts included."""
        return self.everything or pool_id in self.pools

    def sees_vm(self, pool_id: str, name: str) -> bool:
        if self.sees_pool(pool_id) or (pool_id, name) in self.vms:
            return True
        return any(pool == pool_id and name.startswith(begin) for pool, begin in self.folders)

    def touches(self, pool_id: str) -> bool:
        """Anything in that pool; its name may be shown then."""
        return self.sees_pool(pool_id) or any(p == pool_id for p, _ in self.vms | self.folders)


VM_SORTS = ("name", "pool", "host", "state", "memory", "vcpus", "since")


@dataclass(frozen=True, slots=True)
class VmQuery:
    """Which VMs, in which order. Empty texts and None do not narrow."""

    search: str = ""  # words, all of which must be in name, host, pool name or state
    pool: str = ""  # id
    host: str = ""
    state: str = ""  # one, or several with commas
    ha: bool | None = None  # True: protected now; False: not, or switched off for a while
    sort: str = "name"  # one of VM_SORTS; ties by name, then pool
    descending: bool = False
    cursor: str = ""  # from VmPage.next_cursor; goes before `page`
    page: int = 1
    limit: int = 50  # 1..500
    scope: Scope = Scope()


@dataclass(frozen=True, slots=True)
class VmItem:
    pool_id: str
    vm: VmStatus
    version: int  # of this VM; grows with each change of what is shown


@dataclass(frozen=True, slots=True)
class VmPage:
    items: Sequence[VmItem]
    total: int  # that match, on all pages
    next_cursor: str  # "" = this is the last page


@dataclass(frozen=True, slots=True)
class Change:
    """Something is not as it was; read it again. No values: the newest ones are in Reads.

    kind: pool | host | vm | task; events | audit: there are new lines, of any pool; or "reset":
    changes were missed, read everything again.
    Ages of beats (HostStatus.beat_age_ms and the like) are not told: they change all the time.
    """

    id: int  # grows; microseconds of the wall clock, so that another manager understands it
    kind: str
    pool_id: str = ""
    name: str = ""  # of the host or VM, id of the task; "" for a pool


class Reads(Protocol):
    """What is known of all pools. Answers are immutable and may be kept."""

    def pools(self) -> list[PoolEntry]:
        """By name."""

    def pool(self, pool_id: str) -> PoolEntry:
        """Raises NotFound."""

    def vm(self, pool_id: str, vm: str) -> VmItem:
        """By name or uuid. Raises NotFound."""

    def vms(self, query: VmQuery) -> VmPage:
        """Raises InvalidInput for a sort, cursor, page or limit that is none."""

    def changes(self, after: int | None = None) -> AsyncIterator[Change]:
        """Changes from now on, or those after that id first. Ends when the manager stops.

        A reader that is too slow, and one whose id is too old, gets one "reset".
        """

    async def why(self, pool_id: str, vm: str) -> Why:
        """Why a VM is where and as it is. Raises NotFound, Unreachable, StorageTrouble."""

    async def why_host(self, pool_id: str, host: str) -> Why:
        """The same of a host."""

    async def timeline(
        self, pool_id: str, limit: int = 200, since_wall_s: float = 0,
        until_wall_s: float | None = None,
    ) -> list[TimelineEntry]:  # fmt: skip
        """What happened in a pool, oldest first, at most the newest `limit`; None: up to now.

        Raises NotFound, Unreachable, StorageTrouble.
        """

    async def templates(self, pool_id: str) -> list[TemplateInfo]:
        """Of which VMs can be made. Raises as `timeline` does."""

    async def schedules(self, pool_id: str) -> list[ScheduleInfo]:
        """Which VMs are backed up by themselves. Asks an agent."""

    async def snapshots(self, pool_id: str, vm: str) -> list[Snapshot]:
        """Of a VM's disks, the oldest first. Raises as `timeline` does."""

    async def images(self, pool_id: str) -> list[ImageInfo]:
        """Of which templates can be made. Raises as `timeline` does."""

    async def networks(self, pool_id: str) -> list[NetworkInfo]:
        """With how each host says it stands there. Raises as `timeline` does."""

    async def storage(self, pool_id: str) -> list[StorageInfo]:
        """The same; the pool's own first."""

    async def orphans(self, pool_id: str) -> list[OrphanInfo]:
        """Disks that no VM names, the largest first. Raises as `timeline` does."""


@dataclass(frozen=True, slots=True)
class Task:
    """A wish on its way: from the moment somebody had it until the pool has done it, or not."""

    id: str
    verb: str  # start | stop | kill | migrate | create | delete | ha | maintain | resume | ...
    pool_id: str
    object: str  # name of the VM or host; "" = the pool
    who: str
    started_wall_s: float
    phase: str  # asking | watching | done | failed
    percent: float | None  # None: not known
    sentence: str
    done: bool = False
    failed: bool = False  # then `sentence` says why
    ended_wall_s: float = 0
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """A role on everything, on a pool, on a folder of its VMs, or on one of them."""

    role: str  # one of ROLES
    pool_id: str = ""  # "" = everything
    vm: str = ""  # name; "web-*": the folder of VMs whose names begin so; "" = the whole pool

    @property
    def folder(self) -> str:
        """How the names begin; "" = it is none."""
        return self.vm[:-1] if self.vm.endswith("*") else ""

    def holds(self, vm: str) -> bool:
        """Is that VM, or folder, one of those that `vm` means?"""
        return not self.vm or vm == self.vm or bool(self.folder and vm.startswith(self.folder))


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is logged in, or a program with a token."""

    name: str
    roles: tuple[Grant, ...]
    token: str = ""  # id of the token it came with; "" = a person with a session


@dataclass(frozen=True, slots=True)
class Session:
    cookie_token: str  # the secret for the cookie; is stored nowhere else
    person: Person
    expires_wall_s: float
    csrf: str  # goes into forms; the same for the whole session
    stage: str = ""  # "" = whole; code | enrol: what is to be done before it is anybody's


class People(Protocol):
    """Who is who, and who may do what."""

    async def first_start(self) -> bool:
        """True until the first administrator is set up."""

    async def set_up(self, code: str, name: str, password: str, address: str = "") -> Session:
        """Make the first administrator. Raises Refused (code), InvalidInput, Conflict."""

    async def login(self, name: str, password: str, address: str) -> Session:
        """Raises Refused: wrong, or too often; the sentence says which."""

    async def code(self, cookie_token: str, code: str, address: str) -> Session:
        """The second step of a login, in a session that waits for it. Raises Refused, NotFound."""

    async def session(self, cookie_token: str) -> Person | None:
        """None: there is no such session, it has ended, or it is not whole."""

    async def csrf(self, cookie_token: str) -> str:
        """The session's token for forms; "" without a session."""

    async def logout(self, cookie_token: str) -> None: ...

    def may(self, person: Person, action: str, pool_id: str = "", vm: str = "") -> bool:
        """action: one of ACTIONS. Without a pool: the manager itself, or every pool."""

    def scope(self, person: Person) -> Scope:
        """What the person may see; for VmQuery.scope."""

    async def audit(
        self, person: Person, action: str, object_: str, *, address: str = "", ok: bool = True,
        sentence: str = "", before: str = "", after: str = "",
    ) -> None:  # fmt: skip
        """Write into the audit that cannot be changed. REST routes do this by themselves."""
