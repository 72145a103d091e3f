"""Buttons about disks of VMs on their way; the rules are those of buttons.py."""

from __future__ import annotations

import shlex

from outlast.equipment import OWN_STORAGE
from outlast.manager.ports import Task
from outlast.manager.web import edits
from outlast.manager.web.buttons import ASK, Aim, Button
from outlast.manager.web.edits import Field
from outlast.manager.web.forms import Form
from outlast.wire.disks import BackupWish, DiskMoveWish
from outlast.wire.shapes import VmStatus, make

PLACE = (
    Field("to", "Storage", "--to", required=True,
          hint=f"its name; {OWN_STORAGE}: the pool's own storage"),
    Field("disk", "Which of its disks", "--disk", edits.as_number, initial="1"),
)  # fmt: skip
VAULT = (
    Field("folder", "Folder on its host", "", required=True,
          hint="outside the pool's storage, best the same on every host"),
    Field("keep", "Keep the newest", "--keep", edits.as_number, initial="0",
          hint="older ones of this VM are deleted; 0: all stay"),
)  # fmt: skip


async def _move(to: Aim, form: Form) -> Task:
    where = "" if form["to"] == OWN_STORAGE else form["to"]
    wish = make(DiskMoveWish, to=where, disk=edits.as_number("disk", form["disk"]))
    made: Task = await to.acts.move_disk(to.pool_id, to.name, to.who, wish, address=to.address)
    return made


async def _back_up(to: Aim, form: Form) -> Task:
    wish = make(BackupWish, folder=form["folder"], keep=edits.as_number("keep", form["keep"]))
    made: Task = await to.acts.backup(to.pool_id, to.name, to.who, wish, address=to.address)
    return made


def _stands(vm: object) -> bool:
    return isinstance(vm, VmStatus) and vm.state in ("running", "stopped")


DISKS = (
    Button("vm", "move-disk", "migrate", "Move a disk", "database", ASK,
           lambda vm: _stands(vm) and isinstance(vm, VmStatus) and bool(vm.disks),
           lambda name, f: f"outlast vm move-disk {name} --to {shlex.quote(f['to'] or 'STORAGE')}"
           f" --disk {shlex.quote(f['disk'] or '1')}", _move, "Move a disk of {name}",
           fields=PLACE),
    Button("vm", "backup", "backup", "Back up", "copy", ASK, _stands,
           lambda name, f: f"outlast vm backup {name} {shlex.quote(f['folder'] or 'DIR')}"
           f" --keep {shlex.quote(f['keep'] or '0')}", _back_up, "Back {name} up",
           fields=VAULT),
)  # fmt: skip
