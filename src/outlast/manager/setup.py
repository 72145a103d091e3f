"""How this manager is set up: what is set, and where; what may be changed at once; does it work.

Rules:
1. manager.json is read once, when the manager starts. What may be changed at once lies in the
   database, goes before the file, and counts for all managers: how long things are kept.
2. No secret is told, and no address of a database with its password.
3. Trying something asks the service outside as the real thing would, and tells its answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from outlast.errors import Conflict, NotFound, OutlastError
from outlast.manager.config import DAYS, Config, Place, fingerprint, valid_until_s
from outlast.manager.mail import is_address
from outlast.manager.outside import Part, secret_of
from outlast.manager.repository import records, retention
from outlast.manager.repository.records import AuditRow
from outlast.manager.repository.store import Repository
from outlast.manager.service import Manager
from outlast.manager.webhooks import deliver, made_up, new_hook
from outlast.wire.shapes import BadField

DEFAULT, FILE, DATABASE = "default", "manager.json", "database"
SOON_S = 30 * 86400.0
SAID = {
    "listen": "address and port for https",
    "database": "where people, history and audit are kept",
    "certificate": "of a CA of your own",
    "key": "of that certificate",
    "events_days": "events are kept",
    "tasks_days": "ended tasks are kept",
    "metrics_days": "metrics are kept, at most",
    "second_factor": "who needs a second factor",
    "outside_days": "tokens of people from elsewhere rest after",
    "ldap": "a directory of people",
    "oidc": "a provider of sign-in",
    "mail": "the server that takes mail",
}


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    value: str  # "" = nothing is set
    where: str  # default | manager.json | database
    said: str
    live: bool  # may be changed here


@dataclass(frozen=True, slots=True)
class Certificate:
    """One that this manager shows to others."""

    to: str  # "browsers and programs", or the name of a pool
    file: str
    until_wall_s: float  # 0 = it cannot be read
    fingerprint: str
    trouble: str  # "" = it is good for a while


async def settings(repository: Repository, config: Config) -> list[Setting]:
    """Raises StorageTrouble."""
    said, given = await repository.read(retention.said), config.model_fields_set
    found = []
    for name, what in SAID.items():
        where = DATABASE if name in said else FILE if name in given else DEFAULT
        value = str(said[name]) if name in said else _text(name, config, repository)
        found.append(Setting(name, value, where, what, name in DAYS))
    return found


def _text(name: str, config: Config, repository: Repository) -> str:
    value = getattr(config, name)
    if name == "database":
        return repository.where
    if isinstance(value, Part):
        return ", ".join(f"{key} {_short(one)}" for key, one in value if one not in ("", ()))
    return str(value or "")


def _short(value: object) -> str:
    if isinstance(value, tuple):
        rules = bool(value) and isinstance(value[0], Part)
        return f"{len(value)} rules" if rules else " ".join(map(str, value))
    return str(value)


async def change(
    repository: Repository, who: str, address: str, days: Mapping[str, int | None]
) -> None:  # fmt: skip
    """How long things are kept; None = as manager.json says. Raises BadField, StorageTrouble."""
    for name, value in days.items():
        most = 732 if name == "metrics_days" else 3660
        if value is not None and not 1 <= value <= most:
            raise BadField(f"{name}: not between 1 and {most} days", field=name)

    def say(c: Connection) -> None:
        before = retention.said(c)
        after = {k: v for k, v in {**before, **days}.items() if v is not None}
        if after != before:
            retention.say(c, after)
            line = AuditRow(time.time(), who, address, "settings", "retention", True, "",
                            str(before), str(after))  # fmt: skip
            records.add_audit(c, line)

    await repository.write(say)


# ---- does it work


async def try_out(manager: Manager, what: str, to: str = "", name: str = "") -> str:
    """What came of it, in a sentence. what: mail | oidc | ldap.

    to: an address to send a mail to; name: somebody to look for in the directory.
    Raises what is wrong, Conflict when it is not set up, NotFound.
    """
    config = manager.config
    if what not in ("mail", "oidc", "ldap"):
        raise NotFound(f"there is no {what[:40]!r} to try", hint="mail, oidc or ldap")
    if getattr(config, what) is None:
        raise Conflict(f"{SAID[what]} is not set up", hint=f"see {what} in manager.json")
    if what == "mail":
        if not is_address(f"mailto:{to}"):
            raise BadField(f"{to[:80]!r} is no address to send to", field="to", hint="name@host")
        due = made_up(new_hook(f"mailto:{to}", (), time.time()))
        status, sentence = await asyncio.to_thread(deliver, due, config.mail, time.time())
        if not 200 <= status < 300:
            raise Conflict(sentence, hint="see mail in manager.json")
        return f"{sentence}: look for it at {to}"
    if what == "oidc":
        assert manager.provider is not None and config.oidc is not None
        secret_of(config.oidc.client_secret_file)
        await manager.provider.begin()
        return f"{config.oidc.issuer} answers, and its certificate is good"
    directory = manager.directory
    assert directory is not None
    if not directory.looks:
        raise Conflict("without a reader nobody can be looked for", hint="sign in to try it")
    found = await directory.look(name)
    if found is None:
        return f"the directory answers; it knows nobody named {name[:80]!r}"
    roles = ", ".join(grant.role for grant in found.roles) or "no role: may not come in"
    return f"the directory answers; {found.name} has {roles}"


# ---- certificates


async def certificates(manager: Manager) -> list[Certificate]:
    return await asyncio.to_thread(_certificates, manager.place, manager.config,
                                   [(e.id, e.name) for e in manager.reads.pools()])  # fmt: skip


def _certificates(
    place: Place, config: Config, pools: list[tuple[str, str]]
) -> list[Certificate]:  # fmt: skip
    try:
        found = [_certificate("browsers and programs", place.tls(config)[0])]
    except OutlastError as error:
        found = [Certificate("browsers and programs", "", 0, "", error.sentence)]
    for pool_id, name in pools:
        found.append(_certificate(f"the hosts of {name}", place.pool_pki(pool_id) / "cert.pem"))
    return found


def _certificate(to: str, file: Path) -> Certificate:
    try:
        until_s, print_ = valid_until_s(file), fingerprint(file)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "it is no certificate"
        return Certificate(to, str(file), 0, "", f"it cannot be read: {said}")
    left_s = until_s - time.time()
    trouble = "" if left_s > SOON_S else "it ends soon" if left_s > 0 else "it has ended"
    return Certificate(to, str(file), until_s, print_, trouble)
