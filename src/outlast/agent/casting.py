"""Templates made of VMs, running or stopped ones, one at a time for each VM (jobs.py).

Rules:
1. The VM is copied, not used up: it goes on as it is, and its template needs nothing of it.
2. A template is there when it is whole. One that was broken off by the agent's end leaves a hidden
   folder, which `outlast image clean` finds.
3. A seed for cloud-init stays behind: each VM of the template gets its own.
4. What a template cannot say (firmware, a kernel of its own) is refused, not left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from outlast.agent.copying import check_disks, copy_disks
from outlast.agent.jobs import Job, Jobs
from outlast.agent.service import Service, existing
from outlast.agent.snapshots import runs_here
from outlast.errors import Conflict, InvalidInput
from outlast.images import qemu_img
from outlast.images.clones import is_seed
from outlast.images.shelf import StoredDisk
from outlast.images.templates import Template, Templates
from outlast.model import Disk, VmSpec
from outlast.storage.access import is_shared
from outlast.storage.names import check_name
from outlast.wire.templates import TemplateMaking, TemplateOfVm


class Casting:
    """Of one host. `begin` returns at once."""

    def __init__(self, service: Service, wall: Callable[[], float] = time.time) -> None:
        self._service, self._wall = service, wall
        self._jobs: Jobs[TemplateMaking] = Jobs("template")
        self.status, self.give_up = self._jobs.status, self._jobs.give_up

    def begin(self, vm: str, wish: TemplateOfVm) -> TemplateMaking:
        """Raises NotFound, Conflict, InvalidInput, PoolTrouble; what comes later is in `status`."""
        check_name(vm, "VM name")
        record = existing(self._service, vm)
        place = Path(self._service.pool_dir)
        if not is_shared(place):
            raise InvalidInput("this pool has no shared file system, so it has no templates")
        Templates(place).check_free(wish.name)
        check_disks(record)
        _check_plain(record.spec)
        live = runs_here(self._service, vm)
        first = TemplateMaking(
            vm=vm, template=wish.name, state="running", sentence=f"a template of {vm} begins"
        )
        return self._jobs.begin(vm, first, lambda job: self._run(job, place, wish, live), place)

    # ---- in the thread

    def _run(
        self, job: Job[TemplateMaking], place: Path, wish: TemplateOfVm, live: bool
    ) -> None:  # fmt: skip
        vm = job.status.vm
        spec = existing(self._service, vm).spec

        def fill(made: Path) -> tuple[StoredDisk, ...]:
            copied = copy_disks(
                self._service, job, vm, made, "a template", live=live, quiesce=wish.quiesce,
                rate=wish.rate_bytes_s, only=_own,
            )  # fmt: skip
            job.tell(quiesced=copied.quiesced)
            return tuple(_finished(file) for file in sorted(made.glob("disk-*.qcow2")))

        template = Template(
            wish.name, (), f"the VM {vm}", spec.memory_mib, spec.vcpus, spec.networks, wish.note,
            int(self._wall()),
        )  # fmt: skip
        Templates(place).make(template, fill)
        job.tell(state="done", sentence=f"the template {wish.name} is made of {vm}")


def _own(disk: Disk) -> bool:
    """Rule 3."""
    return not is_seed(disk.path)


def _finished(file: Path) -> StoredDisk:
    size = int(qemu_img.info(file, "qcow2")["virtual-size"])
    file.chmod(0o444)
    qemu_img.sync(file)
    return StoredDisk(file.name, size)


def _check_plain(spec: VmSpec) -> None:
    """Rule 4. Raises Conflict."""
    if spec.firmware != "bios":
        raise Conflict(
            f"'{spec.name}' starts by {spec.firmware}, VMs of a template by BIOS",
            hint="make copies of it instead: outlast vm backup, then outlast vm restore",
        )
    if spec.kernel:
        raise Conflict(
            f"'{spec.name}' starts a kernel from outside its disks, VMs of a template do not",
            hint="install a boot loader in it first",
        )
