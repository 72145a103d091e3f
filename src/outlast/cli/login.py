"""`outlast login` and `outlast logout`: the command line of a person, through a manager."""

from __future__ import annotations

import re
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from outlast.cli import logins
from outlast.cli.context import options, print_json, say, typed, warn
from outlast.errors import InvalidInput, OutlastError, Refused

DAYS = 30


def login(
    ctx: typer.Context,
    manager: Annotated[str, typer.Argument(metavar="URL/POOL", help="https://MANAGER:7792/POOL.")],
    ca: Annotated[
        Path | None, typer.Option("--ca", help="The manager's certificate, or its authority's.")
    ] = None,
    user: Annotated[str, typer.Option("--user", "-u", help="Your name there.")] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(help="A token of yours in place of name and password; - is stdin."),
    ] = None,
    days: Annotated[float, typer.Option(min=0.01, max=365, help="The login ends then.")] = DAYS,
) -> None:
    """Let this command line speak to a pool through a manager, as you.

    From then on `outlast vm list` and the like go there, on a machine that is no host of a pool.
    Your roles count, and your name stands in the audit. What the manager does not pass on says so.

    \b
    Examples:
      outlast login https://manager.example:7792/lab
      outlast --manager berlin vm list                    another pool of the same manager
      outlast --agent https://10.0.0.5:7791 vm list       without it, with a pool's certificate
    """
    from outlast.wire import manager_login
    from outlast.wire.manager_client import parse_manager

    place = replace(parse_manager(manager), trust=_file(ca) if ca else "")
    if not ca and not manager_login.known_here(place):
        place = replace(place, trust=_shown(manager_login.presented(place), place.url))
    token_id = ""
    if token_file is not None:
        place = replace(place, token=_file(token_file).strip())
    else:
        name = user or typed("Your name")
        password = typed("Password", hide=True)
        place, token_id = manager_login.token(
            place, name, password, lambda: typed("Code of your app"), _label(), days
        )
    who, found = manager_login.who(place), manager_login.pools(place)
    if not place.pool and len(found) == 1:
        place = replace(place, pool=found[0])
    address = f"{place.url}/{place.pool}"
    logins.write(logins.Login(address, who, place.token, token_id, place.trust))
    if options(ctx).json:
        print_json({"manager": place.url, "pool": place.pool, "who": who, "pools": found})
        return
    say(f"logged in at {place.url} as {who}")
    if place.pool:
        say(f"commands go to the pool {place.pool}; another one: --manager POOL")
    elif found:
        say(f"which pool? --manager POOL, or OUTLAST_MANAGER: {', '.join(found)}")


def logout(ctx: typer.Context) -> None:
    """End the login: the token that was made for it counts no more."""
    from outlast.wire import manager_login

    known = logins.read()
    if known is None:
        say("nobody is logged in")
        return
    try:
        if known.token_id:
            manager_login.forget(known.place(), known.token_id)
    except OutlastError as error:
        warn(f"the manager could not be told: {error.sentence}")
        warn(f"   the token is '{known.token_id}' there; an administrator can take it back")
    logins.remove()
    say(f"logged out of {known.place().url}")


def _label() -> str:
    """What the token is called among the person's: by where it is used."""
    return "cli@" + re.sub("[^a-z0-9.-]", "-", socket.gethostname().lower())


def _shown(pem: str, url: str) -> str:
    """Asks whether a certificate that nobody vouches for is the right one. Raises Refused."""
    from outlast.wire.manager_login import fingerprint

    warn(f"{url} shows a certificate that this machine does not know:")
    warn(f"   SHA-256 {fingerprint(pem)}")
    if not sys.stdin.isatty() or not typer.confirm("Is it the manager's?", err=True):
        raise Refused(
            "the manager's certificate is not trusted",
            hint="--ca FILE, with /etc/outlast/manager/cert.pem of the manager",
        )
    return pem


def _file(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", hint="a text file") from None
