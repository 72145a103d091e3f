"""Shapes and calls of the agent's API about templates, and VMs that are made of them."""

from __future__ import annotations

from urllib.parse import quote

from pydantic import Field

from outlast.wire.client import AgentClient
from outlast.wire.disks import JobStatus, Quiesce
from outlast.wire.shapes import VCPUS_MAX, Answer, PoolWish, Request, VmWish, parse, parse_list
from outlast.wire.size_field import Size

USER_DATA_MAX = 64 << 10


class TemplateInfo(Answer):
    """A template of the pool."""

    name: str
    image: str  # it was made of; "the VM web": of that
    memory_mib: int
    vcpus: int
    disks: int
    networks: list[str] = Field(default=[])
    note: str = ""
    vms: list[str] = Field(default=[])  # whose disks lie over it
    created_wall_s: float = 0


class TemplateWish(Request):
    """A template of an image; it shares the image's files."""

    name: str
    image: str
    memory: Size
    vcpus: int = Field(default=1, ge=1, le=VCPUS_MAX)
    networks: list[str] = Field(default=[], max_length=16)
    note: str = Field(default="", max_length=200)


class TemplateOfVm(Request):
    """A template of a VM, with its sizes and networks; its disks are copied."""

    name: str
    note: str = Field(default="", max_length=200)
    quiesce: Quiesce = "auto"  # as for a snapshot, when it runs
    rate_bytes_s: int = Field(default=48 << 20, ge=0)


class TemplateMaking(JobStatus):
    vm: str
    template: str
    quiesced: bool = False


class TemplateDeploy(Request):
    """A new VM of a template, its disks linked clones; stopped at first."""

    name: str
    memory: Size | None = None  # None = the template's
    vcpus: int | None = Field(default=None, ge=1, le=VCPUS_MAX)
    user: str = Field(default="", max_length=32)  # made with the keys, and sudo
    ssh_keys: list[str] = Field(default=[], max_length=16)
    user_data: str = Field(default="", max_length=USER_DATA_MAX)  # for cloud-init, as it is
    networks: list[str] | None = Field(default=None, max_length=16)  # None = the template's
    disk: Size | None = None  # its first disk is made as large as this
    network_config: str = Field(default="", max_length=USER_DATA_MAX)  # for cloud-init, as it is
    address: str = Field(default="", max_length=64)  # fixed, like 10.0.0.11/24; "" = DHCP
    gateway: str = Field(default="", max_length=64)
    dns: list[str] = Field(default=[], max_length=8)
    cloud_init: bool = True  # with a seed for it


class TemplateClient:
    """Through one agent."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client

    def all(self) -> list[TemplateInfo]:
        """By name. Raises StorageTrouble."""
        return parse_list(TemplateInfo, self._client.call("GET", "/v1/templates"))

    def create(self, wish: TemplateWish) -> PoolWish:
        """Raises NotFound without the image, Conflict when there is one of this name."""
        raw = wish.model_dump_json(exclude_unset=True).encode()
        return parse(PoolWish, self._client.call("POST", "/v1/templates", raw))

    def make(self, vm: str, wish: TemplateOfVm) -> TemplateMaking:
        """Begin one of a VM. Raises NotFound, Conflict, InvalidInput."""
        raw = wish.model_dump_json(exclude_unset=True).encode()
        return parse(TemplateMaking, self._client.call("POST", _of_vm(vm), raw))

    def making(self, vm: str) -> TemplateMaking:
        """Raises NotFound when none was begun."""
        return parse(TemplateMaking, self._client.call("GET", _of_vm(vm)))

    def give_up(self, vm: str) -> TemplateMaking:
        """Break it off. Raises NotFound."""
        return parse(TemplateMaking, self._client.call("DELETE", _of_vm(vm)))

    def remove(self, name: str) -> PoolWish:
        """Raises NotFound, Conflict while disks of VMs lie over it."""
        path = f"/v1/templates/{quote(name, safe='')}"
        return parse(PoolWish, self._client.call("DELETE", path))

    def deploy(self, template: str, wish: TemplateDeploy) -> VmWish:
        """Raises NotFound, Conflict when there is such a VM, InvalidInput, StorageTrouble."""
        path = f"/v1/templates/{quote(template, safe='')}/deploy"
        raw = wish.model_dump_json(exclude_unset=True).encode()
        return parse(VmWish, self._client.call("POST", path, raw))


def _of_vm(vm: str) -> str:
    return f"/v1/vms/{quote(vm, safe='')}/template"
