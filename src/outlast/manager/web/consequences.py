"""What a wish would do, worked out before anybody confirms it.

`steady` is what a confirmation is held against: it says what matters for people, without numbers
that change by themselves. A pool that does not answer is said, not hidden: the wish may still go.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from outlast.errors import OutlastError, Unreachable
from outlast.manager.ports import PoolEntry
from outlast.manager.web import edits
from outlast.manager.web.buttons import SPANS, Button
from outlast.manager.web.edits import Thing
from outlast.manager.web.equipment_buttons import CARDS, values_of, wished_vms
from outlast.manager.web.forms import Form
from outlast.manager.web.gate import View
from outlast.placement.choose import Answer
from outlast.placement.plan import Plan
from outlast.readiness import emptying
from outlast.readiness.drills import Rehearsal
from outlast.wire.equipment import NetworkInfo, OrphanInfo, StorageInfo
from outlast.wire.images import ImageInfo
from outlast.wire.shapes import HostStatus, VmStatus
from outlast.wire.templates import TemplateInfo
from outlast.words import listed, plural


@dataclass(frozen=True, slots=True)
class Foreseen:
    """Sentences for people, and what the dialog's own part of the form needs."""

    lines: tuple[str, ...] = ()
    warning: str = ""
    steady: tuple[str, ...] = ()
    plan: Plan | None = None
    places: Answer | None = None
    hosts: tuple[str, ...] = ()
    templates: tuple[TemplateInfo, ...] = ()
    drills: tuple[tuple[Rehearsal, list[str]], ...] = ()  # with what speaks against it
    impossible: bool = False  # it would be refused for certain; the dialog only tells
    # which the form has: "" | why-for | why | back | to | disks | drill | new-vm | edit
    fields: str = ""
    spans: tuple[str, ...] = field(default=tuple(SPANS))


async def preview(view: View, button: Button, form: Form) -> str:
    """Where new VMs would start as things are; "" for other wishes, before enough is said, and for
    those who do not see hosts."""
    pool_id = view.caller.pool_id
    offered = button.verb in ("deploy", "new-vm") and view.scope.sees_pool(pool_id)
    if not offered or not form["name"]:
        return ""
    try:
        vms = wished_vms(form)
        found = await view.room.foresight.in_turn(pool_id, vms)
    except OutlastError:
        return ""  # what is wrong with the form is told when it is sent
    places = [host for host in found if host]
    if len(vms) == 1:
        return f"It would start on {places[0]}." if places else "No host has room for it now."
    said = f"{len(places)} of {len(vms)} would find a place now"
    return f"{said}, the first on {places[0]}." if places else f"{said}."


USED = (NetworkInfo, StorageInfo, TemplateInfo)
CHANGES = ("Every host changes it within seconds; VMs on it lose the network for a moment.",)
SETS_VM = (
    "What runs stays where it is; where it may run counts from its next start on.",
    "More memory and vCPUs come at once if it has room to grow; else with its next start.",
)
SETS_POOL = ("All hosts take it over while everything runs; no VM notices.",)


async def of(view: View, button: Button, thing: Thing) -> Foreseen:
    entry = view.manager.reads.pool(view.caller.pool_id)
    if button.fields or isinstance(thing, edits.Listed):
        return _equipment(button.verb, thing)
    if isinstance(thing, VmStatus):
        return await _vm(view, button.verb, thing, entry)
    if isinstance(thing, HostStatus):
        return await _host(view, button.verb, thing, entry)
    if button.verb == "new-vm":
        return await _new_vm(view, entry)
    return _pool(button.verb, entry)


def _equipment(verb: str, thing: Thing) -> Foreseen:
    """What is new is told by its form; steady is what was there when the dialog was made."""
    if verb != "remove":
        steady = tuple(f"{k} {v}" for k, v in values_of(CARDS, thing).items())
        lines: tuple[str, ...] = CHANGES if isinstance(thing, NetworkInfo) else ()
        lines = COPIES[verb] if isinstance(thing, VmStatus) else lines
        return Foreseen(lines, steady=steady)
    if isinstance(thing, OrphanInfo):
        lines = (f"{thing.path} is deleted, with all that is on it; nothing brings it back.",
                 "No VM of this pool names it. Whether somebody keeps it for another use, no "
                 "machine can know.")  # fmt: skip
        return Foreseen(lines, steady=(thing.path, str(thing.size_bytes)))
    using = ", ".join(thing.vms[:8]) if isinstance(thing, USED) else ""
    if isinstance(thing, NetworkInfo):
        warning = f"these VMs are on it: {using}" if using else ""
        lines = ("Each host removes its bridge as soon as no VM uses it there.",)
        return Foreseen(lines, warning, (thing.name, using))
    if isinstance(thing, ImageInfo):
        lines = ("Its files are deleted. Templates that were made of it keep what they need.",)
        return Foreseen(lines, steady=(thing.name,))
    warning = f"it is needed, and stays: disks of {using} are on it" if using else ""
    lines = ("What is on it stays. Each host unmounts it when nothing uses it there.",)
    if isinstance(thing, TemplateInfo):
        lines = ("Its files are deleted.",)
    return Foreseen(lines, warning, (using,), impossible=bool(using))


COPIES = {
    "template": (
        "Its disks are copied, slowly, and it goes on as it is. The template has its memory, vCPUs "
        "and networks.",
        "What must not be in all VMs, like host keys, should be cleaned in it before: "
        "cloud-init clean --logs --machine-id.",
    ),
    "backup": (
        "Its disks are copied, slowly, and it goes on as it is. What lies in the folder is seen "
        "when it is whole; older ones go only after that.",
    ),
    "move-disk": (
        "Its disk is copied, slowly, and it goes on; it stands still for a moment when it changes "
        "over. Broken off, the disk is where it was.",
    ),
}


async def _new_vm(view: View, entry: PoolEntry) -> Foreseen:
    try:
        templates = tuple(await view.manager.reads.templates(entry.id))
    except OutlastError:  # an empty disk is left, and an older agent knows nothing else
        templates = ()
    return Foreseen(steady=(entry.id,), templates=templates, fields="new-vm")


async def _vm(view: View, verb: str, vm: VmStatus, entry: PoolEntry) -> Foreseen:
    lines: tuple[str, ...] = ()
    if verb == "set":
        return _edit(SETS_VM, vm, entry)
    if verb == "migrate":
        return await _migrate(view, vm, entry)
    if verb == "stop":
        lines = (f"The system inside {vm.name} is asked to shut down; what runs in it ends.",
                 "It stays down until somebody starts it: HA does not restart it.")  # fmt: skip
    elif verb == "kill":
        lines = (f"{vm.name} ends at once, as if its plug was pulled; what is not written is lost.",
                 "It stays down until somebody starts it: HA does not restart it.")  # fmt: skip
    elif verb == "ha-off":
        lines = (f"If {vm.host or 'its host'} fails, {vm.name} stays down.",
                 "It runs on as it is.")  # fmt: skip
        return Foreseen(lines, steady=(vm.name,), fields="why-for")
    elif verb == "delete":
        disks = ", ".join(d.path for d in vm.disks) or "none"
        lines = (f"The pool forgets {vm.name}.", f"Its disks: {disks}.",
                 "Disk files stay, unless you say otherwise here.")  # fmt: skip
        return Foreseen(lines, steady=(vm.name, disks), fields="disks")
    return Foreseen(lines, steady=(vm.name,))


async def _migrate(view: View, vm: VmStatus, entry: PoolEntry) -> Foreseen:
    lines = (f"{vm.name} runs on while it moves; its memory, {vm.memory_mib} MiB, is copied "
             "encrypted.",
             "At the end it pauses for a moment, usually well under a second.")  # fmt: skip
    hosts = tuple(h.name for h in entry.status.hosts if h.state == "member" and h.name != vm.host)
    try:
        places = await view.room.foresight.places(entry.id, vm.name)
    except OutlastError as error:
        return Foreseen(lines, _unknown(error), (vm.name, vm.host), hosts=hosts, fields="to")
    return Foreseen(lines, "", (vm.name, vm.host), places=places, hosts=hosts, fields="to")


async def _host(view: View, verb: str, host: HostStatus, entry: PoolEntry) -> Foreseen:
    here = emptying.on(host.name, entry.status.vms)
    if verb == "maintain":
        return await _maintain(view, host, entry)
    if verb == "drill":
        return await _drill(view, host, entry)
    if verb == "confirm-off":
        return _confirmed(host, here)
    if verb == "remove":
        return _removed(host, here)
    if verb == "resume":
        away = [v.name for v in entry.status.vms if v.away_from == host.name]
        lines = (f"{host.name} takes VMs again.",
                 f"{len(away)} VMs left it for this maintenance." if away else "")  # fmt: skip
        return Foreseen(tuple(filter(None, lines)), steady=(host.name,), fields="back")
    restarted = [v for v in here if v.ha and v.ha_off is None and entry.status.ha_off is None]
    down = [v.name for v in here if v not in restarted]
    said = (
        f"{host.name} shuts down and is switched off.",
        f"{len(restarted)} VMs that run there are interrupted and start elsewhere at once."
        if restarted else "It runs no VM that would have to start elsewhere.",
        f"These stay down: {', '.join(down[:8])}{' ...' if len(down) > 8 else ''}." if down else "",
        "To move them while they run, take it into maintenance first." if here else "",
    )  # fmt: skip
    return Foreseen(tuple(filter(None, said)), steady=(host.name, *down))


def _confirmed(host: HostStatus, here: list[VmStatus]) -> Foreseen:
    names = [vm.name for vm in here]
    held = listed(names, 8) if names else "no VM"
    lines = (
        f"{host.sentence}. It holds {held}.",
        "What it ran starts elsewhere within seconds; nobody waits any longer for proof.",
        "A host that is heard or writes is refused; one that writes again takes your word back.",
    )  # fmt: skip
    warning = (f"if {host.name} still runs and only its network and storage are gone, its VMs run "
               "twice and spoil their disks. Say it only of a machine without power")  # fmt: skip
    return Foreseen(lines, warning, (host.name, *names), fields="why")


def _removed(host: HostStatus, here: list[VmStatus]) -> Foreseen:
    lines = (
        f"The pool forgets {host.name}; another machine may join with its name.",
        f"Its certificates are good until 'outlast pool revoke {host.name} --pool DIR'.",
    )  # fmt: skip
    warning = f"it still holds {listed([vm.name for vm in here], 8)}" if here else ""
    return Foreseen(lines, warning, (host.name, warning))


async def _maintain(view: View, host: HostStatus, entry: PoolEntry) -> Foreseen:
    try:
        plan, verdict = await view.room.foresight.emptied(entry.id, host.name)
    except OutlastError as error:
        return Foreseen((), _unknown(error), (host.name,), fields="why")
    if plan.moves:
        moves = plural(len(plan.moves), "VM moves", "VMs move")
        line = (f"{moves} away while they run, {plan.mib / 1024:.1f} GiB, "
                f"about {plan.copy_s:.0f} s.")  # fmt: skip
    else:
        line = f"{host.name} runs no VM that would move." if not plan.left else "No VM can move."
    lines = [line]
    if host.master:
        lines.append(f"{host.name} is the master and stays a member; deciding goes on.")
    lines.append(f"{host.name} gets no VMs until it is taken back into service.")
    steady = (host.name, verdict.warning, *(name for name, _ in plan.left))
    return Foreseen(tuple(lines), verdict.warning, steady, plan=plan, fields="why")


async def _drill(view: View, host: HostStatus, entry: PoolEntry) -> Foreseen:
    """A dry run of each kind."""
    lines = ("What is described here really happens, and ends by itself; the pool compares it with "
             "what was foreseen, and its report is an event.",)  # fmt: skip
    try:
        drills = tuple(await view.room.foresight.drills(entry.id, host.name))
    except OutlastError as error:
        return Foreseen(lines, _unknown(error), (host.name,), fields="drill")
    everywhere = [why for why in drills[0][1] if all(why in against for _, against in drills)]
    drills = tuple((d, [why for why in against if why not in everywhere]) for d, against in drills)
    warning = f"None of it may take place now: {'; '.join(everywhere)}." if everywhere else ""
    touched = sorted({one.vm for found, _ in drills for one in found.foreseen})
    return Foreseen(
        lines, warning, (host.name, *touched), drills=drills, impossible=bool(everywhere),
        fields="drill",
    )  # fmt: skip


def _pool(verb: str, entry: PoolEntry) -> Foreseen:
    if verb == "settings":
        return _edit(SETS_POOL, entry, entry)
    guarded = sum(v.ha and v.ha_off is None and v.state == "running" for v in entry.status.vms)
    lines = (f"{guarded} running VMs are not restarted if their host fails.",
             "They run on as they are. A bar on every page of this pool says so until it is on "
             "again.")  # fmt: skip
    return Foreseen(lines, steady=(entry.id,), fields="why-for")


def _edit(lines: tuple[str, ...], thing: Thing, entry: PoolEntry) -> Foreseen:
    steady = tuple(f"{name} {value}" for name, value in edits.now(thing).items())
    hosts = tuple(h.name for h in entry.status.hosts)
    return Foreseen(lines, steady=steady, hosts=hosts, fields="edit")


def _unknown(error: OutlastError) -> str:
    if isinstance(error, Unreachable):
        return f"What it would do cannot be worked out now: {error.sentence}."
    return f"What it would do is not known: {error.sentence}."
