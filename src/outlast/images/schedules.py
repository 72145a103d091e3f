"""When VMs are backed up by themselves: the registers `schedule/<vm>`.

Rules:
1. A schedule has a time of the day or a pause between two backups. What was due while nobody could
   is made once, late, and told.
2. Who makes a backup first writes that into the register: of two that want to, one does.
3. It belongs to one VM, not to its name: a new VM of that name has none.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from outlast.errors import InvalidInput, NotFound
from outlast.model import VmSpec
from outlast.storage.agreed import put
from outlast.storage.names import check_name
from outlast.storage.records import thing_from, thing_to, vm_from
from outlast.storage.register import Register

_AT = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
EVERY_MIN_S = 600


@dataclass(frozen=True, slots=True)
class Schedule:
    """Of one VM. folder "": it has none."""

    vm: str
    folder: str = ""  # on whatever host the VM is on
    at: str = ""  # HH:MM by that host's clock; "" = every `every_s`
    every_s: int = 0
    keep: int = 7
    quiesce: str = "auto"
    since_wall_s: int = 0  # when it was set
    last_wall_s: int = 0  # when one was begun
    good_wall_s: int = 0  # when one was complete
    said: str = ""  # how the last one ended
    uuid: str = ""  # of the VM; "" = whatever has the name

    def of(self, spec: VmSpec) -> bool:
        return spec.name == self.vm and self.uuid in ("", spec.uuid)

    @property
    def told(self) -> str:
        """When, where to and how many, in words."""
        when = f"every day at {self.at}" if self.at else f"every {self.every_s // 60} min"
        return f"{when} to {self.folder}, {self.keep} are kept"


def due(schedule: Schedule, now: datetime.datetime) -> int:
    """The newest moment, in seconds since 1970, at which one was due and was not begun; 0: none.

    now: in the host's own time zone. Pure.
    """
    now_s = int(now.timestamp())
    done_s = max(schedule.last_wall_s, schedule.since_wall_s)
    if not schedule.at:
        return done_s + schedule.every_s if done_s + schedule.every_s <= now_s else 0
    hour, minute = map(int, schedule.at.split(":"))
    moment = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if moment > now:
        moment -= datetime.timedelta(days=1)
    moment_s = int(moment.timestamp())
    return moment_s if moment_s > done_s else 0


def check(schedule: Schedule) -> None:
    """Raises InvalidInput."""
    check_name(schedule.vm, "VM name")
    if not schedule.folder.startswith("/"):
        raise InvalidInput(f"{schedule.folder[:80]!r} is no absolute path")
    if bool(schedule.at) == bool(schedule.every_s):
        raise InvalidInput("when? a time of the day or a pause, one of them",
                           hint="--at 03:00, or --every 6h")  # fmt: skip
    if schedule.at and not _AT.fullmatch(schedule.at):
        raise InvalidInput(f"{schedule.at[:20]!r} is no time of the day", hint="like 03:00")
    if schedule.every_s and schedule.every_s < EVERY_MIN_S:
        raise InvalidInput(f"a pause of {schedule.every_s} s is too short",
                           hint=f"at least {EVERY_MIN_S // 60} minutes")  # fmt: skip
    if schedule.keep < 1:
        raise InvalidInput("keep at least one backup")


def schedules(register: Register) -> list[Schedule]:
    """By VM. Raises StorageTrouble."""
    found = (read(register, name.partition("/")[2])[1] for name in register.names("schedule"))
    return sorted((one for one in found if one.folder), key=lambda one: one.vm)


def in_force(register: Register) -> list[Schedule]:
    """Those of VMs that there are, by VM. Raises StorageTrouble."""
    return [
        one for one in schedules(register)
        if (spec := _spec(register, one.vm)) is not None and one.of(spec)
    ]  # fmt: skip


def begin(register: Register, wished: Sequence[Schedule]) -> None:
    """All of them, or none when one cannot be: each is its VM's from now on.

    Raises InvalidInput, NotFound, Conflict, StorageTrouble.
    """
    made = []
    for one in wished:
        check(one)
        if (spec := _spec(register, one.vm)) is None:
            raise NotFound(f"there is no VM '{one.vm}'", hint="outlast vm list")
        made.append(replace(one, uuid=spec.uuid))
    for one in made:
        write(register, read(register, one.vm)[0], one)


def read(register: Register, vm: str) -> tuple[int, Schedule]:
    """With its version. Raises StorageTrouble."""
    version, value = register.read(f"schedule/{vm}")
    return version, thing_from(Schedule, value, "the schedule") if value else Schedule(vm)


def write(register: Register, version: int, schedule: Schedule) -> None:
    """Raises Conflict when somebody else was faster, StorageTrouble."""
    what = f"the schedule of '{schedule.vm}'"
    name = f"schedule/{schedule.vm}"
    put(register, name, version, thing_to(schedule), what, "outlast vm schedule list")


def remove(register: Register, vms: Sequence[str]) -> None:
    """Raises NotFound, Conflict, StorageTrouble."""
    for vm in vms:
        version, before = read(register, check_name(vm, "VM name"))
        if not before.folder:
            raise NotFound(f"'{vm}' has no schedule", hint="outlast vm schedule list")
        write(register, version, replace(before, folder=""))


def _spec(register: Register, vm: str) -> VmSpec | None:
    """None: there is no such VM."""
    value = register.read(f"vm/{vm}")[1]
    record = None if value is None else vm_from(value)
    return None if record is None or record.deleted else record.spec
