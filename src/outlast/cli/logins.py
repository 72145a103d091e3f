"""Where the command line is logged in: one manager, kept in a file of this user's alone.

Rules:
1. The file, $XDG_CONFIG_HOME/outlast/login.json, is born with mode 0600.
2. Its token goes to the manager that it is of, and to no other that an option names.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from outlast.errors import InvalidInput

if TYPE_CHECKING:
    from outlast.wire.manager_client import ManagerPlace


@dataclass(frozen=True, slots=True)
class Login:
    manager: str  # https://manager.example:7792/POOL
    who: str
    token: str = field(repr=False)
    token_id: str = ""  # "" = it was not made for this login, and stays when that ends
    trust: str = field(default="", repr=False)  # PEM; "" = what this machine trusts

    def place(self) -> ManagerPlace:
        from outlast.wire.manager_client import parse_manager

        return replace(parse_manager(self.manager), token=self.token, trust=self.trust)


def path() -> Path:
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "outlast" / "login.json"


def read() -> Login | None:
    """None: nobody is logged in. Raises InvalidInput for a file that is none."""
    try:
        return Login(**json.loads(path().read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(
            f"{path()} cannot be read: {error}", hint="outlast login again"
        ) from None


def write(login: Login) -> None:
    """Raises StorageTrouble."""
    from outlast.wire.files import trouble, write_file

    try:
        path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise trouble(error) from error
    value = {name: getattr(login, name) for name in Login.__slots__}
    write_file(path(), json.dumps(value, indent=1).encode(), 0o600)


def remove() -> None:
    path().unlink(missing_ok=True)


def place_of(text: str) -> ManagerPlace | None:
    """The manager that an option names, or else the login; None: neither.

    text: https://manager.example:7792/POOL, or a pool of the manager where one is logged in.
    Raises InvalidInput.
    """
    from outlast.wire.manager_client import parse_manager

    login = read()
    if not text:
        return login.place() if login else None
    if "://" not in text and login is not None:
        return replace(login.place(), pool=text)
    named = parse_manager(text)
    if login is None or (known := login.place()).url != named.url:
        return named  # rule 2
    return replace(known, pool=named.pool or known.pool)
