"""How this manager is set up, over the API: what is set, where, and does it work."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from outlast.manager import setup
from outlast.manager.api.answers import ERRORS, Request
from outlast.manager.api.gate import Caller, needs
from outlast.wire.shapes import Answer

router = APIRouter(tags=["settings"], responses=ERRORS)


class SettingOut(Answer):
    name: str
    value: str
    where: str  # default | manager.json | database
    said: str
    live: bool  # may be changed here; the others in manager.json, before a start


class CertificateOut(Answer):
    to: str
    file: str
    until_wall_s: float
    fingerprint: str
    trouble: str


class SettingsOut(Answer):
    settings: list[SettingOut]
    certificates: list[CertificateOut]


class SettingsBody(Request):
    """How long things are kept; null = as manager.json says."""

    events_days: int | None = None
    tasks_days: int | None = None
    metrics_days: int | None = None


class TryBody(Request):
    to: str = Field(default="", max_length=300)  # for mail
    name: str = Field(default="", max_length=100)  # for ldap: somebody to look for


class WorksOut(Answer):
    sentence: str


@router.get("/settings")
async def all_settings(caller: Annotated[Caller, needs("settings")]) -> SettingsOut:
    """What is set, and where. Secrets are in files of their own and never told."""
    return SettingsOut(
        settings=[
            SettingOut(**asdict(s))
            for s in await setup.settings(caller.manager.repository, caller.manager.config)
        ],
        certificates=[
            CertificateOut(**asdict(c)) for c in await setup.certificates(caller.manager)
        ],
    )


@router.patch("/settings")
async def change_settings(
    body: SettingsBody, caller: Annotated[Caller, needs("settings")]
) -> SettingsOut:
    """What is not given stays as it is."""
    days = body.model_dump(exclude_unset=True)
    await setup.change(caller.manager.repository, caller.person.name, caller.address, days)
    return await all_settings(caller)


@router.post("/settings/try/{what}")
async def try_setting(
    what: str, body: TryBody, caller: Annotated[Caller, needs("settings")]
) -> WorksOut:
    """Ask the service outside now: mail, oidc or ldap."""
    return WorksOut(sentence=await setup.try_out(caller.manager, what, body.to, body.name))
