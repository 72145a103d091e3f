"""Webhooks and mail over the API: made, listed, tried, removed, with the log of their deliveries.

Rules: a webhook's secret is in the answer that made it, and in no other.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import Connection

from outlast.errors import Conflict, NotFound
from outlast.manager.api.answers import ERRORS, Request
from outlast.manager.api.gate import Caller, needs
from outlast.manager.api.paging import Asked, Newest, Page, asked, newest
from outlast.manager.mail import SCHEME
from outlast.manager.repository import hooks, records
from outlast.manager.repository.hooks import Hook
from outlast.manager.repository.records import AuditRow
from outlast.manager.repository.store import Repository
from outlast.manager.webhooks import deliver, made_up, new_hook
from outlast.wire.shapes import Answer

router = APIRouter(tags=["webhooks"], responses=ERRORS)


class HookBody(Request):
    url: str = Field(max_length=1000)
    codes: list[str] = Field(default=[], max_length=100)  # beginnings of codes; [] = every event


class HookOut(Answer):
    id: str
    url: str
    codes: list[str]
    created_wall_s: float


class NewHookOut(HookOut):
    secret: str  # shown this once; "" for mail


class DeliveryOut(Answer):
    id: int
    event_id: int
    tries: int
    next_wall_s: float  # 0 = it is over
    status: int  # of the last answer; 0 = none
    sentence: str


class TriedOut(Answer):
    status: int
    sentence: str


@router.get("/webhooks")
async def list_hooks(
    caller: Annotated[Caller, needs("webhooks")], how: Annotated[Asked, asked("url")]
) -> Page[HookOut]:
    found = await caller.manager.repository.read(hooks.all_hooks)
    keys = {"url": lambda h: h.url, "created": lambda h: h.created_wall_s}
    return how.page(found, keys, _hook, name=lambda h: h.url, id_=lambda h: h.id)


@router.post("/webhooks", status_code=201)
async def add_hook(body: HookBody, caller: Annotated[Caller, needs("webhooks")]) -> NewHookOut:
    """It gets what happens from now on. url: https://host/path, or mailto:name@host."""
    hook = new_hook(body.url, tuple(body.codes), time.time())
    if hook.url.startswith(SCHEME) and caller.manager.config.mail is None:
        raise Conflict("this manager knows no mail server", hint="see mail in manager.json")
    line = _line(caller, "webhook-add", hook.id, after=_about(hook))

    def add(c: Connection) -> None:
        hooks.add_hook(c, hook)
        records.add_audit(c, line)

    await caller.manager.repository.write(add)
    return NewHookOut(secret=hook.secret, **_hook(hook).model_dump())


@router.delete("/webhooks/{webhook}", status_code=204)
async def remove_hook(webhook: str, caller: Annotated[Caller, needs("webhooks")]) -> None:
    hook = await _find(caller.manager.repository, webhook)
    line = _line(caller, "webhook-remove", webhook, before=_about(hook))

    def remove(c: Connection) -> None:
        hooks.remove_hook(c, webhook)
        records.add_audit(c, line)

    await caller.manager.repository.write(remove)


@router.post("/webhooks/{webhook}/test")
async def try_hook(webhook: str, caller: Annotated[Caller, needs("webhooks")]) -> TriedOut:
    """Post a made-up event now; the answer is the receiver's."""
    hook = await _find(caller.manager.repository, webhook)
    mail = caller.manager.config.mail
    status, sentence = await asyncio.to_thread(deliver, made_up(hook), mail, time.time())
    return TriedOut(status=status, sentence=sentence)


@router.get("/webhooks/{webhook}/deliveries")
async def list_deliveries(
    webhook: str, caller: Annotated[Caller, needs("webhooks")], how: Annotated[Newest, newest()]
) -> Page[DeliveryOut]:
    """Newest first."""
    repository, before = caller.manager.repository, how.before_id
    await _find(repository, webhook)
    rows, total = await repository.read(
        lambda c: hooks.list_deliveries(c, webhook, before, how.ask)
    )
    return how.page(rows, total, lambda row: DeliveryOut(**asdict(row)))


async def _find(repository: Repository, hook_id: str) -> Hook:
    """Raises NotFound."""
    for hook in await repository.read(hooks.all_hooks):
        if hook.id == hook_id:
            return hook
    raise NotFound(f"there is no webhook '{hook_id[:80]}'")


def _hook(hook: Hook) -> HookOut:
    return HookOut(
        id=hook.id, url=hook.url, codes=list(hook.codes), created_wall_s=hook.created_wall_s
    )


def _about(hook: Hook) -> str:
    return hook.url + (f" ({', '.join(hook.codes)})" if hook.codes else "")


def _line(caller: Caller, action: str, hook_id: str, before: str = "", after: str = "") -> AuditRow:
    who, address = caller.person.name, caller.address
    return AuditRow(time.time(), who, address, action, hook_id, True, "", before, after)
