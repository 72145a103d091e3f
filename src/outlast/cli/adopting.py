"""`outlast vm adopt`: VMs that a host's libvirt has already become VMs of the pool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.context import options, print_json, say, stdout
from outlast.cli.image import RATE, Limit, PoolDir, rate_of
from outlast.cli.pool_files import pool_dir_of
from outlast.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from outlast.images.pace import Progress
    from outlast.wire.disk_client import DiskClient
    from outlast.wire.disks import AdoptWish, ForeignDomain
    from outlast.wire.shapes import VmWish


def adopt(
    ctx: typer.Context,
    domain: Annotated[
        str, typer.Argument(metavar="[DOMAIN]", help="As virsh names it. Without: all are listed.")
    ] = "",
    as_: Annotated[
        str, typer.Option("--as", metavar="NAME", help="Of the VM. Default: the domain's.")
    ] = "",
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy its disks to the pool's storage first.")
    ] = False,
    network: Annotated[
        list[str] | None,
        typer.Option(metavar="BRIDGE", help="Its network cards, instead of its own."),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Whose libvirt. Default: the one that answers.")
    ] = "",
    limit: Limit = RATE,
    pool: PoolDir = None,
) -> None:
    """Make a VM of the pool out of a domain of a host's libvirt, which is shut down.

    \b
    What the pool cannot run as it was is refused with every reason. libvirt forgets the domain, so
    that nothing starts it past the pool; its definition is kept in /var/lib/outlast/adopted.
    Examples:
      outlast vm adopt                              what is there, and what speaks against it
      outlast vm adopt web
      outlast vm adopt Old_Web --as web --copy --network br0      on its own host
      outlast vm adopt db --host c                  another host's
    """
    from outlast.cli.waiting import telling
    from outlast.wire.disk_client import DiskClient

    chosen = options(ctx)
    disks = DiskClient(chosen.client())
    if not domain:
        found = disks.foreign(host)
        print_json(found) if chosen.json else _show(found, host or "this host")
        return
    if copy and (host or not chosen.here):
        raise InvalidInput(
            "its disks are files of its host, and are copied there",
            hint=f"on that host: outlast vm adopt {domain} --copy",
        )
    name = as_ or domain
    found_one = disks.foreign_domain(domain, host)
    from outlast.images.library import percent_of

    with telling(chosen.json) as tell:
        if copy:
            done = _with_copies(
                disks, pool_dir_of(pool), found_one, name, network, rate_of(limit),
                percent_of(tell),
            )  # fmt: skip
        else:
            done = disks.adopt(domain, _wish(name, network, None), host)
    if chosen.json:
        print_json(done)
        return
    say(done.sentence)
    for remark in found_one.remarks:
        say(f"  {remark}")
    say(f"start it: outlast vm start {name}")


def _wish(name: str, network: list[str] | None, paths: list[str] | None) -> AdoptWish:
    from outlast.wire.disks import AdoptWish
    from outlast.wire.shapes import make

    return make(AdoptWish, name=name, disks=paths, networks=network)


def _with_copies(
    disks: DiskClient, pool_dir: Path, found: ForeignDomain, name: str,
    network: list[str] | None, rate: int, progress: Progress,
) -> VmWish:  # fmt: skip
    from outlast.images.clones import Source, Wanted
    from outlast.images.making import make_vm
    from outlast.storage.names import check_name

    check_name(name, "VM name")
    against = [*found.refusals, *(found.lost if network is None else [])]
    if against:  # before anything is copied
        raise Conflict(f"'{found.name}' cannot be adopted: {'; '.join(against)}")
    files = tuple(Path(disk.path) for disk in found.disks)
    before = _marks(files)

    def still() -> None:
        if _marks(files) != before:
            raise Conflict(
                f"the disks of '{found.name}' changed while they were copied",
                hint="was it started? shut it down and do this again",
            )

    kinds = tuple(disk.format for disk in found.disks)
    source = Source(files, (0,) * len(files), still, kinds)
    wanted = Wanted(linked=False, rate_bytes_s=rate)
    return make_vm(
        pool_dir, name, source, wanted,
        lambda paths: disks.adopt(found.name, _wish(name, network, paths)), progress,
    )  # fmt: skip


def _marks(files: tuple[Path, ...]) -> list[tuple[int, int]]:
    try:
        stats = [path.stat() for path in files]
    except OSError as error:
        raise InvalidInput(f"a disk cannot be looked at: {error}") from error
    return [(stat.st_mtime_ns, stat.st_size) for stat in stats]


def _show(found: list[ForeignDomain], host: str) -> None:
    from rich.table import Table

    if not found:
        say(f"libvirt on {host} has no domains but the pool's")
        return
    table = Table("DOMAIN", "MEMORY", "VCPUS", "DISKS", "ADOPT", box=None)
    for one in found:
        away = [disk.away for disk in one.disks if disk.away]
        if one.refusals:
            words = "no: " + "; ".join(one.refusals)
        else:
            needs = ["--copy"] if away else []
            needs += ["--network BRIDGE"] if one.lost else []
            words = f"with {' '.join(needs)}" if needs else "yes"
        table.add_row(one.name, f"{one.memory_mib} MiB", str(one.vcpus), str(len(one.disks)), words)
    stdout().print(table)
