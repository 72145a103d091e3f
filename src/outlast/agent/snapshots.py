"""Snapshots of VMs: what their disks held at a moment, kept inside the same qcow2 files.

Rules:
1. A running VM's disks are touched only by its own QEMU, asked on the host that holds its lease and
   runs it; a stopped VM's only under its lease (disk_work.py). Nobody else ever writes to them.
2. A snapshot is of all disks at one moment. Raw disks cannot keep any; the seed for cloud-init,
   which never changes, is left out.
3. Going back to a snapshot needs a stopped VM, and loses what was written since then: that is said,
   not asked.
4. What is broken off is finished or taken back (snapshot_acts.py), and is not shown before that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from outlast.agent.service import Service, existing, existing_held
from outlast.agent.snapshot_acts import (
    FORGET,
    MAKE,
    REVERT,
    WORDS,
    disks_of,
    finish,
    having,
    unwanted,
)
from outlast.agent.wishes import Wishes
from outlast.errors import Conflict, NotFound, OutlastError, PoolTrouble
from outlast.images import qemu_img
from outlast.model import Lease, SnapshotAct, VmRecord, VmState
from outlast.pool.facts import Facts
from outlast.storage.names import check_name
from outlast.wire.disks import Quiesce, Snapshot, SnapshotDone

BUSY = "snapshot"


class Snapshots:
    """Of one host. Methods block; for worker threads. `look` settles what was broken off."""

    def __init__(self, service: Service, wishes: Wishes) -> None:
        self._service, self._wishes = service, wishes

    def all(self, vm: str) -> list[Snapshot]:
        """Oldest first. Raises NotFound, InvalidInput for disks that cannot be read."""
        record = existing(self._service, vm)
        found: dict[str, Snapshot] = {}
        count: dict[str, int] = {}
        paths = disks_of(record)
        for path in paths:
            for one in qemu_img.info_of_vm(path).get("snapshots") or []:
                name = str(one.get("name"))
                count[name] = count.get(name, 0) + 1
                found.setdefault(name, Snapshot(name=name, taken_wall_s=int(one["date-sec"])))
        act = record.snapshot_act
        if act is not None and unwanted(act, paths):
            found.pop(act.name, None)
        whole = [
            one if count[name] == len(paths) else one.model_copy(update={"whole": False})
            for name, one in found.items()
        ]
        return sorted(whole, key=lambda one: (one.taken_wall_s, one.name))

    def create(self, vm: str, name: str, quiesce: Quiesce) -> SnapshotDone:
        """Raises NotFound, Conflict, PoolTrouble, HypervisorTrouble, StorageTrouble."""
        check_name(name, "snapshot name")
        if any(one.name == name for one in self.all(vm)):
            raise Conflict(f"'{vm}' has a snapshot '{name}' already", hint="take another name")
        act = SnapshotAct(MAKE, name)
        if not self._live(vm):
            self._still(vm, act, f"snapshot {name}")
            return self._done(vm, name, "is kept; the VM is stopped, so it is complete")
        with self._running(vm, act) as paths, quieted(self._service, vm, quiesce) as still:
            self._service.disks.snapshot(vm, paths, name)
        how = "its file systems were at rest" if still else "as after a power cut (no guest agent)"
        return self._done(vm, name, f"is kept, {how}", quiesced=still)

    def revert(self, vm: str, name: str) -> SnapshotDone:
        """What was written since is lost. Raises Conflict while it runs, NotFound."""
        found = next((one for one in self.all(vm) if one.name == name), None)
        if found is None:
            raise _none(vm, name)
        if not found.whole:
            raise Conflict(f"the snapshot '{name}' is not on all disks of '{vm}'")
        self._still(vm, SnapshotAct(REVERT, name), f"going back to snapshot {name}")
        return self._done(vm, name, "is what its disks hold now")

    def remove(self, vm: str, name: str) -> SnapshotDone:
        """Raises NotFound, Conflict, PoolTrouble, HypervisorTrouble, StorageTrouble."""
        if not any(one.name == name for one in self.all(vm)):
            raise _none(vm, name)
        act = SnapshotAct(FORGET, name)
        if self._live(vm):
            with self._running(vm, act) as paths:
                self._service.disks.drop_snapshot(vm, paths, name)
        else:
            self._still(vm, act, f"forgetting snapshot {name}")
        return self._done(vm, name, "is forgotten")

    def look(self) -> None:
        """Settle what nobody is at work on any more; what cannot be settled now is tried again."""
        facts = self._service.picture.facts
        if facts is None or not (facts.registers_ready and facts.local_ready):
            return
        for vm, held in facts.vms.items():
            if held.value.snapshot_act is not None and not held.value.deleted:
                with contextlib.suppress(OutlastError, OSError):
                    self._settle(vm, facts)

    # ---- parts

    def _live(self, vm: str) -> bool:
        check_disks(existing(self._service, vm))
        return runs_here(self._service, vm)

    @contextlib.contextmanager
    def _running(self, vm: str, act: SnapshotAct) -> Iterator[list[str]]:
        """The disks that its QEMU is asked for meanwhile."""
        with self._service.occupied(BUSY, vm):
            self._settle_running(vm)
            self._intend(vm, act)
            try:
                yield disks_of(existing(self._service, vm))
            except OutlastError:
                with contextlib.suppress(OutlastError):
                    self._settle_running(vm)
                raise
            self._forget(vm)

    def _still(self, vm: str, act: SnapshotAct, why: str) -> None:
        with self._service.borrow(vm, why) as borrowed:
            check_disks(borrowed.record)
            self._intend(vm, act)
            paths = disks_of(borrowed.record)
            try:
                for path in having(paths, act.name) if act.kind == FORGET else paths:
                    qemu_img.snapshot(WORDS[act.kind], act.name, path, borrowed.leave())
            except OutlastError:
                # of the making alone it is known that nobody wants it any more
                if act.kind == MAKE:
                    with contextlib.suppress(OutlastError):
                        finish(existing_held(self._service, vm), self._service.write_vm,
                               borrowed.leave)  # fmt: skip
                raise
            self._forget(vm)

    def _settle(self, vm: str, facts: Facts) -> None:
        held = facts.leases.get(vm)
        lease = held.value if held else Lease(vm)
        if facts.holds(lease):
            if lease.move is None and runs_here(self._service, vm):
                with self._service.occupied(BUSY, vm):
                    self._settle_running(vm)
        elif not lease.held and facts.view is not None and facts.view.master == facts.me.slot:
            with self._service.borrow(vm, "what is left of a snapshot"):
                pass  # who borrows them finishes it

    def _settle_running(self, vm: str) -> None:
        """Rule 4, for a VM that this host runs; harmless when all is well."""
        record = existing(self._service, vm)
        act, paths = record.snapshot_act, disks_of(record)
        if act is None:
            return
        if left := unwanted(act, paths):
            self._service.disks.drop_snapshot(vm, left, act.name)
        self._forget(vm)

    def _intend(self, vm: str, act: SnapshotAct) -> None:
        def edit(record: VmRecord) -> VmRecord:
            if record.snapshot_act not in {None, act}:
                raise Conflict(f"snapshots of '{vm}' are worked on already")
            return replace(record, snapshot_act=act)

        self._wishes.change(vm, edit, "", "")

    def _forget(self, vm: str) -> None:
        self._wishes.change(vm, lambda now: replace(now, snapshot_act=None), "", "")

    def _done(self, vm: str, name: str, what: str, *, quiesced: bool = False) -> SnapshotDone:
        return SnapshotDone(
            vm=vm, name=name, quiesced=quiesced, sentence=f"snapshot {name} of {vm} {what}"
        )


def runs_here(service: Service, vm: str) -> bool:
    """True when this host holds its lease and runs it; False when it is stopped.

    Raises Conflict when it is on another host, on its way, or neither; PoolTrouble.
    """
    facts = service.picture.facts
    if facts is None or not facts.registers_ready or not facts.local_ready:
        raise PoolTrouble(f"this host knows too little now: {service.picture.trouble}")
    held, local = service.read_lease(vm), facts.local.get(vm)
    if held is None or not held.value.held:
        return False
    if not facts.holds(held.value):
        host = facts.host(held.value.slot)
        api = facts.slots[held.value.slot].api if held.value.slot in facts.slots else ""
        raise Conflict(
            f"'{vm}' is on {host}, which alone may touch its disks",
            hint=f"do it there, or: outlast --agent https://{api or host} ...",
        )
    if held.value.move is not None and held.value.move.to_slot != facts.me.slot:
        raise Conflict(f"'{vm}' is on its way to another host", hint="wait for its arrival")
    if local is None or local.state is not VmState.RUNNING or local.incoming:
        raise Conflict(f"'{vm}' neither runs nor is stopped now", hint=f"outlast vm show {vm}")
    return True


@contextlib.contextmanager
def quieted(service: Service, vm: str, quiesce: Quiesce) -> Iterator[bool]:
    """File systems inside at rest meanwhile, if wished and possible; gives whether they are."""
    still = quiesce != "no" and service.disks.freeze(vm)
    if quiesce == "yes" and not still:
        raise Conflict(
            f"no guest agent answers inside '{vm}', so its file systems cannot be brought to rest",
            hint="install qemu-guest-agent in it, or leave --quiesce yes out",
        )
    try:
        yield still
    finally:
        if still:
            service.disks.thaw(vm)


def check_disks(record: VmRecord) -> None:
    """Raises Conflict when not all of its disks keep snapshots."""
    vm = record.spec.name
    raw = [d.path for d in record.spec.disks if d.format != "qcow2" and not d.path.endswith(".iso")]
    if raw:
        raise Conflict(
            f"the disk {raw[0]} of '{vm}' is raw, and only qcow2 disks keep snapshots",
            hint=f"a copy has qcow2 disks: outlast vm backup {vm} DIR; outlast vm restore DIR",
        )
    if not disks_of(record):
        raise Conflict(f"'{vm}' has no disk that keeps snapshots")


def _none(vm: str, name: str) -> NotFound:
    return NotFound(f"'{vm}' has no snapshot '{name}'", hint=f"outlast vm snapshot list {vm}")
