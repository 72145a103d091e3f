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
from outlast.images.seed import Seed, check_user_data, files_of, is_key
from outlast.images.templates import Templates
from outlast.storage.names import check_name
from outlast.wire.hardware import OF_TEMPLATE
from outlast.wire.shapes import BadField, PoolWish, VmCreate, VmWish, make
from outlast.wire.sizes import MIB
from outlast.wire.templates import TemplateDeploy, TemplateInfo, TemplateWish


class Deploying:
    """Methods block; for worker threads."""

    def __init__(self, service: Service, wishes: Wishes) -> None:
        self._service, self._wishes = service, wishes

    @property
    def _pool_dir(self) -> Path:
        return Path(self._service.pool_dir)

    @property
    def _templates(self) -> Templates:
        return Templates(self._pool_dir)

    def all(self) -> list[TemplateInfo]:
        """Raises StorageTrouble."""
        facts = self._service.picture.facts
        specs = [h.value.spec for h in facts.vms.values() if not h.value.deleted] if facts else []
        owners = {Path(disk.path).resolve(): spec.name for spec in specs for disk in spec.disks}
        return [TemplateInfo(**told) for told in self._templates.told(owners)]

    def create(self, wish: TemplateWish) -> PoolWish:
        """Raises NotFound, Conflict, InvalidInput, StorageTrouble."""
        if wish.memory % MIB:
            raise BadField("memory: not whole MiB", hint="like 2GiB", field="memory")
        self._templates.create(
            wish.name, wish.image, wish.memory // MIB, wish.vcpus, tuple(wish.networks), wish.note
        )
        return PoolWish(changed=True, sentence=f"the template {wish.name} is made")

    def remove(self, name: str) -> PoolWish:
        """Raises NotFound, Conflict while disks of VMs lie over it, StorageTrouble."""
        self._templates.remove(name)
        return PoolWish(changed=True, sentence=f"the template {name} is deleted")

    def deploy(self, name: str, wish: TemplateDeploy) -> VmWish:
        """Raises NotFound, Conflict, InvalidInput, StorageTrouble."""
        check_name(wish.name, "VM name")
        check_name(name, "template name")
        if not all(map(is_key, wish.ssh_keys)):
            raise BadField("ssh_keys: not a public SSH key", hint="like ssh-ed25519 AAAA... anna",
                           field="ssh_keys")  # fmt: skip
        if wish.user_data and wish.user:
            raise BadField("user: say the user in your user-data", field="user")
        seed = _seed(wish)
        held = self._service.read_vm(wish.name)
        if held is not None and not held.value.deleted:
            raise Conflict(f"there is a VM '{wish.name}' already", hint="choose another name")
        template = self._templates.get(name)
        networks = template.networks if wish.networks is None else wish.networks

        def create(paths: list[str]) -> VmWish:
            return self._wishes.create(
                make(
                    VmCreate, name=wish.name, memory=wish.memory or template.memory_mib * MIB,
                    vcpus=wish.vcpus or template.vcpus, use_existing=True,
                    disks=[{"path": path} for path in paths], networks=list(networks),
                    hardware=OF_TEMPLATE,
                )
            )  # fmt: skip

        source = of_template(self._pool_dir, template)
        wanted = Wanted(size_bytes=wish.disk or 0, seed=seed)
        return make_vm(self._pool_dir, wish.name, source, wanted, create)


def _seed(wish: TemplateDeploy) -> Seed | None:
    """Checked here: what is wrong with it is said before anything is made. Raises InvalidInput."""
    told = Seed(
        wish.name, f"outlast-{uuid.uuid4()}", tuple(wish.ssh_keys), wish.user,
        check_user_data(wish.user_data, "user_data") if wish.user_data else "",
        wish.network_config, wish.address, wish.gateway, tuple(wish.dns),
    )  # fmt: skip
    if wish.cloud_init:
        files_of(told)
        return told
    if told != Seed(told.hostname, told.instance):
        raise BadField("cloud_init: without it nobody reads keys, users and addresses",
                       field="cloud_init")  # fmt: skip
    return None
