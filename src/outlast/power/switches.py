"""How each host's power switch is reached: the register `power/<slot>`, and its secrets beside it.

Rules:
1. What is no secret stands in the register. Secrets are in a file of the pool's directory that only
   root can read (`power/<slot>-<8 hex>.json`, 0600), like the pool's own key, for each host must be
   able to switch each other off. They are in no register, so no dump and no log has them.
2. The file is there before the record names it; then older ones of this slot are removed. A change
   that was broken off leaves the settings that were, whole.
3. A record is of one machine, by its uuid. When its slot is another's, it counts for nothing.
"""

from __future__ import annotations

import json
import re
import secrets as chance
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from outlast.equipment import PowerSwitch
from outlast.errors import Conflict, InvalidInput, StorageTrouble
from outlast.power.agents import check_option
from outlast.storage.records import power_from, power_to
from outlast.storage.register import Outcome, Register
from outlast.wire.files import write_file

FOLDER = "power"
TRIES, PAUSE_S = 5, 0.1
_ID = re.compile(r"[0-9a-f]{8}\Z")


@dataclass(frozen=True, slots=True)
class Settings:
    """A switch with everything that its fence agent is told. Never shown whole: see `secrets`."""

    record: PowerSwitch
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def options(self) -> dict[str, str]:
        return dict(text.partition("=")[::2] for text in self.record.options)


def record_of(register: Register, slot: int) -> PowerSwitch | None:
    """The settings of a slot without secrets; None without a switch. Raises StorageTrouble."""
    _, value = register.read(f"power/{slot}")
    record = power_from(value) if value is not None else None
    return record if record is not None and record.agent else None


def load(register: Register, pool_dir: Path, slot: int) -> Settings | None:
    """The settings of a slot; None without a switch. Raises StorageTrouble."""
    record = record_of(register, slot)
    if record is None:
        return None
    if not record.secrets:
        return Settings(record)
    path = _place(pool_dir, slot, record.secret_id)
    try:
        found = json.loads(path.read_bytes())
        return Settings(record, {name: str(found[name]) for name in record.secrets})
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = error.strerror if isinstance(error, OSError) else "damaged"
        raise StorageTrouble(
            f"the secrets of the power switch of slot {slot} cannot be read: {said} ({path})",
            hint="outlast host fence set",
        ) from None


def store(
    register: Register, pool_dir: Path, record: PowerSwitch, secrets: Mapping[str, str]
) -> None:
    """Set the switch of a slot; `secrets` of the record is filled in here.

    Raises InvalidInput, Conflict, StorageTrouble; then the former settings still count.
    """
    for text in record.options:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f"{text[:60]!r} is not like ip=10.0.0.9")
        check_option(name, value, secret=False)
    for name, value in secrets.items():
        check_option(name, value, secret=True)
    ident = chance.token_hex(4) if secrets else ""
    full = PowerSwitch(
        record.slot, record.uuid, record.agent, record.options, tuple(sorted(secrets)), ident
    )
    folder = pool_dir / FOLDER
    if secrets:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StorageTrouble(f"{folder}: {error.strerror}", hint="run it as root") from error
        write_file(_place(pool_dir, record.slot, ident), json.dumps(dict(secrets)).encode(), 0o600)
    _swap(register, full)
    for old in folder.glob(f"{record.slot}-*.json"):
        if old != _place(pool_dir, record.slot, ident):
            old.unlink(missing_ok=True)


def forget(register: Register, pool_dir: Path, slot: int) -> None:
    """The slot has no switch any more. Raises as `store` does."""
    store(register, pool_dir, PowerSwitch(slot, ""), {})


def _place(pool_dir: Path, slot: int, ident: str) -> Path:
    if ident and not _ID.match(ident):
        raise StorageTrouble(f"the power switch of slot {slot} names no file of its secrets")
    return pool_dir / FOLDER / f"{slot}-{ident}.json"


def _swap(register: Register, record: PowerSwitch) -> None:
    name, value = f"power/{record.slot}", power_to(record)
    for _ in range(TRIES):
        version, before = register.read(name)
        if before == value:
            return
        if register.swap(name, version, value).outcome is Outcome.OK:
            return
        time.sleep(PAUSE_S)  # a conflict, or not known: the newest one tells
    raise Conflict(
        f"others change the power switch of slot {record.slot} all the time, or the storage does "
        "not say what it wrote", hint="try again in a moment",
    )  # fmt: skip
