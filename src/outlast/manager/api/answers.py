"""The shapes of the API's answers and requests, and how lists are paged.

Rules: readers ignore fields they do not know; units are last in the names; hosts and VMs have the
shapes of the agents' own API with their pool's id and name in front.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from outlast.errors import InvalidInput
from outlast.manager.ports import Grant
from outlast.wire.shapes import Answer, ErrorBody, HostStatus, VmStatus

T = TypeVar("T")
CURSOR_MAX = 2000

Limit = Annotated[int, Query(ge=1, le=500, description="how many lines at most")]
Cursor = Annotated[str, Query(max_length=CURSOR_MAX, description="next_cursor of the page before")]
Text = Annotated[str, Query(max_length=200)]


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


class Page(Answer, Generic[T]):
    items: list[T]
    total: int
    next_cursor: str = ""


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


def page_of(
    rows: Sequence[T], keys: dict[str, Callable[[T], Any]], id_of: Callable[[T], str], *,
    sort: str, descending: bool, limit: int, cursor: str,
) -> tuple[list[T], int, str]:  # fmt: skip
    """One page of a short list: lines, how many there are, cursor of the next page.

    Raises InvalidInput.
    """
    if sort not in keys:
        raise InvalidInput(f"there is no order by {sort[:40]!r}", hint=", ".join(keys))
    key = keys[sort]
    ordered = sorted(rows, key=lambda row: (key(row), id_of(row)), reverse=descending)
    start = 0
    if cursor:
        after = _parse_cursor(cursor, sort, descending)
        try:
            start = sum(
                1 for row in ordered
                if ((key(row), id_of(row)) >= after if descending else
                    (key(row), id_of(row)) <= after)
            )  # fmt: skip
        except TypeError:
            raise _bad_cursor() from None
    chosen = ordered[start : start + limit]
    if not chosen or start + limit >= len(ordered):
        return chosen, len(ordered), ""
    last = chosen[-1]
    return chosen, len(ordered), pack([sort, descending, key(last), id_of(last)])


def pack(value: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def unpack(cursor: str) -> list[Any]:
    """Raises InvalidInput."""
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        raise _bad_cursor() from None
    if not isinstance(found, list):
        raise _bad_cursor()
    return found


def unpack_id(cursor: str) -> int:
    """The id in a cursor of a list by id; 0 without one. Raises InvalidInput."""
    if not cursor:
        return 0
    found = unpack(cursor)
    if len(found) != 1 or type(found[0]) is not int or not 0 < found[0] < 1 << 62:
        raise _bad_cursor()
    return found[0]


def _parse_cursor(cursor: str, sort: str, descending: bool) -> tuple[Any, str]:
    found = unpack(cursor)
    if len(found) != 4 or found[:2] != [sort, descending] or not isinstance(found[3], str):
        raise _bad_cursor()
    return found[2], found[3]


def _bad_cursor() -> InvalidInput:
    return InvalidInput("the cursor is none", hint="begin again without a cursor")
