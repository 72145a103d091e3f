"""Buttons and their dialogs, and the wish that comes of them; one way for all of buttons.py.

Rules:
1. The dialog lists what would happen, worked out now. The wish repeats a hash of the list: if it
   has changed meanwhile, nothing is done and the new list is shown (409).
2. The API's own services carry it out and write it into the audit; nothing is wished twice.
3. Without scripts the dialog is a page and the answer leads back to where it began.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Response

from outlast.errors import Conflict, NotFound, OutlastError, TimedOut, Unreachable
from outlast.manager.ports import Task
from outlast.manager.web import consequences, edits
from outlast.manager.web.buttons import (
    ASK,
    BUTTONS,
    DIRECT,
    NO_FORM,
    TYPE,
    Aim,
    Button,
)
from outlast.manager.web.cancels import cancel_command
from outlast.manager.web.disk_buttons import DISKS
from outlast.manager.web.edits import Thing
from outlast.manager.web.equipment_buttons import EQUIPMENT, values_of
from outlast.manager.web.forms import Form, form_of
from outlast.manager.web.gate import View, page
from outlast.manager.web.render import dialog as shown
from outlast.manager.web.render import (
    fragment,
    html,
    redirect,
    toast,
)
from outlast.manager.web.stock import IMAGES, NETWORKS, ORPHANS, STORAGE
from outlast.manager.web.verbs import words
from outlast.wire.shapes import BadField

router = APIRouter()
PLACES = {
    "pool": "/pools/{pool}", "vm": "/pools/{pool}/vms/{vm}", "host": "/pools/{pool}/hosts/{host}",
    "networks": "/pools/{pool}/networks", "network": "/pools/{pool}/networks/{network}",
    "storages": "/pools/{pool}/storage", "storage": "/pools/{pool}/storage/{storage}",
    "images": "/pools/{pool}/images", "image": "/pools/{pool}/images/{image}",
    "template": "/pools/{pool}/templates/{template}",
    "orphan": "/pools/{pool}/orphans/{orphan}",
}  # fmt: skip
# things without a page of their own: where they are listed, what the stock is asked, and its part
LISTED = {
    "network": ("networks", NETWORKS, NETWORKS), "storage": ("storages", STORAGE, STORAGE),
    "image": ("images", IMAGES, IMAGES), "template": ("images", IMAGES, "templates"),
    "orphan": ("storages", ORPHANS, ORPHANS),
}  # fmt: skip
ALL = (*BUTTONS, *EQUIPMENT, *DISKS)
OPPOSITES = {"ha-off": "ha-on"}  # that ask nothing; what is on its way can be cancelled instead


@dataclass(frozen=True, slots=True)
class Shown:
    """A button as a page shows it."""

    button: Button
    path: str
    command: str

    @property
    def dialog(self) -> bool:
        return self.button.level != DIRECT


@dataclass(frozen=True, slots=True)
class Dialog:
    button: Button
    name: str
    path: str
    back: str
    foreseen: consequences.Foreseen
    thing: Thing
    form: Form = NO_FORM
    error: OutlastError | None = None
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.button.title.format(name=self.name)

    @property
    def command(self) -> str:
        first = values_of(self.button.fields, self.thing) if not self.form else {}
        return self.button.command(self.name, self.form or Form(list(first.items())))

    @property
    def seen(self) -> str:
        said = "\n".join((self.path, *self.foreseen.steady))
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def inputs(self) -> tuple[edits.Input, ...]:
        if fields := self.button.fields:
            return edits.inputs(fields, values_of(fields, self.thing), self.form)
        fields, known = edits.fields_of(self.thing), edits.now(self.thing)
        return edits.inputs(fields, known, self.form, self.foreseen.hosts)

    @property
    def typed(self) -> bool:
        return self.button.level == TYPE


def dialogs_for(
    view: View, kind: str, pool_id: str, name: str = "", thing: Thing | None = None
) -> list[Shown]:
    """The buttons that make sense now and that this person may press. thing: if it is known."""
    thing = thing or _known(view, kind, pool_id, name)
    vm, place = name if kind == "vm" else "", _place(kind, pool_id, name)
    return [
        Shown(b, f"{place}/{b.verb}", b.command(name, b.first))
        for b in ALL
        if b.kind == kind and b.fits(thing) and view.may(b.action, pool_id, vm)
    ]


def _known(view: View, kind: str, pool_id: str, name: str) -> Thing:
    """Raises NotFound."""
    reads = view.manager.reads
    if kind == "vm":
        return reads.vm(pool_id, name).vm
    return reads.host(pool_id, name) if kind == "host" else reads.pool(pool_id)


async def _thing(view: View, kind: str, pool_id: str, name: str) -> Thing:
    """Raises NotFound, and what agents say of what they are asked for."""
    if kind not in LISTED:
        return _known(view, kind, pool_id, name)
    _, what, part = LISTED[kind]
    said = await view.room.stock.now(pool_id, what)
    for one in said.parts.get(part, ()):
        if one.name == name:
            found: Thing = one
            return found
    raise said.error or NotFound(f"there is no {kind} {name[:80]!r} in this pool")


def _place(kind: str, pool_id: str, name: str) -> str:
    return PLACES[kind].format(**{kind: quote(name, safe=""), "pool": quote(pool_id)})


async def _dialog(view: View, button: Button, form: Form, error: OutlastError | None) -> Dialog:
    caller, kind = view.caller, button.kind
    named = view.request.path_params.get(kind, "") if kind != "pool" else ""
    name = {"vm": caller.vm, "host": caller.host}.get(kind, named)
    thing = await _thing(view, kind, caller.pool_id, name)
    foreseen = await consequences.of(view, button, thing)
    path = f"{_place(kind, caller.pool_id, name)}/{button.verb}"
    back = _place(LISTED.get(kind, (kind,))[0], caller.pool_id, name)
    return Dialog(button, name, path, back, foreseen, thing, form, error)


def _shown(view: View, dialog: Dialog, status: int = 200) -> Response:
    body = fragment("_dialog.html", dialog=dialog, csrf=view.csrf, view=view)
    return shown(view, dialog.title, body, status)


async def _wish(view: View, button: Button) -> Response:
    form = await form_of(view.request)
    dialog = await _dialog(view, button, form, None)
    try:
        if not button.fits(dialog.thing):
            raise Conflict(f"{dialog.name or 'the pool'} has changed meanwhile", hint="look again")
        if button.level in (ASK, TYPE) and not hmac.compare_digest(form["seen"], dialog.seen):
            raise Conflict("what would happen has changed meanwhile", hint="this is the new list")
        if dialog.typed and form["typed"] != dialog.name:
            raise BadField(f"type {dialog.name} to confirm", hint="exactly as it is written",
                           field="typed")  # fmt: skip
        aim = Aim(
            view.manager.acts, view.caller.pool_id, dialog.name, view.who, view.caller.address
        )
        task = await button.act(aim, form)
    except OutlastError as error:
        if button.level == DIRECT or isinstance(error, Unreachable | TimedOut):
            raise
        again = replace(dialog, form=form, error=error)
        return _shown(view, again, error.status)
    return _taken(view, button, dialog, task, form)


def _taken(view: View, button: Button, dialog: Dialog, task: Task, form: Form) -> Response:
    to = dialog.back
    view.room.stock.forget(view.caller.pool_id)
    if (button.kind, button.verb) == ("vm", "delete"):
        to = "/vms"
    elif (button.kind, button.verb) == ("host", "remove"):
        to = _place("pool", view.caller.pool_id, "")
    elif button.verb == "new-vm":
        to = "/vms?" + urlencode({"search": form["name"]})
    if not view.scripted:
        return redirect(to)
    if to != dialog.back:
        return redirect(to, view)
    undo, command = _undo(view, button, dialog, task)
    said = toast(
        words(task), hint=task.sentence, link=f"/tasks#task-{task.id}", at=task.id,
        undo=undo, command=command, csrf=view.csrf,
    )  # fmt: skip
    return html(said, HX_Trigger="o-close-dialog")


def _undo(view: View, button: Button, dialog: Dialog, task: Task) -> tuple[str, str]:
    """Where what takes it back without a question is posted to, and its command; "" = nowhere."""
    if command := cancel_command(view, task):
        return f"/tasks/{task.id}/cancel", command
    for other in BUTTONS:
        if (other.kind, other.verb) == (button.kind, OPPOSITES.get(button.verb)):
            path = f"{dialog.path.rpartition('/')[0]}/{other.verb}"
            return path, other.command(dialog.name, NO_FORM)
    return "", ""


def _routes(buttons: Sequence[Button]) -> None:
    for button in buttons:
        _route(button)


def _route(button: Button) -> None:
    path = f"{PLACES[button.kind]}/{button.verb}"
    gate = page(button.action)

    async def ask(view: View = gate) -> Response:
        given = Form(list(view.request.query_params.multi_items())) or button.first
        if view.partial == "cli":  # somebody fills the form: what would the command be now
            caller = view.caller
            name = caller.vm or caller.host or view.request.path_params.get(button.kind, "")
            values = {"path": view.request.url.path, "command": button.command(name, given),
                      "preview": await consequences.preview(view, button, given)}  # fmt: skip
            return html(fragment("_cli.html", **values))
        return _shown(view, await _dialog(view, button, given, None))

    async def wish(view: View = gate) -> Response:
        return await _wish(view, button)

    if button.level != DIRECT:
        router.add_api_route(path, ask, methods=["GET"])
    router.add_api_route(path, wish, methods=["POST"])


_routes(ALL)
