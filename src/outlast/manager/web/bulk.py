"""One wish for many VMs of the list: the plan, one confirmation, progress and end of each VM.

Rules:
1. A VM that it makes no sense for, or that this person may not wish it of, is named in the plan and
   left alone. If the plan has changed before it is confirmed, nothing is done and it is shown anew.
2. Each VM's wish is a task like any other: it stands in its pool and in the audit. Some at a time.
3. What was refused is told beside the VM, and can be tried again by itself. The page of a run is
   this manager's own and ends with it; the tasks do not.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated

from fastapi import APIRouter, Response

from outlast.errors import Conflict, InvalidInput, NotFound, OutlastError
from outlast.manager.ports import Task, VmItem
from outlast.manager.web.buttons import ASK, BUTTONS, NO_FORM, SPANS, TYPE, Aim, Button
from outlast.manager.web.filters import filter_of
from outlast.manager.web.forms import Form, form_of
from outlast.manager.web.gate import View, page
from outlast.manager.web.render import dialog, fragment, html, redirect
from outlast.manager.web.render import page as whole
from outlast.manager.web.runs import Item, Run, told
from outlast.placement.picture import Priority
from outlast.wire.shapes import VmChange, VmStatus, make
from outlast.words import plural

log = logging.getLogger("outlast.manager.web")
router = APIRouter()
MANY = ("start", "migrate", "stop")  # commands that take many names
PRIORITIES = tuple(one.value for one in Priority)


async def _set_priority(to: Aim, form: Form) -> Task:
    change = make(VmChange, priority=form["priority"])
    made: Task = await to.acts.set(to.pool_id, to.name, to.who, change, address=to.address)
    return made


PRIORITY = Button(
    "vm", "priority", "set", "Priority", "adjustments", ASK, lambda vm: isinstance(vm, VmStatus),
    lambda name, form: f"outlast vm set {name} --priority {form['priority'] or 'normal'}",
    _set_priority,
)  # fmt: skip
OFFERED = (*MANY, "ha-off", "ha-on", "delete")
VERBS = {b.verb: b for b in BUTTONS if b.kind == "vm" and b.verb in OFFERED} | {
    PRIORITY.verb: PRIORITY
}
EFFECTS = {
    "ha-off": "{count} stay down if their host fails; they run on as they are.",
    "ha-on": "{count} are restarted after failures again.",
    "priority": "{count} take it over at once; it counts when hosts fail and room is short.",
    "delete": "The pool forgets {count}. Disk files stay, unless you say otherwise here.",
    "start": "{count} start, where there is room.",
    "migrate": "{count} move while they run, where there is room.",
    "stop": "{count} are asked to shut down; what runs in them ends, and HA does not restart them.",
}
BULK_MAX, AT_ONCE, PAGE = 5000, 8, 500


@dataclass(frozen=True, slots=True)
class Plan:
    button: Button
    items: list[VmItem]
    left: list[tuple[str, str]]
    chosen: list[str] = field(default_factory=list)  # what the form said
    where: str = ""  # the list's address, when all that match are meant
    form: Form = NO_FORM
    error: OutlastError | None = None

    @property
    def seen(self) -> str:
        said = "\n".join([self.button.verb, *(f"{i.pool_id}/{i.vm.name}" for i in self.items)])
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def effect(self) -> str:
        return EFFECTS[self.button.verb].format(count=plural(len(self.items), "VM"))

    @property
    def command(self) -> str:
        names = " ".join(item.vm.name for item in self.items[:20])
        names += " ..." if len(self.items) > 20 else ""
        if self.button.verb in MANY:
            return f"outlast vm {self.button.verb} {names}"
        return f"for vm in {names}; do {self.button.command('$vm', self.form)}; done"

    @property
    def typed(self) -> str:
        """What must be typed before it is done; "" = nothing."""
        return str(len(self.items)) if self.button.level == TYPE else ""


def bulk_verbs(view: View) -> list[Button]:
    """Those that this person may wish of anything."""
    roles = {grant.role for grant in view.person.roles}
    return list(VERBS.values()) if roles - {"viewer"} else []


def _matching(view: View, where: str) -> Iterator[VmItem]:
    """All VMs of a list. Raises InvalidInput, NotFound."""
    asked = filter_of(where)
    for number in range(1, BULK_MAX // PAGE + 2):
        query, _ = asked.query(view, page=number, limit=PAGE)
        found = view.manager.reads.vms(query)
        if found.total > BULK_MAX:
            raise InvalidInput(f"{found.total:,} VMs are too many at once",
                               hint=f"narrow the list to {BULK_MAX:,}")  # fmt: skip
        yield from found.items
        if number * PAGE >= found.total:
            return


def _chosen(view: View, words: list[str]) -> Iterator[VmItem]:
    for word in dict.fromkeys(words):
        pool_id, _, name = word.partition("/")
        if not view.scope.sees_vm(pool_id, name):
            raise NotFound(f"there is no VM {name[:80]!r}")
        yield view.manager.reads.vm(pool_id, name)


def plan(view: View, form: Form) -> Plan:
    """Raises InvalidInput, NotFound."""
    button = VERBS.get(form["verb"])
    if button is None:
        raise InvalidInput(f"{form['verb'][:40]!r} is nothing that many VMs can be wished")
    where, words = form["where"] if form["all"] else "", form.all("vm")
    if not where and not words:
        raise InvalidInput("no VM is chosen", hint="tick some in the list")
    fit, left = [], []
    for item in _matching(view, where) if where else _chosen(view, words):
        if not view.may(button.action, item.pool_id, item.vm.name):
            left.append((item.vm.name, "you may not"))
        elif not button.fits(item.vm):
            left.append((item.vm.name, _why_not(button.verb, item.vm)))
        else:
            fit.append(item)
    return Plan(button, fit, left, [] if where else words, where, form)


def _why_not(verb: str, vm: VmStatus) -> str:
    if verb in ("ha-off", "ha-on"):
        return "it has no HA" if not vm.ha else "it is so already"
    if verb == "migrate" and vm.move is not None:
        return "it moves already"
    return f"it is {vm.state}"


def _shown(view: View, made: Plan, status: int = 200) -> Response:
    values = {"spans": tuple(SPANS), "priorities": PRIORITIES}
    body = fragment("_bulk.html", plan=made, csrf=view.csrf, view=view, **values)
    title = f"{made.button.label}: {plural(len(made.items), 'VM')}"
    return dialog(view, title, body, status)


@router.get("/vms/bulk")
async def bulk_plan(view: Annotated[View, page()]) -> Response:
    """What one wish would do with the chosen VMs."""
    return _shown(view, plan(view, Form(list(view.request.query_params.multi_items()))))


@router.post("/vms/bulk")
async def bulk_wish(view: Annotated[View, page()]) -> Response:
    form = await form_of(view.request)
    made = plan(view, form)
    if not made.items or not hmac.compare_digest(form["seen"], made.seen):
        trouble = Conflict("what would happen has changed meanwhile", hint="this is the new plan")
        return _shown(view, replace(made, error=trouble), trouble.status)
    if form["typed"] != made.typed:
        wrong = InvalidInput(f"type {made.typed} to confirm", hint="that is how many they are")
        return _shown(view, replace(made, error=wrong), wrong.status)
    items = [Item(i.pool_id, i.vm.name) for i in made.items]
    run = view.room.runs.begin(view.who, made.button.verb, items, made.left)
    run.running = asyncio.ensure_future(_carry_out(view, run, form))
    return redirect(f"/vms/bulk/{run.id}", view)


async def _carry_out(view: View, run: Run, form: Form) -> None:
    some = asyncio.Semaphore(AT_ONCE)
    button, acts = VERBS[run.verb], view.manager.acts

    async def one(item: Item) -> None:
        async with some:
            if view.manager.reads.hub.closed:
                item.refused = "the manager stopped before it was wished"
                return
            aim = Aim(acts, item.pool_id, item.vm, view.who, view.caller.address)
            try:
                item.task = (await button.act(aim, form)).id
            except OutlastError as error:
                item.refused = error.sentence
            except Exception:
                log.exception("a bug while wishing %s of %s", run.verb, item.vm)
                item.refused = "the manager failed; see its log"

    await asyncio.gather(*map(one, run.items))


@router.get("/vms/bulk/{run}")
async def bulk_run(run: str, view: Annotated[View, page()]) -> Response:
    """How far it is, VM by VM."""
    found = view.room.runs.of(run, view.who)
    values = told(found, view.manager.acts.task) | {"button": VERBS[found.verb]}
    if view.partial == "run":
        return html(fragment("_run.html", **values))
    return whole(view, "run.html", **values)
