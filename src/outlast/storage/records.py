"""The values of the registers: model types and JSON objects. Pure.

One pair for each class of register: `x_to(thing) -> dict`, `x_from(dict) -> thing`, inverse to
each other. The model is the format: each field of the frozen type is a field of the JSON object
under its own name, an enum is its value, a tuple a list, a map of slots an object with the slots
in decimal as keys, a part of its own type an object or null.

Rules of reading: unknown fields are ignored, so that a later Outlast may add some; a missing
field takes the model's default if it has one; anything else raises StorageTrouble naming the
field. Numbers are whole and not negative, slots at most 64, terms 32 hex digits.

What a value means for the pool (may this view follow that one?) is not checked here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from outlast.equipment import JoinToken, Network, PowerSwitch, Repository
from outlast.errors import InvalidInput, StorageTrouble
from outlast.model import SLOT_MAX, Fence, Lease, OrderBook, SlotRecord, View, VmRecord, VmSpec
from outlast.report import Report
from outlast.settings import PoolSettings, check
from outlast.storage.drills import DrillRecord
from outlast.storage.health import HostHealth

Json = dict[str, object]
_T = TypeVar("_T")
_TERM = re.compile(r"[0-9a-f]{32}\Z")


def value_to(value: Any) -> Json:
    """The JSON object of any of these values, for who writes several kinds."""
    return _object(value)


def view_to(view: View) -> Json:
    """The register `view`, and the view in a pulse's snapshot."""
    return _object(view)


def view_from(value: object, version: int = 0) -> View:
    """The view in this object; `version`, when given, is the register's and must be the same.

    Raises StorageTrouble on garbage, as all the others do.
    """
    view = _thing(View, value, "the view")
    if version and view.version != version:
        raise StorageTrouble(f"view {view.version} stands in version {version} of its register")
    return view


def slot_to(record: SlotRecord) -> Json:
    """The register `slot/<n>`."""
    return _object(record)


def slot_from(value: object) -> SlotRecord:
    return _thing(SlotRecord, value, "the slot record")


def token_to(token: JoinToken) -> Json:
    """The register `token/<id>`."""
    return _object(token)


def token_from(value: object) -> JoinToken:
    return _thing(JoinToken, value, "the token")


def fence_to(fence: Fence) -> Json:
    """The register `fence/<n>`."""
    return _object(fence)


def fence_from(value: object) -> Fence:
    return _thing(Fence, value, "the fence record")


def power_to(switch: PowerSwitch) -> Json:
    """The register `power/<n>`."""
    return _object(switch)


def power_from(value: object) -> PowerSwitch:
    return _thing(PowerSwitch, value, "the power switch")


def network_to(network: Network) -> Json:
    """The register `network/<name>`."""
    return _object(network)


def network_from(value: object) -> Network:
    return _thing(Network, value, "the network")


def repository_to(repository: Repository) -> Json:
    """The register `repository/<name>`."""
    return _object(repository)


def repository_from(value: object) -> Repository:
    return _thing(Repository, value, "the repository")


def lease_to(lease: Lease) -> Json:
    """The register `lease/<vm>`."""
    return _object(lease)


def lease_from(value: object) -> Lease:
    return _thing(Lease, value, "the lease")


def spec_to(spec: VmSpec) -> Json:
    """What a VM is made of; a part of `vm_to`."""
    return _object(spec)


def spec_from(value: object) -> VmSpec:
    return _thing(VmSpec, value, "the VM's definition")


def vm_to(record: VmRecord) -> Json:
    """The register `vm/<name>`."""
    return _object(record)


def vm_from(value: object) -> VmRecord:
    return _thing(VmRecord, value, "the VM record")


def order_to(book: OrderBook) -> Json:
    """The register `order/<slot>`."""
    return _object(book)


def order_from(value: object) -> OrderBook:
    return _thing(OrderBook, value, "the order book")


def report_to(report: Report) -> Json:
    """The register `report/<n>`."""
    return _object(report)


def report_from(value: object) -> Report:
    return _thing(Report, value, "the report")


def drill_to(drill: DrillRecord) -> Json:
    """The register `drill`."""
    return _object(drill)


def drill_from(value: object) -> DrillRecord:
    """The drill in this object."""
    return _thing(DrillRecord, value, "the drill")


def health_to(health: HostHealth) -> Json:
    """The register `health/N`."""
    return _object(health)


def health_from(value: object) -> HostHealth:
    """What a host says of itself in this object."""
    return _thing(HostHealth, value, "a host's health")


def pool_to(pool: PoolSettings) -> Json:
    """The register `pool`."""
    return _object(pool)


def pool_from(value: object) -> PoolSettings:
    """The settings in this object; a timing that is not safe is refused like garbage."""
    pool = _thing(PoolSettings, value, "the pool's settings")
    try:
        check(pool.timing)
    except InvalidInput as trouble:
        raise StorageTrouble(f"the pool's settings: {trouble.sentence}") from None
    return pool


def thing_to(thing: object) -> Json:
    """A register value whose type another room defines."""
    return _object(thing)


def thing_from(kind: type[_T], value: object, what: str) -> _T:
    """The same, read. what: its name in sentences. Raises StorageTrouble."""
    return _thing(kind, value, what)


def unknown_fields(thing: Any, raw: Mapping[str, object]) -> Json:
    """What a value has that this version does not know, to be kept when it is written again.

    Only fields of the value itself and of its `spec`: other parts are replaced as a whole.
    """
    kind = type(thing)
    names = {f.name for f in fields(kind)}
    found = {name: value for name, value in raw.items() if name not in names}
    part = raw.get("spec")
    if "spec" in names and isinstance(part, Mapping):
        inner = unknown_fields(thing.spec, part)
        if inner:
            found["spec"] = inner
    return found


def with_unknown(value: Json, unknown: Mapping[str, object]) -> Json:
    """A value with what was unknown in the version it follows."""
    made = {**unknown, **value}
    inner, part = unknown.get("spec"), value.get("spec")
    if isinstance(inner, Mapping) and isinstance(part, Mapping):
        made["spec"] = {**inner, **part}
    return made


def _object(thing: Any) -> Json:
    return {f.name: _plain(getattr(thing, f.name)) for f in fields(thing)}


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(value[key]) for key in sorted(value)}
    if is_dataclass(value):
        return _object(value)
    return value


@cache
def _shape(kind: Any) -> tuple[tuple[Field[Any], Any], ...]:
    hints = get_type_hints(kind)
    return tuple((f, hints[f.name]) for f in fields(kind))


def _thing(kind: type[_T], value: object, what: str) -> _T:
    if not isinstance(value, Mapping):
        raise StorageTrouble(f"{what} is not a JSON object but {value!r}"[:200])
    shape_of: Any = kind
    found: dict[str, Any] = {}
    for field, hint in _shape(shape_of):
        if field.name in value:
            found[field.name] = _typed(field.name, hint, value[field.name], what)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise StorageTrouble(f"{what} has no '{field.name}'")
    return kind(**found)


def _typed(name: str, hint: Any, value: object, what: str) -> object:
    """The value of one field, of the type its hint wants."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:  # only `X | None` occurs
        return None if value is None else _typed(name, args[0], value, what)
    if origin is tuple:
        items = _want(isinstance(value, list), name, value, "a list", what)
        return tuple(_typed(name, args[0], item, what) for item in items)
    if origin is Mapping:
        items = _want(isinstance(value, Mapping), name, value, "an object", what)
        return {_slot(name, key, what): _typed(name, args[1], items[key], what) for key in items}
    if is_dataclass(hint):
        part: Any = hint
        return _thing(part, value, f"'{name}' in {what}")
    if issubclass(hint, Enum):
        wanted = {e.value: e for e in hint}
        good = isinstance(value, str) and value in wanted
        return wanted[_want(good, name, value, "one of " + ", ".join(wanted), what)]
    return _want(_SIMPLE[hint][0](name, value), name, value, _SIMPLE[hint][1], what)


def _slot(name: str, key: object, what: str) -> int:
    good = isinstance(key, str) and re.fullmatch(r"[1-9][0-9]?", key) and int(key) <= SLOT_MAX
    return int(_want(bool(good), name, key, "a map of slots", what))


def _good_int(name: str, value: object) -> bool:
    most = SLOT_MAX if name in {"slot", "master"} or name.endswith("_slot") else None
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return whole and (most is None or value <= most)  # type: ignore[operator]


def _good_str(name: str, value: object) -> bool:
    term = name == "term" or name.endswith("_term")
    return isinstance(value, str) and (not term or bool(_TERM.match(value)))


_SIMPLE: Mapping[type, tuple[Callable[[str, object], bool], str]] = {
    int: (_good_int, "a whole number in its range"),
    str: (_good_str, "a text of its kind"),
    bool: (lambda _name, value: isinstance(value, bool), "true or false"),
    float: (lambda _name, value: isinstance(value, int | float), "a number"),
}


def _want(good: bool, name: str, value: object, wanted: str, what: str) -> Any:
    if not good:
        found = repr(value)
        found = found if len(found) <= 80 else found[:77] + "..."
        raise StorageTrouble(f"{what}: '{name}' is {found}, not {wanted}")
    return value
