"""A picture as JSON, for bug reports and laptops; read strictly.

    {"outlast_picture": 1, "policy": {...}, "hosts": [{...}], "vms": [{...}], "groups": [{...}]}

Rules:
1. Fields are those of picture.py, by their names; what equals its default is left out.
2. Reading refuses an unknown field, a missing one, a wrong type, a number that is none, a name
   twice; always by the field's path, like `vms[3].memory_mib`. Nothing is guessed.
3. `read(write(p)) == p`, and the same picture always gives the same text.
4. It holds names, sizes and loads; no addresses, no secrets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from enum import Enum
from typing import Any, TypeVar

from outlast.errors import InvalidInput
from outlast.placement.picture import (
    Admission,
    Group,
    GroupKind,
    Host,
    HostState,
    Picture,
    Policy,
    Priority,
    Vm,
    checked,
)  # fmt: skip

FORMAT = 1
NUMBER_MAX = 1 << 53
HINT = "correct the file, or make a new one: outlast pool snapshot"

T = TypeVar("T")
Reader = Callable[[object, str], object]


def write(picture: Picture) -> str:
    """Text that ends with a newline, one host, VM or group a line."""
    rows = {"hosts": picture.hosts, "vms": picture.vms, "groups": picture.groups}
    parts = [f'"outlast_picture": {FORMAT}', f'"policy": {json.dumps(_plain(picture.policy))}']
    for name, things in rows.items():
        lines = ",\n".join("  " + json.dumps(_plain(t), ensure_ascii=False) for t in things)
        parts.append(f'"{name}": [' + (f"\n{lines}\n]" if lines else "]"))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def read(text: str) -> Picture:
    """InvalidInput names the field and what to do."""
    try:
        found = json.loads(text, object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"the snapshot is not whole: {error.msg} in line {error.lineno}", hint=HINT
        ) from None
    except RecursionError:
        raise InvalidInput("the snapshot is nested too deeply", hint=HINT) from None
    top = _mapping(found, "snapshot")
    version = top.get("outlast_picture")
    if version != FORMAT or isinstance(version, bool):
        raise _wrong("outlast_picture", f"{version!r} is not a format this program knows")
    for name in top:
        if name not in {"outlast_picture", "policy", "hosts", "vms", "groups"}:
            raise _wrong(name, "there is no such field")
    return checked(
        Picture(
            _several(Host, top, "hosts"), _several(Vm, top, "vms"),
            _several(Group, top, "groups"), _thing(Policy, top.get("policy", {}), "policy"),
        )
    )  # fmt: skip


def read_vm(found: Mapping[str, object], field: str = "vm") -> Vm:
    """One VM of fields as in a snapshot; for a VM that is to be placed."""
    return _thing(Vm, found, field)


def _plain(thing: Any) -> dict[str, object]:
    plain: dict[str, object] = {}
    for f in fields(thing):
        value = getattr(thing, f.name)
        if f.default is MISSING or value != f.default:
            plain[f.name] = value.value if isinstance(value, Enum) else value
    return plain


def _several(kind: type[T], top: dict[str, object], name: str) -> tuple[T, ...]:
    found = top.get(name, [] if name == "groups" else None)
    if not isinstance(found, list):
        raise _wrong(name, "a list is wanted" if name in top else "it is missing")
    return tuple(_thing(kind, item, f"{name}[{n}]") for n, item in enumerate(found))


def _thing(kind: type[T], found: object, path: str) -> T:
    given = _mapping(found, path)
    known: dict[str, Field[Any]] = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise _wrong(f"{path}.{name}", "there is no such field")
    values: dict[str, object] = {}
    for name, f in known.items():
        if name in given:
            values[name] = READERS[str(f.type)](given[name], f"{path}.{name}")
        elif f.default is MISSING:
            raise _wrong(f"{path}.{name}", "it is missing")
    return kind(**values)


def _mapping(found: object, path: str) -> dict[str, object]:
    if not isinstance(found, dict):
        raise _wrong(path, "an object is wanted")
    return found


def _text(found: object, path: str) -> str:
    if not isinstance(found, str):
        raise _wrong(path, "a text is wanted")
    if len(found) > 4096 or not found.isprintable():
        raise _wrong(path, "a short text of printable characters is wanted")
    return found


def _whole(found: object, path: str) -> int:
    if not isinstance(found, int) or isinstance(found, bool):
        raise _wrong(path, "a whole number is wanted")
    if abs(found) > NUMBER_MAX:
        raise _wrong(path, "the number is out of range")
    return found


def _number(found: object, path: str) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise _wrong(path, "a number is wanted")
    if abs(found) > NUMBER_MAX:
        raise _wrong(path, "the number is out of range")
    return float(found)


def _yes(found: object, path: str) -> bool:
    if not isinstance(found, bool):
        raise _wrong(path, "true or false is wanted")
    return found


def _texts(found: object, path: str) -> tuple[str, ...]:
    if not isinstance(found, list):
        raise _wrong(path, "a list of texts is wanted")
    return tuple(_text(item, f"{path}[{n}]") for n, item in enumerate(found))


def _or_none(reader: Reader) -> Reader:
    return lambda found, path: None if found is None else reader(found, path)


def _one_of(kind: type[Enum]) -> Reader:
    def reader(found: object, path: str) -> Enum:
        for value in kind:
            if found == value.value:
                return value
        raise _wrong(path, "one of " + ", ".join(str(v.value) for v in kind) + " is wanted")

    return reader


READERS: dict[str, Reader] = {
    "str": _text, "int": _whole, "float": _number, "bool": _yes, "tuple[str, ...]": _texts,
    "float | None": _or_none(_number), "int | None": _or_none(_whole),
    "tuple[str, ...] | None": _or_none(_texts),
    "HostState": _one_of(HostState), "Priority": _one_of(Priority),
    "GroupKind": _one_of(GroupKind), "Admission": _one_of(Admission),
}  # fmt: skip


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise _wrong(name, "the field is there twice")
        found[name] = value
    return found


def _no_constant(name: str) -> object:
    raise _wrong("snapshot", f"{name} is not a number")


def _wrong(field: str, why: str) -> InvalidInput:
    return InvalidInput(f"{field}: {why}", hint=HINT)
