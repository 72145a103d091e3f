"""VMs out of templates, for callers that cannot reach the pool's storage themselves.

Rules:
1. Linked clones only: they are there at once. Whole copies take long and read a lot; the command
   line makes them, at a gentle pace, on the host where it is called.
2. Files first, then the VM, nothing half (images/making.py).
3. No path comes from the caller: a template by its name, keys as they are.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from outlast.agent.service import Service
from outlast.agent.wishes import Wishes
from outlast.errors import Conflict
from outlast.images.clones import Wanted, of_template
from outlast.images.making import make_vm
from outlast.images.seed import Seed, files_of, is_key
from outlast.images.templates import Templates
from outlast.storage.names import check_name
from outlast.wire.shapes import BadField, VmCreate, VmWish, make
from outlast.wire.sizes import MIB
from outlast.wire.templates import TemplateDeploy, TemplateInfo


class Deploying:
    """Methods block; for worker threads."""

    def __init__(self, service: Service, wishes: Wishes) -> None:
        self._service, self._wishes = service, wishes

    @property
    def _pool_dir(self) -> Path:
        return Path(self._service.pool_dir)

    def all(self) -> list[TemplateInfo]:
        """Raises StorageTrouble."""
        return [
            TemplateInfo(
                name=t.name, image=t.image, memory_mib=t.memory_mib, vcpus=t.vcpus,
                disks=len(t.disks), networks=list(t.networks), note=t.note,
            )
            for t in Templates(self._pool_dir).all()
        ]  # fmt: skip

    def deploy(self, name: str, wish: TemplateDeploy) -> VmWish:
        """Raises NotFound, Conflict, InvalidInput, StorageTrouble."""
        check_name(wish.name, "VM name")
        check_name(name, "template name")
        if not all(map(is_key, wish.ssh_keys)):
            raise BadField("ssh_keys: not a public SSH key", hint="like ssh-ed25519 AAAA... anna",
                           field="ssh_keys")  # fmt: skip
        seed = Seed(wish.name, f"outlast-{uuid.uuid4()}", tuple(wish.ssh_keys), wish.user)
        files_of(seed)  # what is wrong with it is said before anything is made
        held = self._service.read_vm(wish.name)
        if held is not None and not held.value.deleted:
            raise Conflict(f"there is a VM '{wish.name}' already", hint="choose another name")
        template = Templates(self._pool_dir).get(name)

        def create(paths: list[str]) -> VmWish:
            return self._wishes.create(
                make(
                    VmCreate, name=wish.name, memory=wish.memory or template.memory_mib * MIB,
                    vcpus=wish.vcpus or template.vcpus, use_existing=True,
                    disks=[{"path": path} for path in paths], networks=list(template.networks),
                )
            )  # fmt: skip

        source = of_template(self._pool_dir, template)
        return make_vm(self._pool_dir, wish.name, source, Wanted(seed=seed), create)
