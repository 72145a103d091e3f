"""Snapshots of VMs: what their disks held at a moment, kept inside the same qcow2 files.

Rules:
1. A running VM's disks are touched only by its own QEMU, asked on the host that holds its lease and
   runs it; a stopped VM's only under its lease (disk_work.py). Nobody else ever writes to them.
2. A snapshot is of all disks at one moment. Raw disks cannot keep any; the seed for cloud-init,
   which never changes, is left out.
3. What was made half is taken back. Going back to a snapshot needs a stopped VM, and loses what was
   written since then: that is said, not asked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from outlast.agent.service import Service, existing
from outlast.errors import Conflict, NotFound, OutlastError, PoolTrouble
from outlast.images import qemu_img
from outlast.model import VmRecord, VmState
from outlast.storage.names import check_name
from outlast.wire.disks import Quiesce, Snapshot, SnapshotDone


@dataclass(frozen=True, slots=True)
class _Live:
    """It runs here: its QEMU is asked."""

    paths: list[str]


class Snapshots:
    """Of one host. Methods block; for worker threads."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def all(self, vm: str) -> list[Snapshot]:
        """Oldest first. Raises NotFound, InvalidInput for disks that cannot be read."""
        found: dict[str, Snapshot] = {}
        count: dict[str, int] = {}
        paths = _paths(existing(self._service, vm), strict=False)
        for path in paths:
            for one in qemu_img.info_of_vm(path).get("snapshots") or []:
                name = str(one.get("name"))
                count[name] = count.get(name, 0) + 1
                found.setdefault(name, Snapshot(name=name, taken_wall_s=int(one["date-sec"])))
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
        live = self._live(vm)
        if live is None:
            self._offline(vm, f"snapshot {name}", lambda paths, run: _create_all(paths, name, run))
            return self._done(vm, name, "is kept; the VM is stopped, so it is complete")
        disks = self._service.disks
        with quieted(self._service, vm, quiesce) as still:
            disks.snapshot(vm, live.paths, name)
        how = "its file systems were at rest" if still else "as after a power cut (no guest agent)"
        return self._done(vm, name, f"is kept, {how}", quiesced=still)

    def revert(self, vm: str, name: str) -> SnapshotDone:
        """What was written since is lost. Raises Conflict while it runs, NotFound."""
        self._whole(vm, name)

        def back(paths: list[str], run: Callable[..., None]) -> None:
            for path in paths:
                run("-a", name, path)

        self._offline(vm, f"going back to snapshot {name}", back)
        return self._done(vm, name, "is what its disks hold now")

    def remove(self, vm: str, name: str) -> SnapshotDone:
        """Raises NotFound, Conflict, PoolTrouble, HypervisorTrouble, StorageTrouble."""
        if not any(one.name == name for one in self.all(vm)):
            raise _none(vm, name)
        live = self._live(vm)
        if live is not None:
            self._service.disks.drop_snapshot(vm, live.paths, name)
        else:
            why = f"forgetting snapshot {name}"
            self._offline(vm, why, lambda paths, run: _drop(paths, name, run))
        return self._done(vm, name, "is forgotten")

    # ---- parts

    def _whole(self, vm: str, name: str) -> None:
        found = next((one for one in self.all(vm) if one.name == name), None)
        if found is None:
            raise _none(vm, name)
        if not found.whole:
            raise Conflict(f"the snapshot '{name}' is not on all disks of '{vm}'")

    def _live(self, vm: str) -> _Live | None:
        record = existing(self._service, vm)
        paths = _paths(record)
        return _Live(paths) if runs_here(self._service, vm) else None

    def _offline(
        self, vm: str, why: str, act: Callable[[list[str], Callable[..., None]], None]
    ) -> None:
        with self._service.borrow(vm, why) as borrowed:

            def run(action: str, name: str, path: str) -> None:
                qemu_img.snapshot(action, name, path, borrowed.leave())

            act(_paths(borrowed.record), run)

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


def _paths(record: VmRecord, *, strict: bool = True) -> list[str]:
    """The disks that keep snapshots. Raises Conflict when one cannot."""
    vm = record.spec.name
    raw = [d.path for d in record.spec.disks if d.format != "qcow2" and not d.path.endswith(".iso")]
    if raw and strict:
        raise Conflict(
            f"the disk {raw[0]} of '{vm}' is raw, and only qcow2 disks keep snapshots",
            hint=f"a copy has qcow2 disks: outlast vm backup {vm} DIR; outlast vm restore DIR",
        )
    paths = [d.path for d in record.spec.disks if d.format == "qcow2"]
    if not paths and strict:
        raise Conflict(f"'{vm}' has no disk that keeps snapshots")
    return paths


def _create_all(paths: list[str], name: str, run: Callable[..., None]) -> None:
    made: list[str] = []
    try:
        for path in paths:
            run("-c", name, path)
            made.append(path)
    except OutlastError:
        for path in made:
            with contextlib.suppress(OutlastError):
                run("-d", name, path)
        raise


def _drop(paths: list[str], name: str, run: Callable[..., None]) -> None:
    for path in paths:
        if any(one.get("name") == name for one in qemu_img.info_of_vm(path).get("snapshots") or []):
            run("-d", name, path)


def _none(vm: str, name: str) -> NotFound:
    return NotFound(f"'{vm}' has no snapshot '{name}'", hint=f"outlast vm snapshot list {vm}")
