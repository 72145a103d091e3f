"""VMs out of backups, one at a time for each new VM (jobs.py).

Rules:
1. The VM that was backed up is not touched: the new one has the old sizes and hardware, without
   its host's devices, qcow2 disks of its own, and new addresses of its network cards.
2. Files first, then the VM: one that was broken off is no VM, and its files go (images/making.py).
3. The backup lies in a folder of THIS host, and others may write there: a disk that refers to
   anything outside itself is refused.
"""

from __future__ import annotations

from pathlib import Path

from outlast.agent.disk_moves import folder_of
from outlast.agent.jobs import Job, Jobs
from outlast.agent.service import Service
from outlast.agent.wishes import Wishes
from outlast.errors import Conflict, InvalidInput
from outlast.images import backups, look
from outlast.images.backups import Saved
from outlast.images.clones import Source, Wanted, is_seed
from outlast.images.making import make_vm
from outlast.storage.access import is_shared
from outlast.storage.names import check_name
from outlast.wire.backups import RestoreStatus, RestoreWish
from outlast.wire.hardware import HardwareWish
from outlast.wire.shapes import VmCreate, VmWish, make


class Restoring:
    """Of one host. `begin` returns at once."""

    def __init__(self, service: Service, wishes: Wishes) -> None:
        self._service, self._wishes = service, wishes
        self._jobs: Jobs[RestoreStatus] = Jobs("restore")
        self.status, self.give_up = self._jobs.status, self._jobs.give_up

    def begin(self, vm: str, wish: RestoreWish) -> RestoreStatus:
        """Raises NotFound, Conflict, InvalidInput, StorageTrouble; what comes later: `status`."""
        check_name(vm, "VM name")
        place, folder = Path(self._service.pool_dir), Path(wish.folder)
        if not is_shared(place):
            raise InvalidInput("this pool has no shared file system, so it has no place for copies")
        if not folder.is_absolute():
            raise InvalidInput(f"{folder} is no absolute path")
        held = self._service.read_vm(vm)
        if held is not None and not held.value.deleted:
            raise Conflict(f"a VM '{vm}' exists already", hint="--as names the new one")
        saved = backups.read(folder)
        for file in saved.files:
            look.look(file, look.QCOW2)
        wanted = Wanted(
            linked=False, rate_bytes_s=wish.rate_bytes_s,
            folder=folder_of(self._service, wish.storage) if wish.storage else None,
        )  # fmt: skip
        first = RestoreStatus(
            vm=vm, of=saved.vm, state="running", sentence=f"{vm} is being made of {folder.name}"
        )
        return self._jobs.begin(vm, first, lambda job: self._run(job, place, saved, wanted), place)

    # ---- in the thread

    def _run(self, job: Job[RestoreStatus], place: Path, saved: Saved, wanted: Wanted) -> None:
        vm = job.status.vm

        def progress(what: str, done: int, all_: int) -> None:
            job.check()
            job.tell(sentence=what, done_bytes=done, total_bytes=all_)

        sizes = tuple(disk.virtual_bytes for disk in saved.disks)
        disks = enumerate(saved.record.spec.disks)
        seed = next((number for number, disk in disks if is_seed(disk.path)), -1)
        source = Source(saved.files, sizes, job.check, seed=seed)
        made = make_vm(
            place, vm, source, wanted, lambda paths: self._create(vm, saved, paths), progress
        )
        job.tell(state="done", sentence=f"{made.sentence} from a backup of {saved.vm}")

    def _create(self, vm: str, saved: Saved, paths: list[str]) -> VmWish:
        record, spec = saved.record, saved.record.spec
        disks = [
            {"path": path, "bus": disk.bus} for path, disk in zip(paths, saved.disks, strict=True)
        ]
        return self._wishes.create(
            make(
                VmCreate, name=vm, memory=spec.memory_mib << 20, vcpus=spec.vcpus,
                use_existing=True, networks=list(spec.networks), machine=spec.machine,
                disks=disks, kernel=spec.kernel, initrd=spec.initrd, cmdline=spec.cmdline,
                ha=record.ha, on_shutdown=record.on_shutdown, hardware=HardwareWish.like(spec),
            )
        )  # fmt: skip
