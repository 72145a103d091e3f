"""Shapes and calls of the agent's API about templates, and VMs that are made of them."""

from __future__ import annotations

import json
from urllib.parse import quote

from pydantic import Field

from outlast.wire.client import AgentClient
from outlast.wire.shapes import VCPUS_MAX, Answer, Request, VmWish, parse
from outlast.wire.size_field import Size


class TemplateInfo(Answer):
    """A template of the pool."""

    name: str
    image: str  # it was made of
    memory_mib: int
    vcpus: int
    disks: int
    networks: list[str] = Field(default=[])
    note: str = ""


class TemplateDeploy(Request):
    """A new VM with the networks of a template, its disks linked clones; stopped at first."""

    name: str
    memory: Size | None = None  # None = the template's
    vcpus: int | None = Field(default=None, ge=1, le=VCPUS_MAX)
    user: str = Field(default="", max_length=32)  # made with the keys, and sudo
    ssh_keys: list[str] = Field(default=[], max_length=16)


class TemplateClient:
    """Through one agent."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client

    def all(self) -> list[TemplateInfo]:
        """By name. Raises StorageTrouble."""
        found = json.loads(self._client.call("GET", "/v1/templates"))
        return [TemplateInfo.model_validate(one) for one in found]

    def deploy(self, template: str, wish: TemplateDeploy) -> VmWish:
        """Raises NotFound, Conflict when there is such a VM, InvalidInput, StorageTrouble."""
        path = f"/v1/templates/{quote(template, safe='')}/deploy"
        raw = wish.model_dump_json(exclude_unset=True).encode()
        return parse(VmWish, self._client.call("POST", path, raw))
