"""`outlast manager ...`: set up, run and look after a management server on this machine.

The only file of the command line that uses the manager's room; it imports it inside its functions,
so that hosts without the manager's packages have all other commands.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from outlast.cli.context import options, print_json, say
from outlast.errors import InvalidInput, NotFound, OutlastError

if TYPE_CHECKING:
    from outlast.manager.accounts import Accounts
    from outlast.manager.config import Config, Place
    from outlast.manager.ports import Grant
    from outlast.manager.repository.store import Repository

T = TypeVar("T")
HERE = "root"  # who did it, in the audit: somebody who may write the manager's files

app = typer.Typer(no_args_is_help=True, help="A management server for many pools.")
user_app = typer.Typer(no_args_is_help=True, help="Users of this manager.")
token_app = typer.Typer(no_args_is_help=True, help="Tokens for programs.")
app.add_typer(user_app, name="user")
app.add_typer(token_app, name="token")

Roles = Annotated[
    list[str],
    typer.Option("--role", metavar="ROLE[@POOL[/VM]]", help="admin, operator, viewer or own."),
]


@app.command()
def init(
    ctx: typer.Context,
    listen: Annotated[str, typer.Option(help="Address and port for https.")] = "0.0.0.0:7792",
    database: Annotated[
        str, typer.Option(help="postgresql://user@host/name for several managers.")
    ] = "",
    name: Annotated[
        list[str] | None, typer.Option(help="Name or IP address in the certificate.")
    ] = None,
    certificate: Annotated[str, typer.Option(help="PEM file of your own CA's certificate.")] = "",
    key: Annotated[str, typer.Option(help="And its key.")] = "",
) -> None:
    """Write manager.json, make a certificate and the database, and show the one-time code.

    \b
    Again: keeps what is there, and gives a new code while nobody is set up.
    Examples:
      outlast manager init --name manager.example
      outlast manager init --database postgresql://outlast@db.example/outlast
    """
    from outlast.manager.config import Config, fingerprint, make_certificate, split_address
    from outlast.wire.shapes import make

    place = _place()
    split_address(listen)
    if place.file.exists():
        config = place.config()
    else:
        wished = {"listen": listen, "database": database, "certificate": certificate, "key": key}
        config = make(Config, **wished)
        place.write(config)
    if not config.certificate and not (place.var / "tls" / "cert.pem").exists():
        names = [*(name or []), socket.gethostname(), "localhost", "127.0.0.1"]
        make_certificate(place.var / "tls", names)
    cert, _ = place.tls(config)

    async def set_up(accounts: Accounts) -> str:
        return await accounts.new_code() if await accounts.first_start() else ""

    code = _with_accounts(place, config, set_up)
    if code:
        place.write_setup_code(code)
    if options(ctx).json:
        print_json({"config": str(place.file), "fingerprint": fingerprint(cert), "code": code})
        return
    say(f"set up in {place.file}; it listens on {config.listen}")
    say(f"SHA-256 of its certificate: {fingerprint(cert)}")
    if code:
        say(f"the one-time code for the first administrator: {code}")
        say(f"(also in {place.setup_code})")
    say("next: outlast manager add-pool, then outlast manager run")


@app.command()
def run() -> None:
    """Run the manager in the foreground until SIGTERM or Ctrl-C.

    \b
    Pools go on without it. Its log goes to stderr.
    """
    from outlast.manager.serve import serve

    logging.basicConfig(
        level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    place = _place()

    def ready(address: str) -> None:
        logging.getLogger("outlast.manager").info("listening on %s", address)

    asyncio.run(serve(place, place.config(), ready=ready))


@app.command("add-pool")
def add_pool(
    ctx: typer.Context,
    agents: Annotated[list[str], typer.Argument(metavar="https://HOST:7791...")],
    pki: Annotated[
        Path, typer.Option(help="Folder with ca.pem, cert.pem and cert.key for this manager.")
    ],
) -> None:
    """Follow a pool, through any of its agents; asks one of them first.

    \b
    Example, the certificate made on a host of the pool:
      outlast pool certificate manager1 --role manager --pool /srv/pool --out ./pki
      outlast manager add-pool https://10.0.0.5:7791 --pki ./pki
    """
    from outlast.manager.repository import records
    from outlast.wire.client import AgentClient
    from outlast.wire.files import write_file

    status, trouble = None, None
    for agent in agents:
        try:
            status = AgentClient(agent, pki=pki).status()
            break
        except OutlastError as error:
            trouble = error
    if status is None:
        raise trouble or InvalidInput("no agent was named")
    place = _place()
    config, target = place.config(), place.pool_pki(status.uuid)
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file, mode in (("cert.key", 0o600), ("cert.pem", 0o644), ("ca.pem", 0o644)):
            write_file(target / file, (pki / file).read_bytes(), mode)
        if (pki / "crl.pem").exists():
            write_file(target / "crl.pem", (pki / "crl.pem").read_bytes(), 0o644)
    except OSError as error:
        raise InvalidInput(f"the certificate cannot be copied: {error}") from error
    repository = _repository(place, config)
    found, wall_s = status, time.time()
    repository.write_now(lambda c: records.put_pool(c, found.uuid, found.name, agents, wall_s))
    repository.close()
    if options(ctx).json:
        print_json({"id": found.uuid, "name": found.name})
    else:
        say(f"pool {found.name} ({found.uuid}) is followed from now on")


@app.command("remove-pool")
def remove_pool(pool_id: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Follow a pool no more. Nothing changes in the pool."""
    from outlast.manager.repository import records

    place = _place()
    repository = _repository(place, place.config())
    gone = repository.write_now(lambda c: records.remove_pool(c, pool_id))
    repository.close()
    if not gone:
        raise NotFound(f"no pool {pool_id[:80]!r} is followed", hint="outlast manager pools")
    say("it is followed no more")


@app.command()
def pools(ctx: typer.Context) -> None:
    """The pools this manager follows."""
    from outlast.manager.repository import records

    place = _place()
    repository = _repository(place, place.config())
    found = repository.read_now(records.all_pools)
    repository.close()
    if options(ctx).json:
        print_json({"pools": [{"id": i, "name": n, "agents": list(a)} for i, n, a in found]})
        return
    for pool_id, name, agents in found:
        say(f"{pool_id}  {name}  {' '.join(agents)}")


# ---- users and tokens


@user_app.command("add")
def add_user(name: str, role: Roles) -> None:
    """Add a user; the password is asked for, or read from stdin when that is no terminal."""
    from outlast.manager.ports import Person

    password, roles = _password(), _grants(role)
    _accounts(lambda a: a.add_user(Person(HERE, ()), name, password, roles))
    say(f"{name} is added")


@user_app.command("list")
def list_users(ctx: typer.Context) -> None:
    """All users with their roles."""
    found = _accounts(lambda a: a.users())
    if options(ctx).json:
        print_json({"users": [{"name": u.name, "disabled": u.disabled,
                               "roles": [_word(g) for g in u.grants]} for u in found]})  # fmt: skip
        return
    for user in found:
        off = "  (switched off)" if user.disabled else ""
        say(f"{user.name}  {', '.join(_word(g) for g in user.grants)}{off}")


@user_app.command("password")
def new_password(name: str) -> None:
    """A new password; all sessions of that user end."""
    from outlast.manager.ports import Person

    password = _password()
    _accounts(lambda a: a.change_user(Person(HERE, ()), name, password=password))
    say(f"{name} has a new password")


@user_app.command("roles")
def new_roles(name: str, role: Roles) -> None:
    """Give a user these roles, and no others."""
    from outlast.manager.ports import Person

    roles = _grants(role)
    _accounts(lambda a: a.change_user(Person(HERE, ()), name, roles=roles))
    say(f"{name}: {', '.join(role)}")


@user_app.command("remove")
def remove_user(name: str) -> None:
    """Remove a user with all tokens and sessions."""
    from outlast.manager.ports import Person

    _accounts(lambda a: a.remove_user(Person(HERE, ()), name))
    say(f"{name} is removed")


@token_app.command("add")
def add_token(
    ctx: typer.Context, owner: str, name: str, role: Roles,
    days: Annotated[float, typer.Option(help="How long it is good.")] = 365,
) -> None:  # fmt: skip
    """Make a token that may no more than its owner. It is shown this once."""
    from outlast.manager.ports import Person

    roles = _grants(role)
    token, row = _accounts(lambda a: a.add_token(Person(HERE, ()), owner, name, roles, days))
    if options(ctx).json:
        print_json({"id": row.id, "token": token, "expires_wall_s": row.expires_wall_s})
    else:
        print(token)


@token_app.command("list")
def list_tokens(ctx: typer.Context) -> None:
    """All tokens; what they are is not known to anybody any more."""
    found = _accounts(lambda a: a.tokens())
    if options(ctx).json:
        rows = [{"id": t.id, "name": t.name, "owner": t.owner, "expires_wall_s": t.expires_wall_s,
                 "roles": [_word(g) for g in t.grants]} for t in found]  # fmt: skip
        print_json({"tokens": rows})
        return
    for token in found:
        until = time.strftime("%Y-%m-%d", time.localtime(token.expires_wall_s))
        roles = ", ".join(_word(g) for g in token.grants)
        say(f"{token.id}  {token.owner}/{token.name}  until {until}  {roles}")


@token_app.command("remove")
def remove_token(token_id: str) -> None:
    """Take a token away, by its id."""
    from outlast.manager.ports import Person

    _accounts(lambda a: a.remove_token(Person(HERE, ()), token_id))
    say("it is removed")


# ---- inside


def _place() -> Place:
    """Raises NotFound when the manager's packages are not installed."""
    try:
        from outlast.manager.config import Place
        from outlast.manager.repository import store  # noqa: F401
    except ImportError as error:
        raise NotFound(
            f"the manager is not installed here: {error.name} is missing",
            hint="install outlast[manager]",
        ) from None
    return Place.of_environment()


def _repository(place: Place, config: Config) -> Repository:
    from outlast.manager.repository.store import Repository

    repository = Repository(place.database(config))
    repository.migrate()
    return repository


def _with_accounts(
    place: Place, config: Config, work: Callable[[Accounts], Coroutine[Any, Any, T]]
) -> T:
    from outlast.manager.accounts import Accounts

    repository = _repository(place, config)
    accounts = Accounts(repository)
    try:
        return asyncio.run(work(accounts))
    finally:
        accounts.close()
        repository.close()


def _accounts(work: Callable[[Accounts], Coroutine[Any, Any, T]]) -> T:
    place = _place()
    return _with_accounts(place, place.config(), work)


def _password() -> str:
    """Never from argv: that is in everybody's list of processes."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt("password", hide_input=True, confirmation_prompt=True))


def _grants(words: list[str]) -> tuple[Grant, ...]:
    """operator@POOL/VM and the like. Raises InvalidInput."""
    from outlast.manager.ports import Grant
    from outlast.manager.rights import check

    found = []
    for word in words:
        role, _, where = word.partition("@")
        pool_id, _, vm = where.partition("/")
        found.append(check(Grant(role, pool_id, vm)))
    return tuple(found)


def _word(grant: Grant) -> str:
    where = f"{grant.pool_id}/{grant.vm}".rstrip("/")
    return f"{grant.role}@{where}" if where else grant.role
