"""The shapes of the agent's API, version 1: what goes over the wire, with types.

Rules:
1. Requests are strict: an unknown field or a wrong type is refused with the field's name.
2. Answers may grow: readers ignore fields they do not know. No field is ever renamed or changes
   its meaning; units are last in the names.
3. None means "not known"; it never means no or zero.
4. Whether a name may be one is checked by the agent (storage/names.py), not here.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from outlast.errors import InvalidInput, OutlastError
from outlast.wire.drills import DrillKind
from outlast.wire.hardware import HardwareWish, PowerInfo
from outlast.wire.margin import LightInfo, MarginInfo
from outlast.wire.pool_settings import PoolSettingsInfo as PoolSettingsInfo
from outlast.wire.ready import Ready
from outlast.wire.size_field import Size

VCPUS_MAX = 512
DISKS_MAX = 26


class BadField(InvalidInput):
    """InvalidInput that knows which field of a request it is about."""

    def __init__(self, sentence: str, *, hint: str = "", field: str = "") -> None:
        super().__init__(sentence, hint=hint)
        self.field = field


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


# ---- requests


class DiskWish(Request):
    """One disk of a new VM. With a size: a new raw file; without: a file that exists already."""

    path: str = ""  # on the pool's storage, relative to it, or absolute; "" = images/<vm>.raw
    repository: str = ""  # of a new disk without a path; "" = the pool's own storage
    size: Size | None = None
    bus: Literal["virtio", "sata", "scsi", "ide"] = "virtio"


class GroupEntry(Request):
    """A VM's place in a group: all VMs that name the same group and kind belong to it."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    kind: Literal["apart", "together"] = "apart"
    hard: bool = True


class VmChange(Request):
    """Where and when a VM runs, and how large it is; what is not given stays as it is."""

    memory: Size | None = None
    vcpus: int | None = Field(default=None, ge=1, le=VCPUS_MAX)
    priority: Literal["high", "normal", "low", "best-effort"] | None = None
    start_order: int | None = Field(default=None, ge=0, le=1000)
    start_delay_s: int | None = Field(default=None, ge=0, le=3600)
    ready: Ready | None = None  # when those after it may start; "" = when it runs
    preferred: list[str] | None = Field(default=None, max_length=64)  # the only hosts for it
    likes: list[str] | None = Field(default=None, max_length=64)  # hosts when there is a choice
    groups: list[GroupEntry] | None = Field(default=None, max_length=16)


class VmCreate(Request):
    """A new VM. It is stopped until somebody starts it."""

    name: str
    memory: Size
    vcpus: int = Field(default=1, ge=1, le=VCPUS_MAX)
    disks: list[DiskWish] = Field(default=[], max_length=DISKS_MAX)
    use_existing: bool = False  # files that exist already are taken as they are
    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""
    serial_log: str = ""
    networks: list[str] = Field(default=[], max_length=16)
    machine: str = Field(default="pc", pattern=r"^[a-z0-9.-]{1,40}$")
    ha: bool = True
    on_shutdown: Literal["stay", "restart"] = "stay"
    preferred: list[str] = []
    placing: VmChange = VmChange()
    hardware: HardwareWish = HardwareWish()


class VmMigrate(Request):
    """Move a running VM while it runs."""

    to: str = ""  # host; "" = the pool chooses


class HaSwitch(Request):
    """High availability of a VM or of the pool, on or off."""

    on: bool
    why: str = Field(default="", max_length=200, pattern=r"^[^\x00-\x1f]*$")
    for_s: int | None = Field(default=None, gt=0, le=366 * 86400)  # None = until switched on


class PoolChange(Request):
    """New settings of the pool; what is not given stays as it is."""

    timing: str | None = None  # name of a preset
    moves_at_once: int | None = Field(default=None, ge=1, le=64)
    move_mib_s: int | None = Field(default=None, ge=0, le=1_000_000)
    move_connections: int | None = Field(default=None, ge=1, le=16)
    cpu_mode: Literal["auto", "baseline", "host"] | None = None
    vcpu_ratio: float | None = Field(default=None, gt=0, le=1000)
    memory_ratio: float | None = Field(default=None, ge=1, le=10)
    admission: Literal["off", "warn", "refuse"] | None = None
    balance: Literal["off", "auto"] | None = None
    balance_moves_h: int | None = Field(default=None, ge=1, le=1000)
    join: Literal["token", "anyone"] | None = None
    restart_limit: int | None = Field(default=None, ge=0, le=1000)
    restart_window_s: int | None = Field(default=None, ge=1, le=30 * 86400)
    witness: str | None = Field(default=None, max_length=200)  # addresses, "" = none
    drill_vm: str | None = None
    drill_kind: DrillKind | None = None
    drill_at: str | None = Field(default=None, max_length=20)  # "" = no drills


class VmDelete(Request):
    force: bool = False
    with_disks: bool = False


# ---- answers


class ErrorBody(Answer):
    """Every refusal and every failure looks like this."""

    code: str
    sentence: str
    hint: str = ""
    field: str = ""


class VmWish(Answer):
    """A wish that was written durably; the pool carries it out from now on."""

    name: str
    version: int  # of the register vm/<name>
    changed: bool  # False: it was wished already
    sentence: str


class HaOffInfo(Answer):
    """High availability is switched off."""

    why: str = ""
    by: str = ""
    until_wall_s: int = 0  # 0 = until somebody switches it on


class PoolWish(Answer):
    """A wish about the whole pool that was written durably."""

    changed: bool
    sentence: str


class HostMaintain(Request):
    why: str = ""


class HostServe(Request):
    bring_back: bool = False  # what moved away for the maintenance moves back


class HostWish(Answer):
    """A wish about a host that was written durably."""

    name: str
    changed: bool
    sentence: str


class DiskInfo(Answer):
    path: str
    format: str
    bus: str
    repository: str = ""  # that it lies in; "" = the pool's own storage


class MoveProgress(Answer):
    """How far a live migration is, as the hypervisor it leaves says; 0 while that is not known."""

    done_bytes: int = 0
    left_bytes: int = 0
    total_bytes: int = 0
    rate_bytes_s: int = 0
    dirty_bytes_s: int = 0  # how fast the VM changes what was copied already
    downtime_ms: int = 0  # expected


class MoveStatus(Answer):
    """A wish to move a VM: waiting, under way, or failed."""

    id: str
    to: str = ""  # host; "" while the pool has not chosen one
    why: str = ""
    failed: str = ""
    under_way: bool = False
    progress: MoveProgress | None = None


class VmStatus(Answer):
    """One VM: what is wished, what is, and why."""

    name: str
    uuid: str
    # running | starting | paused | stopping | stopped | down | waiting | unconfirmed
    state: str
    sentence: str
    desired: str  # running | stopped
    host: str = ""  # that holds its lease; "" = nobody
    since_wall_s: float | None = None  # since when it runs there
    epoch: int = 0  # version of its lease
    definition: int = 0  # version of its record
    memory_mib: int
    vcpus: int
    ha: bool
    ha_off: HaOffInfo | None = None  # switched off for now, whatever `ha` says
    on_shutdown: str = "stay"
    preferred: list[str] = []
    priority: str = "normal"
    start_order: int = 0
    start_delay_s: int = 0
    ready: str = ""  # when those after it may start
    is_ready: bool | None = None  # None: it does not run
    busy_cores: float | None = None  # smoothed
    likes: list[str] = []
    groups: list[str] = []  # like "apart db", "together app (soft)"
    held_down: str = ""
    disks: list[DiskInfo] = []
    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""
    serial_log: str = ""
    networks: list[str] = []
    graphics: str = "vnc"  # vnc | none
    hardware: list[str] = []  # in words: "UEFI with Secure Boot", ...
    move: MoveStatus | None = None
    away_from: str = ""  # the host it left for maintenance


class TimelineEntry(Answer):
    wall_s: float
    host: str
    code: str
    sentence: str
    fields: dict[str, object] = {}
    id: str = ""
    causes: list[str] = []  # ids of the notes that caused this one
    evidence: dict[str, object] = {}  # what the host saw at that moment


class VmDetail(VmStatus):
    """A VM with what happened to it lately, oldest first."""

    recent: list[TimelineEntry] = []


class HostStatus(Answer):
    """One host as the answering host sees it."""

    name: str
    slot: int
    # member | joining | closing | closed | leaving | silent | unreachable | unreadable | absent
    state: str
    sentence: str
    answering: bool = False  # it is the host that gives this answer
    master: bool = False
    no_vms: bool = False
    maintenance: str = ""  # why it runs no VMs for a while; "" = it is in service
    beat_age_ms: int | None = None  # age of its last change on the storage
    hears: list[str] = []  # hosts whose network beats arrive there
    unheard: list[str] = []  # members whose network beats do not
    free_mib: int | None = None
    free_vcpus: int | None = None
    cores: int | None = None
    busy_cores: float | None = None  # by all that runs there, smoothed
    used_mib: int | None = None  # memory in use, whoever uses it
    lacks: list[str] = []  # what VMs need and it does not have, in words
    vm_count: int | None = None
    agent_away_ms: int = 0
    guard: str = ""  # the guard's state; the answering host only
    deadline_ms: int | None = None  # until the guard ends all VMs here; the answering host only
    generation: int = 0
    addresses: list[str] = []
    api: str = ""
    version: str = ""  # of its agent
    guard_version: str = ""
    protocol: int = 1  # the newest one it speaks
    macs: list[str] = []
    margin: MarginInfo | None = None  # of its beats
    lights: list[LightInfo] = []  # what it says of its own readiness
    power: PowerInfo | None = None  # of its power switch; None = it has none, or was not asked yet


class PoolStatus(Answer):
    """The pool as one host sees it at one moment."""

    name: str
    uuid: str
    preset: str
    protocol: int = 1  # what all hosts speak
    answered_by: str
    sentence: str
    trouble: str = ""  # why the answering host knows nothing, or what it cannot read
    view: int = 0
    view_reason: str = ""
    master: str = ""
    age_ms: int | None = None  # of what the answering host knows
    refused_calls: int = 0
    ha_off: HaOffInfo | None = None  # for all VMs
    settings: PoolSettingsInfo = PoolSettingsInfo()
    margin: MarginInfo | None = None  # of the answering host's beats
    hosts: list[HostStatus] = []
    vms: list[VmStatus] = []


class LocalVmInfo(Answer):
    """What the hypervisor of the answering host says of one VM."""

    state: str
    since_wall_s: float | None = None
    reason: str = ""
    move: MoveProgress | None = None


class LocalVms(Answer):
    host: str
    ready: bool  # False: its hypervisor does not answer, the list is old
    vms: dict[str, LocalVmInfo] = {}


_R = TypeVar("_R", bound=BaseModel)


def parse(kind: type[_R], raw: bytes | str) -> _R:
    """A shape from JSON text.

    Raises BadField with the name of the first field that is wrong.
    """
    try:
        return kind.model_validate_json(raw)
    except ValidationError as trouble:
        raise _bad_field(trouble) from None


def parse_list(kind: type[_R], raw: bytes) -> list[_R]:
    """Shapes from a JSON list. Raises BadField."""
    try:
        return TypeAdapter(list[kind]).validate_json(raw)  # type: ignore[valid-type]
    except ValidationError as trouble:
        raise _bad_field(trouble) from None


def make(kind: type[_R], /, **values: object) -> _R:
    """A shape from values; for the command line. Raises BadField."""
    try:
        return kind.model_validate(values)
    except ValidationError as trouble:
        raise _bad_field(trouble) from None


def _bad_field(trouble: ValidationError) -> BadField:
    first = trouble.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    what = str(first["msg"]).removeprefix("Value error, ")
    what, _, hint = what.partition("; ")
    sentence = f"{field}: {what}" if field else f"the request is not one: {what}"
    if first["type"] == "extra_forbidden":
        sentence = f"there is no field '{field}'"
    return BadField(sentence, hint=hint, field=field)


def error_body(error: OutlastError) -> ErrorBody:
    """An error as it is sent."""
    field = error.field if isinstance(error, BadField) else ""
    return ErrorBody(code=error.code, sentence=error.sentence, hint=error.hint, field=field)
