"""Facts, decisions and the memory of a pool core as JSON, and back, without loss.

Rules:
1. What comes back is equal and iterates in the same order: a core cannot tell the difference.
   Sets have no order; they are written sorted.
2. Only classes of the pool room, the model and the settings are known. Reading makes instances
   without running any of their code, so that a file from a stranger can do no more than be wrong.
3. Containers are lists that begin with their kind: t(uple), l(ist), s(et), f(rozenset), m(apping),
   e(num), o(bject). Everything else is a plain JSON value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import ModuleType

from outlast import model, report, settings
from outlast.errors import InvalidInput
from outlast.pool import (
    core,
    decision,
    draining,
    facts,
    hosting,
    journal,
    life,
    links,
    membership,
    moving,
    parting,
    plan,
    relocation,
    reporting,
    sequence,
    told,
)

DEPTH_MAX = 40
MODULES: tuple[ModuleType, ...] = (
    model, report, settings, core, decision, draining, facts, hosting, journal, life, links,
    membership, moving, parting, plan, relocation, reporting, sequence, told,
)  # fmt: skip


def _classes() -> dict[str, type]:
    known: dict[str, type] = {}
    for module in MODULES:
        for name, value in vars(module).items():
            if isinstance(value, type) and value.__module__ == module.__name__:
                if name in known:
                    name = f"{module.__name__.rpartition('.')[2]}.{name}"
                known[name] = value
    return known


CLASSES = _classes()
NAMES = {kind: name for name, kind in CLASSES.items()}


def encode(value: object) -> object:
    """A JSON value. Raises TypeError for what no core holds."""
    if value is None or isinstance(value, bool | int | float | str):
        return value if not isinstance(value, Enum) else ["e", NAMES[type(value)], value.value]
    if isinstance(value, Enum):
        return ["e", NAMES[type(value)], value.value]
    if isinstance(value, tuple):
        return ["t", *map(encode, value)]
    if isinstance(value, list):
        return ["l", *map(encode, value)]
    if isinstance(value, set | frozenset):
        items = sorted(map(encode, value), key=json.dumps)
        return ["f" if isinstance(value, frozenset) else "s", *items]
    if isinstance(value, Mapping):
        return ["m", *([encode(k), encode(v)] for k, v in value.items())]
    name = NAMES.get(type(value))
    if name is None:
        raise TypeError(f"{type(value).__name__} is not recorded")
    return ["o", name, {k: encode(v) for k, v in _parts(value)}]


def _parts(value: object) -> list[tuple[str, object]]:
    if is_dataclass(value):
        return [(f.name, getattr(value, f.name)) for f in fields(value)]
    return list(vars(value).items())


def text(value: object) -> str:
    """The one way an encoded value is written: what is compared byte for byte."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def decode(value: object, depth: int = 0) -> object:
    """The value that was encoded. Raises InvalidInput for what no `encode` made."""
    if not isinstance(value, list):
        if isinstance(value, dict):
            raise _wrong("an object without its kind")
        return value
    if depth > DEPTH_MAX:
        raise _wrong("it is nested too deeply")
    match value:
        case ["t", *items]:
            return tuple(decode(i, depth + 1) for i in items)
        case ["l", *items]:
            return [decode(i, depth + 1) for i in items]
        case ["s" | "f" as kind, *items]:
            return _safely(set if kind == "s" else frozenset, [decode(i, depth + 1) for i in items])
        case ["m", *items]:
            return _safely(dict, [_pair(i, depth) for i in items])
        case ["e", str(name), plain] if name in CLASSES and issubclass(CLASSES[name], Enum):
            return _safely(CLASSES[name], plain)
        case ["o", str(name), dict(parts)] if name in CLASSES:
            return _object(CLASSES[name], parts, depth)
    raise _wrong(text(value)[:60])


def _pair(item: object, depth: int) -> tuple[object, object]:
    if not isinstance(item, list) or len(item) != 2:
        raise _wrong("a mapping's pair is not one")
    return decode(item[0], depth + 1), decode(item[1], depth + 1)


def _object(kind: type, parts: Mapping[str, object], depth: int) -> object:
    if issubclass(kind, Enum | Exception):
        raise _wrong(kind.__name__)
    made = object.__new__(kind)
    if is_dataclass(kind):
        known = {f.name: f for f in fields(kind)}
        missing = [
            n for n, f in known.items()
            if n not in parts and f.default is MISSING and f.default_factory is MISSING
        ]  # fmt: skip
        if missing or parts.keys() - known.keys():
            raise _wrong(f"{kind.__name__} has other fields")
        for name, field in known.items():
            if name in parts:
                set_to = decode(parts[name], depth + 1)
            else:
                made_now = field.default_factory
                set_to = field.default if made_now is MISSING else made_now()
            object.__setattr__(made, name, set_to)
        return made
    for name, part in parts.items():
        object.__setattr__(made, name, decode(part, depth + 1))
    return made


def _safely(kind: Callable[..., object], given: object) -> object:
    try:
        return kind(given)
    except (TypeError, ValueError):
        raise _wrong(str(given)[:60]) from None


def _wrong(what: str) -> InvalidInput:
    return InvalidInput(
        f"the recording is damaged or of another version: {what}", hint="export it again"
    )
