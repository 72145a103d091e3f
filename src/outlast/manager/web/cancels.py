"""Taking back a wish that is on its way, wherever its task is shown.

Rules: who may, and what can be taken back at all, is as for the API; a button stands only where it
would work, and shows the command that does the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Response

from outlast.errors import NotFound
from outlast.manager.api.tasks import check_cancel, may_cancel, sees_task
from outlast.manager.outcome import Wish
from outlast.manager.ports import Task
from outlast.manager.web.gate import View, page
from outlast.manager.web.render import TEMPLATES, html, redirect, toast
from outlast.manager.web.verbs import words

router = APIRouter()
COMMANDS: dict[str, Callable[[Task, Wish], str]] = {
    "migrate": lambda task, _: f"vm migrate {task.object} --cancel",
    "start": lambda task, _: f"vm stop {task.object}",
    "maintain": lambda task, _: f"host resume {task.object}",
    "image-import": lambda task, wish: (
        (f"--agent {shlex.quote(wish.agent)} " if wish.agent else "")
        + f"image cancel {task.object}"
    ),
    "template-of-vm": lambda task, wish: f"template cancel {wish.source}",
    "disk-move": lambda task, _: f"vm move-disk {task.object} --cancel",
    "backup": lambda task, _: f"vm backup {task.object} --cancel",
    "restore": lambda task, wish: (
        f"vm restore --cancel --as {task.object}"
        + (f" --host {wish.source}" if wish.source else "")
    ),
}


def cancel_command(view: View, task: Task) -> str:
    """What takes it back; "" = nothing does, or this person may not."""
    if not may_cancel(view.caller, task):
        return ""
    return "outlast " + COMMANDS[task.verb](task, view.manager.tasks.wish_of(task.id))


def works_on(view: View, task: Task) -> str:
    """The host that carries an import out; "" = not known, or it is no import."""
    address = view.manager.tasks.wish_of(task.id).agent
    if task.verb != "image-import" or not address or not view.scope.sees_pool(task.pool_id):
        return ""
    hosts = view.manager.reads.pool(task.pool_id).status.hosts
    return next((h.name for h in hosts if h.api and address == f"https://{h.api}"), address)


@router.post("/tasks/{task}/cancel")
async def cancel(task: str, view: Annotated[View, page()]) -> Response:
    acts = view.manager.acts
    found = acts.task(task)
    if not sees_task(view.caller, found):
        raise NotFound(f"there is no task '{task[:80]}'")
    await check_cancel(view.caller, found)
    made = await acts.cancel(found, view.who, address=view.caller.address)
    view.room.stock.forget(found.pool_id)
    return html(toast(words(made), at=made.id)) if view.scripted else redirect("/tasks")


TEMPLATES.globals |= {"cancel_command": cancel_command, "works_on": works_on}
