"""`outlast storage ...`: mounts shared storage, and looks at a pool on it without an agent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli import mounting, ocfs2
from outlast.cli.context import options, print_json, say
from outlast.cli.etcd import PKI, Pki, Urls, access_of
from outlast.errors import InvalidInput, NotFound, StorageTrouble

if TYPE_CHECKING:
    from outlast.storage.etcd_access import Access

app = typer.Typer(no_args_is_help=True, help="Mount shared storage, and look at a pool's.")

app.command()(mounting.mount)
app.command()(mounting.unmount)
app.command()(mounting.add)
app.command("list")(mounting.list_)
app.command()(mounting.remove)
app.command()(ocfs2.ocfs2)


def pool_dir_here() -> Path:
    """The directory of the pool that this host has joined. Raises NotFound."""
    path = Path(os.environ.get("OUTLAST_ETC", "/etc/outlast")) / "host.json"
    try:
        return Path(str(json.loads(path.read_bytes())["pool_dir"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise NotFound(
            "this host is in no pool, so the directory must be said",
            hint="outlast storage dump DIR",
        ) from None


@app.command()
def orphans(
    ctx: typer.Context,
    remove: Annotated[
        str, typer.Option(metavar="NAME", help="Delete this one, as it is called in the list.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Disks on the pool's storage that no VM names, the largest first; asks the agent.

    Only files right in `images` and in repositories, unchanged for an hour.

    \b
    Examples:
      outlast storage orphans
      outlast storage orphans --remove old-web.raw
    """
    from outlast.cli import maintaining
    from outlast.wire.equipment import EquipmentClient
    from outlast.wire.sizes import size_text

    chosen = options(ctx)
    client = EquipmentClient(chosen.client())
    if remove:
        maintaining.ask(chosen, [f"{remove} is deleted with all that is on it"],
                        f"Delete {remove}?", yes=yes)  # fmt: skip
        done = client.remove_orphan(remove)
        print_json(done) if chosen.json else say(done.sentence)
        return
    found = client.orphans()
    if chosen.json:
        print_json({"orphans": [one.model_dump() for one in found]})
        return
    for one in found:
        say(f"{one.name:<32} {size_text(one.size_bytes):>10}  {one.path}")
    if not found:
        say("every disk there belongs to a VM")


@app.command()
def dump(
    ctx: typer.Context,
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Default: the pool this host has joined.")
    ] = None,
) -> None:
    """All that a pool has on its storage, read without changing anything; damage is named.

    \b
    Exit code 5 when something is damaged. Examples:
      outlast storage dump
      outlast storage dump /srv/pool --json > for-a-bug-report.json
    """
    from outlast.storage import dump as dumps

    report = dumps.dump(directory or pool_dir_here())
    if options(ctx).json:
        print_json(dumps.dump_json(report))
    else:
        print(dumps.dump_text(report), end="", flush=True)
    if not report.sound:
        raise typer.Exit(StorageTrouble.exit_code)


@app.command()
def probe(
    ctx: typer.Context,
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="On the storage to be tested.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="More take longer and see more.")] = 200,
    hosts: Annotated[
        int,
        typer.Option(metavar="N", help="Together with others: run it on N hosts at the same time."),
    ] = 1,
    etcd: Urls = None,
    etcd_pki: Pki = PKI,
) -> None:
    """May this storage carry a pool's heartbeat, how fast is it, and which timing fits?

    \b
    On one host it asks the mount; with --hosts the hosts meet on the storage and see what one alone
    cannot: caches of names and data, and the load of all. It works in a hidden directory and
    removes it. Exit code 5: not usable. Examples:
      outlast storage probe /srv/pool
      outlast storage probe /srv/pool --hosts 2       the same on the second host
      outlast storage probe --etcd https://10.0.0.1:2379 --etcd https://10.0.0.2:2379
    """
    from outlast.cli.waiting import telling
    from outlast.storage import probe as probes
    from outlast.storage.etcd_probe import probe_etcd
    from outlast.storage.meeting import Together, together

    chosen = options(ctx)
    with telling(chosen.json) as tell:

        def progress(step: str, done: int, all_: int) -> None:
            tell(f"{step} ({done} of {all_})")

        access = access_of(etcd, etcd_pki) if etcd else _access_in(directory)
        if access is not None and hosts > 1:
            raise InvalidInput(
                "on etcd no hosts need to meet: its members do", hint="run it on each host alone"
            )
        if access is not None:
            met = Together(probe_etcd(access, rounds, progress), ())
        elif directory is None:
            raise InvalidInput("what is to be probed?", hint="a directory, or --etcd URL")
        elif hosts == 1:
            met = Together(probes.probe(directory, rounds, progress), ())
        else:
            met = together(directory, hosts, rounds, progress)
    report, names = met.report, met.hosts
    if chosen.json:
        print_json(probes.report_json(report) | {"hosts": list(names)})
    else:
        if names:
            print(f"Probed together by {', '.join(names)}.")
        print(probes.report_text(report), end="", flush=True)
    if not report.usable:
        raise typer.Exit(StorageTrouble.exit_code)


def _access_in(directory: Path | None) -> Access | None:
    """How the pool in this directory reaches its etcd; None when it is on a file system."""
    from outlast.storage.etcd_access import read_access

    return read_access(directory.absolute()) if directory else None
