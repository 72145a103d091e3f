"""`outlast manager ...`: set up, run and look after a management server on this machine.

People are in manager_people.py; how the manager's room is used, in manager_place.py.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.context import options, print_json, say
from outlast.cli.manager_people import HERE, factor_app, role_app, token_app, user_app
from outlast.cli.manager_place import find_place, opened, with_accounts
from outlast.errors import InvalidInput, NotFound, OutlastError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from outlast.manager.accounts import Accounts

app = typer.Typer(no_args_is_help=True, help="A management server for many pools.")
app.add_typer(user_app, name="user")
app.add_typer(role_app, name="role")
app.add_typer(token_app, name="token")
app.add_typer(factor_app, name="factor")


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
    pki: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Or serve with a certificate of a pool's CA: cert.pem "
                     "and cert.key, from 'outlast pool certificate NAME --role manager --at ...'."),
    ] = None,
) -> None:  # fmt: skip
    """Write manager.json, make a certificate and the database, and show the one-time code.

    \b
    Again: keeps what is there, and gives a new code while nobody is set up.
    Examples:
      outlast manager init --name manager.example
      outlast manager init --pki ./pki
      outlast manager init --database postgresql://outlast@db.example/outlast
    """
    from outlast.manager.config import Config, fingerprint, make_certificate, split_address
    from outlast.wire.shapes import make

    place = find_place()
    split_address(listen)
    if place.file.exists():
        config = place.config()
    else:
        wished = {"listen": listen, "database": database, "certificate": certificate, "key": key}
        config = make(Config, **wished)
        place.write(config)
    if pki is not None:
        if config.certificate:
            raise InvalidInput("--pki and a certificate of your own exclude each other",
                               hint=f"see certificate in {place.file}")  # fmt: skip
        _serve_with(pki, place.var / "tls")
    if not config.certificate and not (place.var / "tls" / "cert.pem").exists():
        names = [*(name or []), socket.gethostname(), "localhost", "127.0.0.1"]
        make_certificate(place.var / "tls", names)
    cert, _ = place.tls(config)

    async def set_up(accounts: Accounts) -> str:
        return await accounts.new_code() if await accounts.first_start() else ""

    code = with_accounts(place, config, set_up)
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


def _serve_with(pki: Path, tls: Path) -> None:
    """Copy certificate and key. Raises InvalidInput when they are none, StorageTrouble."""
    import ssl

    from outlast.wire.files import write_file

    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki / "cert.pem", pki / "cert.key")
        tls.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file, mode in (("cert.key", 0o600), ("cert.pem", 0o644)):
            write_file(tls / file, (pki / file).read_bytes(), mode)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"no certificate can be taken from {pki}: {error}",
                           hint="outlast pool certificate --help") from error  # fmt: skip


@app.command("settings")
def settings_(ctx: typer.Context) -> None:
    """What is set for this manager, and where."""
    from dataclasses import asdict

    from outlast.manager import setup

    place = find_place()
    config = place.config()
    with opened(place, config) as repository:
        found = asyncio.run(setup.settings(repository, config))
    if options(ctx).json:
        print_json({"settings": [asdict(one) for one in found]})
        return
    for one in found:
        say(f"{one.name:<14} {one.value or '-'}  ({one.where}): {one.said}")


@app.command("set")
def set_(
    events_days: Annotated[str, typer.Option(metavar="DAYS|default", help="The history.")] = "",
    tasks_days: Annotated[str, typer.Option(metavar="DAYS|default", help="Ended tasks.")] = "",
    metrics_days: Annotated[str, typer.Option(metavar="DAYS|default", help="Metrics.")] = "",
) -> None:
    """How long things are kept, for all managers of this database, while they run.

    \b
    Example:
      outlast manager set --events-days 365 --metrics-days default
    """
    from outlast.manager import setup

    said = {"events_days": events_days, "tasks_days": tasks_days, "metrics_days": metrics_days}
    days = {name: None if text == "default" else _days(text) for name, text in said.items() if text}
    if not days:
        raise InvalidInput("nothing is changed", hint="outlast manager set --help")
    place = find_place()
    with opened(place, place.config()) as repository:
        asyncio.run(setup.change(repository, HERE, "", days))
    say("it counts from now on")


def _days(text: str) -> int:
    """Raises InvalidInput."""
    if not text.isdigit() or len(text) > 6:
        raise InvalidInput(f"{text[:40]!r} is no number of days", hint="like 90, or default")
    return int(text)


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
    place = find_place()

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
    place = find_place()
    config, target = place.config(), place.pool_pki(status.uuid)
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file, mode in (("cert.key", 0o600), ("cert.pem", 0o644), ("ca.pem", 0o644)):
            write_file(target / file, (pki / file).read_bytes(), mode)
        if (pki / "crl.pem").exists():
            write_file(target / "crl.pem", (pki / "crl.pem").read_bytes(), 0o644)
    except OSError as error:
        raise InvalidInput(f"the certificate cannot be copied: {error}") from error
    found, wall_s = status, time.time()

    def put(c: Connection) -> None:
        was = {known: addresses for known, _, addresses in records.all_pools(c)}
        before, after = " ".join(was.get(found.uuid, ())), " ".join(agents)
        line = (wall_s, HERE, "", "pool-add", found.uuid, True, found.name, before, after)
        records.put_pool(c, found.uuid, found.name, agents, wall_s)
        records.add_audit(c, records.AuditRow(*line))

    with opened(place, config) as repository:
        repository.write_now(put)
    if options(ctx).json:
        print_json({"id": found.uuid, "name": found.name})
    else:
        say(f"pool {found.name} ({found.uuid}) is followed from now on")


@app.command("remove-pool")
def remove_pool(pool_id: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Follow a pool no more. Nothing changes in the pool."""
    from outlast.manager.repository import records

    place = find_place()

    def remove(c: Connection) -> bool:
        known = {row[0]: row for row in records.all_pools(c)}
        _, name, agents = known.get(pool_id, ("", "", ()))
        row = records.AuditRow(
            time.time(), HERE, "", "pool-remove", pool_id, True, name, before=" ".join(agents)
        )
        if gone := records.remove_pool(c, pool_id):
            records.add_audit(c, row)
        return gone

    with opened(place, place.config()) as repository:
        gone = repository.write_now(remove)
    if not gone:
        raise NotFound(f"no pool {pool_id[:80]!r} is followed", hint="outlast manager pools")
    say("it is followed no more")


@app.command()
def pools(ctx: typer.Context) -> None:
    """The pools this manager follows."""
    from outlast.manager.repository import records

    place = find_place()
    with opened(place, place.config()) as repository:
        found = repository.read_now(records.all_pools)
    if options(ctx).json:
        print_json({"pools": [{"id": i, "name": n, "agents": list(a)} for i, n, a in found]})
        return
    for pool_id, name, agents in found:
        say(f"{pool_id}  {name}  {' '.join(agents)}")
