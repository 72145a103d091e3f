"""Which names may stand on the pool's storage. Pure.

A name becomes part of a path, so everything that is not plainly harmless is refused.
"""

from __future__ import annotations

import re

from outlast.errors import InvalidInput

NAME_MAX = 63
SINGLES = frozenset({"view", "pool", "drill"})  # classes with one register each, without an id
CLASSES = (
    "view", "pool", "drill", "slot", "lease", "vm", "order", "fence", "power", "network",
    "repository", "schedule", "token", "report", "health",
)  # fmt: skip

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_CLASS = re.compile(r"[a-z]{1,16}\Z")


def check_name(name: str, what: str = "name") -> str:
    """The name itself, if it may be the name of a VM, host or pool.

    Raises InvalidInput; `what` says in its sentence whose name it is ("VM name").
    """
    if isinstance(name, str) and _NAME.match(name):
        return name
    raise InvalidInput(
        f"{str(name)[:80]!r} is not a usable {what}",
        hint=f"1 to {NAME_MAX} of a-z, 0-9 and '-', neither first nor last a '-'",
    )


def split_name(name: str) -> tuple[str, str]:
    """Class and id of a register name: "lease/web" -> ("lease", "web"), "view" -> ("view", "").

    Raises InvalidInput for anything else.
    """
    kind, slash, ident = name.partition("/")
    good = bool(_CLASS.match(kind)) and (
        not slash if kind in SINGLES else bool(slash and _NAME.match(ident))
    )
    if not good:
        raise InvalidInput(f"{name[:80]!r} is not a register name", hint="like view or lease/web")
    return kind, ident


def check_class(kind: str) -> str:
    """The class itself, if it may be one. Raises InvalidInput."""
    if not _CLASS.match(kind):
        raise InvalidInput(f"{kind[:80]!r} is not a class of registers")
    return kind
