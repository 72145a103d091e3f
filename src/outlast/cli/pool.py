"""`outlast pool ...`: making a pool, its history, certificates for people."""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.context import Options, options, parse_span, print_json, say
from outlast.cli.etcd import PKI, Pki, Urls, access_of
from outlast.cli.form import one_of_many
from outlast.errors import InvalidInput, NotFound, StorageTrouble
from outlast.settings import DEFAULT_PRESET, S, preset
from outlast.storage.beneath import check_outlasts
from outlast.storage.names import check_name

if TYPE_CHECKING:
    from outlast.wire.shapes import TimelineEntry

WATCHDOGS = ("off", "automatic", "required")

SERIAL_DIGITS = 8  # of its end: fewer may be the name of a host

app = typer.Typer(no_args_is_help=True, help="Make a pool and read its history.")

FOLLOW_S = 1.0
FOLLOW_BACK_S = 10.0  # hosts' clocks differ: an entry may appear behind a newer one


@app.command()
def init(
    ctx: typer.Context,
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="On shared storage, mounted here; with --etcd of this host alone."
        ),
    ],
    name: Annotated[str, typer.Option(help="The pool's name: a-z, 0-9 and -.")],
    timing: Annotated[
        str,
        typer.Option(
            "--preset",
            help="How soon a silent host counts as dead: quick, standard, tolerant, patient.",
        ),
    ] = "",
    lab: Annotated[
        bool,
        typer.Option(
            "--lab", help="Emulated hosts on one machine: fast, no watchdog unless it is asked for."
        ),
    ] = False,
    watchdog: Annotated[
        str, typer.Option(help="Whether hosts use theirs: off, automatic, required.")
    ] = "",
    open_join: Annotated[
        bool, typer.Option("--open-join", help="Hosts join without a token.")
    ] = False,
    local: Annotated[
        bool, typer.Option("--local", help="DIR is on this machine's own disk: a pool of one host.")
    ] = False,
    etcd: Urls = None,
    etcd_pki: Pki = PKI,
) -> None:
    """Make a pool in DIR: its registers, heartbeat area, secret and certificate authority.

    \b
    Examples:
      outlast pool init /srv/pool --name prod
      outlast pool init /srv/pool --name prod --preset tolerant
      outlast pool init /var/lib/outlast/pool --name prod --etcd https://10.0.0.1:2379 \\
        --etcd https://10.0.0.2:2379 --etcd https://10.0.0.3:2379
    """
    from outlast.storage.etcd_pool import create_on_etcd
    from outlast.storage.layout import create_pool, new_settings

    chosen = options(ctx)
    check_name(name, "pool name")
    if lab and timing not in {"", "lab"}:
        raise InvalidInput("--lab has a timing of its own", hint="leave --preset out")
    if watchdog and watchdog not in WATCHDOGS:
        raise InvalidInput(f"--watchdog {watchdog}?", hint="one of: " + ", ".join(WATCHDOGS))
    if timing == "lab" and not lab:
        raise InvalidInput(
            "the preset 'lab' is for emulated hosts on one machine only", hint="say --lab for that"
        )
    times = preset("lab" if lab else timing or DEFAULT_PRESET)
    directory = directory.absolute()
    watchdog = watchdog or ("off" if lab else "automatic")
    may_join = "anyone" if lab or open_join else "token"

    def furnish(root: Path) -> None:
        _furnish(root / "pki", name)

    if etcd:
        settings = new_settings(name, times, lab=lab, watchdog=watchdog, join=may_join)
        made = create_on_etcd(directory, access_of(etcd, etcd_pki), settings, furnish)
    else:
        _check_mounted(directory, own_disk_is_fine=lab or local)
        check_outlasts(directory, times.fence_ns)
        made = create_pool(
            directory, name, times, lab=lab, watchdog=watchdog, join=may_join, furnish=furnish
        )
    if chosen.json:
        print_json({"pool": name, "uuid": made.uuid, "dir": str(directory),
                    "preset": times.preset})  # fmt: skip
        return
    say(
        f"pool {name} is made in {directory}; a silent host counts as dead after "
        f"{times.dead_ns / S:g} s ({times.preset})"
    )
    there = "".join(f" --etcd {url}" for url in etcd or ())
    say(f"now, on every host: outlast host join {directory}{there}")
    if not (lab or open_join):
        say("from the second one on it asks for a token: 'outlast host token' on the first")


@app.command()
def timeline(
    ctx: typer.Context,
    since: Annotated[str, typer.Option(help="Only what is younger: 30m, 1h, 2d.")] = "1h",
    limit: Annotated[int, typer.Option(help="At most so many, the newest.")] = 200,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """What happened in the pool and why, told by all hosts, oldest first.

    \b
    Examples:
      outlast pool timeline --since 2h
      outlast pool timeline --follow
    """
    chosen = options(ctx)
    if limit < 1:
        raise InvalidInput(f"a limit of {limit} shows nothing", hint="at least 1")
    client = chosen.client()
    entries = client.timeline(time.time() - parse_span(since), limit)
    if not follow:
        _print_entries(chosen, entries)
        return
    seen: set[str] = set()
    newest_s = time.time()
    while True:
        fresh = [e for e in entries if e.model_dump_json() not in seen]
        seen = {e.model_dump_json() for e in entries}
        for entry in fresh:
            newest_s = max(newest_s, entry.wall_s)
            _print_line(chosen, entry)
        time.sleep(FOLLOW_S)
        entries = client.timeline(newest_s - FOLLOW_BACK_S, 5000)


@app.command()
def certificate(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="For whom: a-z, 0-9 and -.")],
    pool_dir: Annotated[Path, typer.Option("--pool", metavar="DIR", help="The pool's directory.")],
    out: Annotated[Path, typer.Option(help="Folder for ca.pem, cert.pem and cert.key.")],
    role: Annotated[
        str, typer.Option(help="admin; manager: a management server; monitor: reads metrics only.")
    ] = "admin",
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|IP", help="It may serve as this: for a manager. Repeat."),
    ] = None,
) -> None:
    """A certificate to speak to agents from another machine.

    \b
    Examples:
      outlast pool certificate anna --pool /srv/pool --out ~/outlast/pki
      OUTLAST_ETC=~/outlast outlast --agent https://10.0.0.5:7791 status
      outlast pool certificate prometheus --role monitor --pool /srv/pool --out ./pki
      outlast pool certificate m1 --role manager --at m1.example --pool /srv/pool --out ./pki
    """
    from outlast.storage.etcd_folder import shared
    from outlast.wire.seal import PEOPLE, install, issue_host

    chosen = options(ctx)
    check_name(name, "name")
    if role not in PEOPLE:
        hint = "one of: " + ", ".join(PEOPLE)
        raise InvalidInput(f"there is no role '{role}' for people and programs", hint=hint)
    authority = _authority(pool_dir)
    if (out / "cert.key").exists():
        raise InvalidInput(f"{out} holds a certificate already", hint="choose another folder")
    with shared(pool_dir):
        key, cert = issue_host(authority, name, str(uuid.uuid4()), (), role, names=at or ())
    install(out, authority, key, cert)
    if chosen.json:
        print_json({"name": name, "role": role, "dir": str(out)})
    else:
        say(f"the certificate of {name} ({role}) is in {out}; keep cert.key to yourself")


@app.command()
def ha(
    ctx: typer.Context,
    state: Annotated[str, typer.Argument(metavar="on|off", help="What it shall be.")],
    why: Annotated[str, typer.Option(help="Shown wherever the pool is.")] = "",
    span: Annotated[
        str, typer.Option("--for", metavar="SPAN", help="On again after 30m, 2h, 1d.")
    ] = "",
) -> None:
    """Switch restarts after failures off for all VMs, or on again.

    \b
    Example, before work on the storage:
      outlast pool ha off --why "new switches" --for 2h
    """
    from outlast.cli.context import ha_switch

    chosen = options(ctx)
    done = chosen.client().pool_ha(ha_switch(state, why, span))
    if chosen.json:
        print_json(done)
    else:
        say(done.sentence)


@app.command()
def certificates(
    ctx: typer.Context,
    pool_dir: Annotated[Path, typer.Option("--pool", metavar="DIR", help="The pool's directory.")],
) -> None:
    """All certificates of the pool: for whom, until when, revoked or not."""
    from outlast.storage.etcd_folder import shared
    from outlast.wire.revocation import issued

    chosen = options(ctx)
    with shared(pool_dir):
        found = issued(_authority(pool_dir))
    if chosen.json:
        print_json({"certificates": [asdict(one) for one in found]})
        return
    for one in found:
        until = time.strftime("%Y-%m-%d", time.localtime(one.not_after_wall_s))
        state = "revoked" if one.revoked else f"good until {until}"
        say(f"{one.serial[-16:]}  {one.role:8} {one.name:20} {state}")


@app.command()
def revoke(
    ctx: typer.Context,
    names: Annotated[
        list[str], typer.Argument(help="Hosts, people, or serials (8 digits at least).")
    ],
    pool_dir: Annotated[Path, typer.Option("--pool", metavar="DIR", help="The pool's directory.")],
    but_newest: Annotated[
        bool, typer.Option("--but-newest", help="Keep the newest of each name and role.")
    ] = False,
) -> None:
    """Have every host refuse certificates from now on, for good.

    \b
    Examples:
      outlast pool revoke anna --pool /srv/pool
      outlast pool revoke b --pool /srv/pool --but-newest
    """
    from outlast.storage.etcd_folder import shared
    from outlast.wire.revocation import issued
    from outlast.wire.seal import revoke as revoke_all

    chosen = options(ctx)
    with shared(pool_dir):
        authority = _authority(pool_dir)
        known = issued(authority)
        full = {
            one.serial
            for one in known
            for name in names
            if len(name) >= SERIAL_DIGITS and one.serial.endswith(name)
        }
        wanted = {one.serial for one in known if one.name in names} | full
        if but_newest:
            wanted -= {one.serial for one in {(o.name, o.role): o for o in known}.values()}
        if not wanted:
            raise NotFound(f"there is nothing of {', '.join(names)} to revoke",
                           hint=f"outlast pool certificates --pool {pool_dir}")  # fmt: skip
        done = revoke_all(authority, wanted)
    if chosen.json:
        print_json({"revoked": [asdict(one) for one in done]})
        return
    for one in done:
        say(f"revoked: {one.role} {one.name}, serial {one.serial[-16:]}")
    say("every host takes this over within seconds; open connections last until they end")


def _authority(pool_dir: Path) -> Path:
    authority = pool_dir / "pki"
    if not (authority / "ca.pem").exists():
        raise NotFound(f"there is no pool in {pool_dir}", hint="is its storage mounted here?")
    return authority


def _furnish(folder: Path, name: str) -> None:
    """The pool's certificate authority, before the pool is born."""
    from outlast.wire.seal import create_authority

    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise StorageTrouble(f"{folder}: {error.strerror}", hint="is the storage full?") from error
    create_authority(folder, name)


def _check_mounted(directory: Path, *, own_disk_is_fine: bool) -> None:
    """Refuse the machine's own disk where shared storage was meant."""
    if own_disk_is_fine or not directory.is_dir():
        return
    if directory.stat().st_dev != Path("/").stat().st_dev:
        return
    raise InvalidInput(
        f"{directory} is on this machine's own disk: no shared storage is mounted there",
        hint="mount it first; for a pool of one host say --local",
    )


def _print_entries(chosen: Options, entries: list[TimelineEntry]) -> None:
    if chosen.json:
        print_json(entries)
        return
    for entry in entries:
        _print_line(chosen, entry)


def _print_line(chosen: Options, entry: TimelineEntry) -> None:
    from outlast.cli.render import entry_line

    said = one_of_many(entry.model_dump(mode="json")) if chosen.json else entry_line(entry)
    say(said)
