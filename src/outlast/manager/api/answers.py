"""The shapes of the API's answers and requests.

Rules: readers ignore fields they do not know; units are last in the names; hosts and VMs have the
shapes of the agents' own API with their pool's id and name in front.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from outlast.manager.ports import Grant
from outlast.wire.shapes import Answer, ErrorBody, HostStatus, VmStatus


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Failure(Answer):
    """Every refusal and every failure."""

    error: ErrorBody


class PoolOut(Answer):
    id: str
    name: str
    stale: bool
    trouble: str
    seen_wall_s: float
    version: int
    sentence: str
    preset: str
    master: str
    ha_off: bool
    hosts: int
    members: int
    vms: int
    running: int


class HostOut(HostStatus):
    pool_id: str
    pool: str
    stale: bool


class VmOut(VmStatus):
    pool_id: str
    pool: str
    stale: bool
    seen_wall_s: float


class TaskOut(Answer):
    id: str
    verb: str
    pool_id: str
    object: str
    who: str
    started_wall_s: float
    ended_wall_s: float
    phase: str
    percent: float | None
    sentence: str
    hint: str
    done: bool
    failed: bool


class GrantBody(Request):
    role: str = Field(max_length=40)
    pool_id: str = Field(default="", max_length=100)
    vm: str = Field(default="", max_length=100)

    def grant(self) -> Grant:
        return Grant(self.role, self.pool_id, self.vm)


class EventOut(Answer):
    id: int
    pool_id: str
    wall_s: float
    host: str
    code: str
    vm: str
    sentence: str
    fields: dict[str, object]


class AuditOut(Answer):
    id: int
    wall_s: float
    who: str
    address: str
    action: str
    object: str
    ok: bool
    sentence: str
    before: str
    after: str


ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Failure, "description": "refused; the sentence says why"},
    "5XX": {"model": Failure, "description": "a pool or the database does not answer"},
}
