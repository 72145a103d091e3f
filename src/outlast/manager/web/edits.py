"""What can be edited of a VM and of a pool: fields, what was changed, the command (pure).

Rules:
1. A form repeats beside each field what it was (`was-NAME`). Only what a person changed is wished,
   so two people who edit different things at once do each other no harm.
2. When something was changed by others meanwhile, fields that this person left alone show it.
3. The command names exactly what is changed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from outlast.errors import InvalidInput
from outlast.manager.ports import PoolEntry
from outlast.manager.web.forms import Form
from outlast.settings import PRESETS, S
from outlast.wire.equipment import NetworkInfo, OrphanInfo, StorageInfo
from outlast.wire.images import ImageInfo
from outlast.wire.shapes import BadField, HostStatus, PoolChange, VmChange, VmStatus, make
from outlast.wire.sizes import MIB, size_text
from outlast.wire.templates import TemplateInfo

# things without pages of their own
Listed = NetworkInfo | StorageInfo | ImageInfo | TemplateInfo | OrphanInfo
Thing = PoolEntry | HostStatus | VmStatus | Listed


def _text(name: str, said: str) -> object:
    return said


def as_number(name: str, said: str) -> int | float:
    """Raises BadField."""
    for kind in (int, float):
        try:
            return kind(said)
        except ValueError:
            continue
    raise BadField(f"{name}: {said[:40]!r} is no number", field=name)


def as_words(name: str, said: str) -> object:
    return said.split()


def _groups(name: str, said: str) -> object:
    """Raises BadField."""
    found = []
    for word in said.split():
        kind, colon, group = word.partition(":")
        if not colon or kind not in ("apart", "together"):
            raise BadField(f"groups: {word[:60]!r}?", hint="like apart:db or together:app?",
                           field=name)  # fmt: skip
        found.append({"name": group.removesuffix("?"), "kind": kind, "hard": group[-1:] != "?"})
    return found


@dataclass(frozen=True, slots=True)
class Field:
    name: str  # as in VmChange or PoolChange
    label: str
    option: str  # of the command
    parse: Callable[[str, str], object] = _text
    choices: tuple[tuple[str, str], ...] = ()  # value, what it means
    many: bool = False  # hosts to tick
    empty: str = ""  # what the command calls nothing
    unit: str = ""
    hint: str = ""
    initial: str = ""  # of something new; the command says the others
    required: bool = False
    lines: bool = False  # a text of several


@dataclass(frozen=True, slots=True)
class Input:
    """A field as a form shows it."""

    field: Field
    value: str
    was: str
    hosts: tuple[str, ...] = ()


def _timing(name: str) -> str:
    t = PRESETS[name]
    return (f"{name}: a silent host counts as dead after {t.dead_ns / S:g} s; one without storage "
            f"and peers ends its VMs after {t.fence_ns / S:g} s")  # fmt: skip


VM_FIELDS = (
    Field("priority", "Priority", "--priority", choices=(
        ("high", "high: gets a place first"), ("normal", "normal"), ("low", "low"),
        ("best-effort", "best-effort: only where room is left"))),
    Field("memory", "Memory", "--memory", hint="like 8GiB"),
    Field("vcpus", "vCPUs", "--vcpus", as_number),
    Field("start_order", "Start order", "--start-order", as_number, hint="0 starts first"),
    Field("start_delay_s", "Starts later by", "--start-delay", as_number, unit="s", hint="seconds"),
    Field("ready", "Those after it start when", "--ready", empty="runs",
          hint="agent, tcp:5432 or delay:30s answers; nothing: it runs"),
    Field("groups", "Groups", "--group", _groups, empty="none",
          hint="like apart:db; a ? behind it: if possible"),
    Field("preferred", "Only on these hosts", "--prefer", as_words, many=True, empty="any"),
    Field("likes", "Rather on these hosts", "--like", as_words, many=True, empty="any"),
)  # fmt: skip
POOL_FIELDS = (
    Field("timing", "Timing", "--timing",
          choices=tuple((name, _timing(name)) for name in PRESETS if name != "lab")),
    Field("admission", "Starts after which a host may not fail any more", "--admission", choices=(
        ("off", "off: are not looked at"), ("warn", "warn: are a note"),
        ("refuse", "refuse: wait until there is room"))),
    Field("balance", "Balance", "--balance", choices=(
        ("off", "off: VMs move when somebody says so"),
        ("auto", "auto: the master evens the pool out, while it is quiet"))),
    Field("balance_moves_h", "At most so many of these moves an hour", "--balance-moves",
          as_number),
    Field("moves_at_once", "Moves that a host sends, and takes, at once", "--moves-at-once",
          as_number),
    Field("move_mib_s", "MiB a second of each", "--move-rate", as_number, hint="0: no limit"),
    Field("move_connections", "Connections of each", "--move-connections", as_number),
    Field("cpu_mode", "Processor that VMs see", "--cpu", choices=(
        ("auto", "auto: what all hosts have, if all have KVM"),
        ("baseline", "baseline: what all hosts have"),
        ("host", "host: all of their own host's; they may not be able to move"))),
    Field("vcpu_ratio", "vCPUs that a processor may carry", "--vcpu-ratio", as_number),
    Field("memory_ratio", "Memory is promised", "--memory-ratio", as_number,
          hint="times; 1: never twice"),
    Field("restart_limit", "Restarts of one VM, then it stays down", "--restarts", as_number),
    Field("restart_window_s", "within so many seconds", "--restart-window", as_number, unit="s"),
    Field("witness", "Witness of splits, such as the gateway", "--witness",
          hint="IP addresses with commas between; who reaches it stays"),
    Field("join", "Who may make a machine a host", "--join", choices=(
        ("anyone", "anyone with access to the storage"), ("token", "only with a token"))),
)  # fmt: skip


def fields_of(thing: Thing) -> tuple[Field, ...]:
    return VM_FIELDS if isinstance(thing, VmStatus) else POOL_FIELDS


def now(thing: Thing) -> dict[str, str]:
    """What the fields are now, as texts."""
    if isinstance(thing, VmStatus):
        groups = [g.replace(" (soft)", "?").replace(" ", ":") for g in thing.groups]
        memory = size_text(thing.memory_mib * MIB).replace(" ", "")
        return {
            "priority": thing.priority, "memory": memory,
            "vcpus": str(thing.vcpus), "start_order": str(thing.start_order),
            "start_delay_s": str(thing.start_delay_s), "ready": thing.ready,
            "groups": " ".join(groups),
            "preferred": " ".join(thing.preferred), "likes": " ".join(thing.likes),
        }  # fmt: skip
    if not isinstance(thing, PoolEntry):
        return {}
    values = thing.status.settings.model_dump()
    known = {f.name: f"{values[f.name]:g}" if isinstance(values[f.name], float)
             else str(values[f.name]) for f in POOL_FIELDS if f.name in values}  # fmt: skip
    return known | {"timing": thing.status.preset}


def inputs(
    fields: Sequence[Field], known: Mapping[str, str], form: Form, hosts: Sequence[str] = ()
) -> tuple[Input, ...]:
    """Fields with what is typed in them, or with what they are now."""
    changed = _changed(fields, form)
    return tuple(
        Input(field, changed.get(field.name, known[field.name]), known[field.name],
              tuple(dict.fromkeys((*hosts, *known[field.name].split()))) if field.many else ())
        for field in fields if field.name in known
    )  # fmt: skip


def was(fields: Sequence[Field], form: Form) -> str:
    """What the fields were when the form was made, for the audit."""
    return json.dumps({f.name: form[f"was-{f.name}"] for f in fields})


def _changed(fields: Sequence[Field], form: Form) -> dict[str, str]:
    """What the form says, for the fields in which it says something else than it did at first."""
    said = {
        f.name: form.raw(f.name) if f.lines else " ".join(form.all(f.name))
        for f in fields if f"was-{f.name}" in form
    }  # fmt: skip
    return {
        f.name: said[f.name] for f in fields
        if f.name in said and said[f.name].split() != form[f"was-{f.name}"].split()
    }  # fmt: skip


def vm_change(form: Form) -> VmChange:
    """Raises BadField, InvalidInput when nothing is changed."""
    return make(VmChange, **parsed(VM_FIELDS, form))


def pool_change(form: Form) -> PoolChange:
    """Raises BadField, InvalidInput when nothing is changed."""
    return make(PoolChange, **parsed(POOL_FIELDS, form))


def parsed(fields: Sequence[Field], form: Form) -> dict[str, object]:
    """What is changed, by field. Raises BadField, InvalidInput when nothing is."""
    changed = _changed(fields, form)
    if not changed:
        raise InvalidInput("nothing is changed", hint="change something, or cancel")
    return {f.name: f.parse(f.name, changed[f.name]) for f in fields if f.name in changed}


def command(start: str, fields: Sequence[Field], form: Form) -> str:
    changed = _changed(fields, form)
    said = [start]
    for field in fields:
        if field.name not in changed:
            continue
        value = changed[field.name]
        repeated = field.many or field.empty or field.parse is as_words
        for word in (value.split() if repeated else [value]) or [field.empty]:
            said.append(f"{field.option} {shlex.quote(word)}{field.unit}")
    return " ".join(said)
