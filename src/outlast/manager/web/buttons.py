"""What can be wished by a button: its right, its words, its command, what it would do.

Rules:
1. A wish that can be taken back asks nothing (DIRECT). One that interrupts somebody shows first
   what it would do (ASK). One that cannot be undone wants the name typed as well (TYPE).
2. The command is what a person would type on a host of the pool for the very same wish.
3. Buttons that make no sense at the moment are not there; rights are asked by the caller.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from outlast.errors import InvalidInput
from outlast.manager.ports import PoolEntry, Task
from outlast.manager.web import edits
from outlast.manager.web.forms import Form
from outlast.readiness.drills import HOST_KINDS
from outlast.wire.drills import DrillKind
from outlast.wire.shapes import (
    BadField,
    DiskWish,
    HaSwitch,
    HostStatus,
    VmCreate,
    VmDelete,
    VmStatus,
    make,
)
from outlast.wire.templates import TemplateDeploy

DIRECT, ASK, TYPE = "direct", "ask", "type"
AWAY = ("silent", "unreadable", "absent", "closed")  # hosts that show no sign of life, or ended
SPANS = {"30m": 1800, "2h": 7200, "8h": 28800, "1d": 86400, "7d": 604800}
NO_FORM = Form([])


@dataclass(frozen=True, slots=True)
class Aim:
    """Whom a wish is about, and who wishes."""

    acts: Any  # manager.acts.Acts
    pool_id: str
    name: str  # of the VM or host; "" = the pool
    who: str
    address: str


Act = Callable[[Aim, Form], Awaitable[Task]]


@dataclass(frozen=True, slots=True)
class Button:
    kind: str  # of what it is about; see wishes.PLACES
    verb: str  # last part of its address
    action: str  # one of ports.ACTIONS
    label: str
    icon: str
    level: str
    fits: Callable[[object], bool]
    command: Callable[[str, Form], str]
    act: Act
    title: str = ""  # of the dialog; {name} is filled in
    tone: str = ""  # "bad": what it does hurts
    first: Form = NO_FORM  # what the form says at the beginning
    fields: tuple[edits.Field, ...] = ()  # of a form that is nothing but these
    main: bool = False  # what people come to its page for


def span_of(form: Form) -> int | None:
    """Seconds of the field `for`; None = until somebody switches it on. Raises InvalidInput."""
    chosen = form["for"]
    if not chosen:
        return None
    if chosen not in SPANS:
        raise InvalidInput(f"{chosen[:20]!r} is none of the spans", hint=", ".join(SPANS))
    return SPANS[chosen]


def _options(form: Form) -> str:
    said = f" --why {shlex.quote(form['why'])}" if form["why"] else ""
    return said + (f" --for {form['for']}" if form["for"] else "")


def _vm(verb: str) -> Callable[[str, Form], str]:
    return lambda name, form: f"outlast vm {verb} {name}"


def _switch(form: Form, on: bool) -> HaSwitch:
    if on:
        return make(HaSwitch, on=True)
    return make(HaSwitch, on=False, why=form["why"], for_s=span_of(form))


def plain(method: str) -> Act:
    """A wish that has nothing but its object."""

    async def act(to: Aim, form: Form) -> Task:
        wish: Callable[..., Awaitable[Task]] = getattr(to.acts, method)
        return await wish(to.pool_id, to.name, to.who, address=to.address)

    return act


def _with(method: str, more: Callable[[Form], dict[str, object]]) -> Act:
    """A wish with what the form says besides."""

    async def act(to: Aim, form: Form) -> Task:
        wish: Callable[..., Awaitable[Task]] = getattr(to.acts, method)
        place = (to.pool_id, to.name, to.who) if to.name else (to.pool_id, to.who)
        return await wish(*place, **more(form), address=to.address)

    return act


def new_vm(form: Form) -> VmCreate:
    """Raises BadField."""
    disks = [make(DiskWish, size=form["disk"])] if form["disk"] else []
    return make(
        VmCreate, name=form["name"], disks=disks, ha=form["ha"] != "off",
        networks=form.all("network"), **_size(form),
    )  # fmt: skip


def _size(form: Form) -> dict[str, object]:
    """Raises BadField."""
    try:
        return {"memory": form["memory"], "vcpus": int(form["vcpus"] or "1")}
    except ValueError:
        raise BadField("vcpus: not a whole number", hint="like 2", field="vcpus") from None


async def _create(to: Aim, form: Form) -> Task:
    """Of a template, or with an empty disk."""
    more = {"start": bool(form["start"]), "address": to.address}
    if not form["template"]:
        created: Task = await to.acts.create(to.pool_id, to.who, new_vm(form), **more)
        return created
    if form["ha"] == "off" or form["network"]:
        raise InvalidInput("a VM of a template has HA and the template's networks at first",
                           hint="change it afterwards")  # fmt: skip
    keys = form.all("ssh_key")
    wish = make(TemplateDeploy, name=form["name"], ssh_keys=keys, **_size(form))
    made: Task = await to.acts.deploy(to.pool_id, to.who, form["template"], wish, **more)
    return made


def _kind(form: Form) -> DrillKind:
    """Of a drill; also before anybody chose. Raises InvalidInput."""
    chosen = form["kind"] or "power"
    for kind in HOST_KINDS:
        if kind == chosen:
            return cast("DrillKind", kind)
    raise InvalidInput(f"there is no failure {chosen[:20]!r}", hint=", ".join(HOST_KINDS))


def _create_command(name: str, form: Form) -> str:
    if form["template"]:
        return _deploy_command(form)
    said = f"outlast vm create {shlex.quote(form['name'] or 'NAME')}"
    said += f" --memory {shlex.quote(form['memory'] or '2GiB')} --vcpus {form['vcpus'] or '1'}"
    said += f" --disk {shlex.quote(form['disk'] or '20GiB')}"
    said += " --no-ha" if form["ha"] == "off" else ""
    said += f" --network {shlex.quote(form['network'])}" if form["network"] else ""
    return said + (" --start" if form["start"] else "")


def _deploy_command(form: Form) -> str:
    said = f"outlast template deploy {shlex.quote(form['template'])}"
    said += f" {shlex.quote(form['name'] or 'NAME')}"
    said += f" --memory {shlex.quote(form['memory'] or '2GiB')} --vcpus {form['vcpus'] or '1'}"
    said += "".join(f" --ssh-key {shlex.quote(key)}" for key in form.all("ssh_key"))
    return said + (" --start" if form["start"] else "")


def _vm_state(*states: str) -> Callable[[object], bool]:
    return lambda vm: isinstance(vm, VmStatus) and vm.state in states


def _is_vm(test: Callable[[VmStatus], bool]) -> Callable[[object], bool]:
    return lambda vm: isinstance(vm, VmStatus) and test(vm)


def _is_host(test: Callable[[HostStatus], bool]) -> Callable[[object], bool]:
    return lambda host: isinstance(host, HostStatus) and test(host)


def _is_pool(test: Callable[[PoolEntry], bool]) -> Callable[[object], bool]:
    return lambda pool: isinstance(pool, PoolEntry) and test(pool)


BUTTONS: tuple[Button, ...] = (
    Button("vm", "start", "start", "Start", "player-play", DIRECT,
           _vm_state("stopped", "down", "waiting"), _vm("start"), plain("start")),
    Button("vm", "migrate", "migrate", "Migrate", "arrows-right-left", ASK,
           _is_vm(lambda v: v.state == "running" and (v.move is None or v.move.failed != "")),
           lambda name, f: f"outlast vm migrate {name}" + (f" --to {f['to']}" if f["to"] else ""),
           _with("migrate", lambda f: {"to": f["to"]}), "Migrate {name}"),
    Button("vm", "stay", "migrate", "Cancel the move", "x", DIRECT,
           _is_vm(lambda v: v.move is not None and v.move.failed == ""),
           lambda name, f: f"outlast vm migrate {name} --cancel", plain("stay")),
    Button("vm", "stop", "stop", "Shut down", "power", ASK,
           _vm_state("running", "starting", "paused"), _vm("stop"), plain("stop"),
           "Shut down {name}?"),
    Button("vm", "kill", "kill", "End at once", "bolt", ASK,
           _vm_state("running", "starting", "paused", "stopping", "unconfirmed"), _vm("kill"),
           plain("kill"), "End {name} at once?", "bad"),
    Button("vm", "ha-off", "ha", "Switch HA off", "shield-off", ASK,
           _is_vm(lambda v: v.ha and v.ha_off is None),
           lambda name, f: f"outlast vm ha {name} off{_options(f)}",
           _with("ha", lambda f: {"switch": _switch(f, False)}), "Switch HA of {name} off?"),
    Button("vm", "ha-on", "ha", "Switch HA on", "shield-check", DIRECT,
           _is_vm(lambda v: v.ha_off is not None),
           lambda name, f: f"outlast vm ha {name} on",
           _with("ha", lambda f: {"switch": _switch(f, True)})),
    Button("vm", "set", "set", "Edit", "adjustments", ASK, lambda vm: isinstance(vm, VmStatus),
           lambda name, f: edits.command(f"outlast vm set {name}", edits.VM_FIELDS, f),
           _with("set", lambda f: {"change": edits.vm_change(f)}), "Edit {name}"),
    Button("vm", "delete", "delete", "Delete", "trash", TYPE,
           _vm_state("stopped", "down"),
           lambda name, f: f"outlast vm delete {name}" + " --with-disks" * bool(f["with_disks"]),
           _with("delete", lambda f: {"how": VmDelete(with_disks=bool(f["with_disks"]))}),
           "Delete {name}?", "bad"),
    Button("host", "maintain", "maintain", "Maintenance", "tool", ASK,
           _is_host(lambda h: not h.maintenance and h.state == "member"),
           lambda name, f: f"outlast host maintain {name}"
           + (f" --why {shlex.quote(f['why'])}" if f["why"] else ""),
           _with("maintain", lambda f: {"why": f["why"]}), "Take {name} into maintenance"),
    Button("host", "resume", "resume", "Back into service", "player-play", ASK,
           _is_host(lambda h: bool(h.maintenance)),
           lambda name, f: f"outlast host resume {name}" + " --bring-back" * bool(f["bring_back"]),
           _with("resume", lambda f: {"bring_back": bool(f["bring_back"])}),
           "Take {name} back into service"),
    Button("host", "drill", "drill", "Fire drill", "zoom-question", TYPE,
           _is_host(lambda h: h.state == "member" and not h.maintenance),
           lambda name, f: f"outlast drill --host {name} --kind {_kind(f)}",
           _with("drill", lambda f: {"kind": _kind(f)}), "Let {name} fail, on purpose?", "bad"),
    Button("host", "power-off", "power-off", "Power off", "plug-off", TYPE,
           _is_host(lambda h: h.state == "member"),
           lambda name, f: f"outlast host power-off {name}", plain("power_off"),
           "Power off {name}?", "bad"),
    Button("host", "power-on", "power-on", "Wake", "bolt", DIRECT,
           _is_host(lambda h: h.state in AWAY and bool(h.macs)),
           lambda name, f: f"outlast host power-on {name}", plain("power_on")),
    Button("host", "confirm-off", "confirm-off", "It is off", "plug-off", TYPE,
           _is_host(lambda h: h.state in ("silent", "unreadable")),
           lambda name, f: f"outlast host confirm-off {name}"
           + (f" --why {shlex.quote(f['why'])}" if f["why"] else ""),
           _with("confirm_off", lambda f: {"why": f["why"]}), "{name} is off for certain?", "bad"),
    Button("host", "remove", "host-remove", "Remove from the pool", "trash", TYPE,
           _is_host(lambda h: h.state in AWAY),
           lambda name, f: f"outlast host remove {name}", plain("remove_host"),
           "Remove {name} from the pool for good?", "bad"),
    Button("pool", "new-vm", "create", "New VM", "plus", ASK,
           _is_pool(lambda p: not p.stale), _create_command,
           _create, "New VM",
           first=Form([("start", "1")]), main=True),
    Button("pool", "settings", "pool-set", "Settings", "adjustments", ASK,
           _is_pool(lambda p: not p.stale),
           lambda name, f: edits.command("outlast pool set", edits.POOL_FIELDS, f),
           _with("pool_set", lambda f: {"change": edits.pool_change(f)}), "Settings of the pool"),
    Button("pool", "ha-off", "pool-ha", "Switch HA off", "shield-off", ASK,
           _is_pool(lambda p: p.status.ha_off is None),
           lambda name, f: f"outlast pool ha off{_options(f)}",
           _with("pool_ha", lambda f: {"switch": _switch(f, False)}),
           "Switch HA of the whole pool off?", "bad"),
    Button("pool", "ha-on", "pool-ha", "Switch HA on", "shield-check", DIRECT,
           _is_pool(lambda p: p.status.ha_off is not None), lambda name, f: "outlast pool ha on",
           _with("pool_ha", lambda f: {"switch": _switch(f, True)})),
)  # fmt: skip
