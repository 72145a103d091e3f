"""Makes the backups that are due: by the host that holds the VM's lease, else by the master.

Rules:
1. Who begins one has written so into the schedule first; whoever finds it written does not begin.
2. One that is late by LATE_S or more is told: the pool, or its host, was not there when it was due.
3. How it ended is a note and stands in the schedule. A failed one is tried again when the next is
   due, not before: a folder that is missing would be missing all the time.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import replace

from outlast.agent.backups import Backups
from outlast.agent.service import Service
from outlast.errors import OutlastError
from outlast.images import schedules
from outlast.images.schedules import Schedule
from outlast.model import Lease
from outlast.pool.facts import Facts
from outlast.pool.journal import Note, note
from outlast.storage.register import Register
from outlast.wire.disks import BackupStatus, BackupWish

LATE_S, POLL_S = 1800, 0.5


class BackupTimer:
    """Of one host. `look` takes as long as the backups that are due."""

    def __init__(
        self, service: Service, register: Register, tell: Callable[[Note], None],
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now().astimezone(),
    ) -> None:  # fmt: skip
        self._service, self._register, self._tell, self._now = service, register, tell, now
        self._backups = Backups(service, lambda: now().timestamp())

    def look(self) -> None:
        """Make what is due here; what cannot be read is looked at again."""
        facts = self._service.picture.facts
        if facts is None or not (facts.registers_ready and facts.local_ready):
            return
        try:
            known = schedules.schedules(self._register)
        except OutlastError:
            return
        for schedule in known:
            moment_s = schedules.due(schedule, self._now())
            if moment_s and _mine(facts, schedule):
                self._make(schedule.vm, moment_s)

    def _make(self, vm: str, moment_s: int) -> None:
        began_s = int(self._now().timestamp())
        try:
            version, schedule = schedules.read(self._register, vm)
            if not schedule.folder or schedules.due(schedule, self._now()) != moment_s:
                return  # somebody else was faster, or it was taken back
            schedules.write(self._register, version, replace(schedule, last_wall_s=began_s))
        except OutlastError:
            return
        late_s = began_s - moment_s
        if late_s >= LATE_S:
            self._tell(note("backup-late", vm=vm, late_min=late_s // 60))
        try:
            ended = self._follow(schedule)
            good, said = ended.state == "done", ended.sentence
        except OutlastError as error:
            good, said = False, error.sentence
        code = "backup-made" if good else "backup-failed"
        self._tell(note(code, vm=vm, host=self._service.picture.me.host, said=said))
        self._write_down(vm, began_s if good else 0, said)

    def _follow(self, schedule: Schedule) -> BackupStatus:
        wish = BackupWish.model_validate(
            {"folder": schedule.folder, "keep": schedule.keep, "quiesce": schedule.quiesce}
        )
        status = self._backups.begin(schedule.vm, wish)
        while status.state == "running":
            time.sleep(POLL_S)
            status = self._backups.status(schedule.vm)
        return status

    def _write_down(self, vm: str, good_wall_s: int, said: str) -> None:
        try:
            version, now = schedules.read(self._register, vm)
            good_s = good_wall_s or now.good_wall_s
            schedules.write(self._register, version, replace(now, good_wall_s=good_s, said=said))
        except OutlastError:
            return  # the note says it


def _mine(facts: Facts, schedule: Schedule) -> bool:
    held, record = facts.leases.get(schedule.vm), facts.vms.get(schedule.vm)
    if record is None or record.value.deleted or not schedule.of(record.value.spec):
        return False
    lease = held.value if held else Lease(schedule.vm)
    if lease.held:
        return facts.holds(lease)
    return facts.view is not None and facts.view.master == facts.me.slot
