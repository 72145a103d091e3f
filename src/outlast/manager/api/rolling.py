"""Rolling maintenance over the API: the hosts of a pool one after the other."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from outlast.manager.api.answers import ERRORS, Request
from outlast.manager.api.gate import Caller, needs
from outlast.readiness import rolling
from outlast.readiness.rolling import Round

router = APIRouter(tags=["hosts"], responses=ERRORS)
PATH = "/pools/{pool}/rolling-maintenance"


class RollingBody(Request):
    hosts: list[str] = Field(default=[], max_length=64)  # [] = all
    why: str = Field(default="", max_length=100, pattern=r"^[^\x00-\x1f]*$")
    until: Literal["said", "reboot"] = "said"  # when the work on a host is done
    bring_back: bool = True
    at_risk: bool = False  # also when the pool would not survive a failure meanwhile


class SaidBody(Request):
    host: str = Field(max_length=100)


@router.get(PATH)
async def rolling_maintenance(pool: str, caller: Annotated[Caller, needs("see")]) -> Round:
    """How far the pool's last round is."""
    return await caller.manager.rounds.of(caller.pool_id)


@router.post(PATH, status_code=201)
async def begin(
    pool: str, body: RollingBody, caller: Annotated[Caller, needs("maintain")]
) -> Round:
    """Empty each host, wait until its work is done, take it back, go on with the next."""
    new = Round(
        hosts=tuple(body.hosts), who=caller.person.name, begun_wall_s=time.time(), why=body.why,
        until=body.until, bring_back=body.bring_back, at_risk=body.at_risk,
    )  # fmt: skip
    return await caller.manager.rounds.begin(caller.pool_id, new, caller.address)


@router.post(PATH + "/said")
async def said(pool: str, body: SaidBody, caller: Annotated[Caller, needs("maintain")]) -> Round:
    """The work on that host is done."""
    return await caller.manager.rounds.change(
        caller.pool_id, caller.person.name, caller.address, "rolling-said",
        lambda found: rolling.say_done(found, body.host),
    )  # fmt: skip


@router.post(PATH + "/go-on")
async def go_on(pool: str, caller: Annotated[Caller, needs("maintain")]) -> Round:
    """Try the step again at which it stopped."""
    return await caller.manager.rounds.change(
        caller.pool_id, caller.person.name, caller.address, "rolling-go-on",
        lambda found: rolling.go_on(found, time.time()),
    )  # fmt: skip


@router.post(PATH + "/end")
async def end(pool: str, caller: Annotated[Caller, needs("maintain")]) -> Round:
    """No further host. The one that is being worked on stays in maintenance."""
    who = caller.person.name
    return await caller.manager.rounds.change(
        caller.pool_id, who, caller.address, "rolling-end", lambda found: rolling.end(found, who)
    )
