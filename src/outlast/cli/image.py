"""`outlast image ...`: the pool's library of disk images."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.context import options, print_json, say, stdout
from outlast.cli.image_doors import images
from outlast.cli.pool_files import pool_dir_of
from outlast.words import plural

if TYPE_CHECKING:
    from outlast.wire.images import ImageInfo

app = typer.Typer(
    no_args_is_help=True,
    help="Disk images of the pool: import them once, make VMs of them on every host.",
)

Name = Annotated[str, typer.Argument(help="The image's name: a-z, 0-9 and -.")]
PoolDir = Annotated[
    Path | None,
    typer.Option("--pool", metavar="DIR", help="Default: the pool this host has joined."),
]
Limit = Annotated[
    str,
    typer.Option(
        metavar="SIZE|none",
        help="Bytes a second a copy may take, so that the pool's heartbeat never waits for it.",
    ),
]
On = Annotated[
    str, typer.Option(metavar="STORAGE", help="Make new disks there; see 'storage list'.")
]
RATE = "48MiB"


def rate_of(text: str) -> int:
    """Bytes a second; 0 = no limit. Raises InvalidInput."""
    from outlast.wire.sizes import parse_size

    return 0 if text == "none" else parse_size(text)


@app.command("import")
def import_(
    ctx: typer.Context,
    name: Name,
    source: Annotated[str, typer.Argument(metavar="FILE|URL", help="qcow2, raw, VMDK or OVA.")],
    sha256: Annotated[
        str, typer.Option(metavar="HEX", help="What the file's SHA-256 must be.")
    ] = "",
    limit: Limit = RATE,
    pool: PoolDir = None,
) -> None:
    """Take an image into the pool, from a file or an https address.

    The file is not trusted: what refers to other files is refused. Broken off at any moment
    (Ctrl-C, a power cut), nothing half-made is seen; the same command goes on where it was.

    \b
    Examples:
      outlast image import debian-12 https://cloud.example/debian-12.qcow2 --sha256 9f86d0...
      outlast image import old-web /mnt/usb/web.ova
    """
    from outlast.cli.waiting import telling

    chosen = options(ctx)
    door = images(chosen, pool)
    with telling(chosen.json) as tell:
        image = door.take(name, source, sha256, rate_of(limit), tell)
    if chosen.json:
        print_json(image)
        return
    say(f"{name} is imported: {_sizes(image)}; SHA-256 of its source: {image.sha256}")
    say(f"make a template of it: outlast template create NAME --image {name} --memory 2GiB")


@app.command()
def upload(
    ctx: typer.Context,
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="qcow2, raw, VMDK or OVA.")],
    limit: Limit = RATE,
) -> None:
    """Send an image from this machine to the pool, through an agent or a manager.

    Broken off at any moment, the same command goes on where it was.

    \b
    Example, from a machine that is no host:
      outlast --agent https://10.0.0.5:7791 image upload debian-12 debian-12.qcow2
    """
    from outlast.cli.uploading import send
    from outlast.cli.waiting import follow, telling
    from outlast.wire.images import ImageClient, ImportWish

    chosen = options(ctx)
    client = ImageClient(chosen.client())
    with telling(chosen.json) as tell:
        send(client, name, file, rate_of(limit), tell)
        wish = ImportWish(rate_bytes_s=rate_of(limit))
        done = follow(
            lambda: client.take(name, wish), lambda: client.importing(name),
            lambda: client.give_up(name), tell,
        )  # fmt: skip
    print_json(done) if chosen.json else say(done.sentence)


@app.command()
def cancel(ctx: typer.Context, name: Name) -> None:
    """Break off an import that somebody wished through a manager or an agent.

    \b
    A login finds the host that carries it out; without one, say it to that host's agent:
      outlast --agent https://10.0.0.5:7791 image cancel debian-12
    """
    from outlast.wire.images import ImageClient

    done = ImageClient(options(ctx).client()).give_up(name)
    print_json(done) if options(ctx).json else say(f"the import of {done.name} is broken off")


@app.command("list")
def list_(ctx: typer.Context, pool: PoolDir = None) -> None:
    """All images of the pool."""
    from rich.table import Table

    found = images(options(ctx), pool).all()
    if options(ctx).json:
        print_json({"images": [image.model_dump(mode="json") for image in found]})
        return
    if not found:
        say("no images yet; see 'outlast image import --help'")
        return
    table = Table("IMAGE", "DISKS", "SIZE", "ON STORAGE", "FROM", "IMPORTED", box=None)
    for image in found:
        table.add_row(
            image.name, str(image.disks), _mib(image.virtual_bytes), _mib(image.stored_bytes),
            image.source, time.strftime("%Y-%m-%d %H:%M", time.localtime(image.created_wall_s)),
        )  # fmt: skip
    stdout().print(table)


@app.command()
def show(ctx: typer.Context, name: Name, pool: PoolDir = None) -> None:
    """One image: its disks, where it came from, its checksum."""
    image = images(options(ctx), pool).get(name)
    if options(ctx).json:
        print_json(image)
        return
    say(f"{name}: {_sizes(image)}")
    say(f"  from {image.source} ({image.kind}), SHA-256 {image.sha256}")
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(image.created_wall_s))
    say(f"  imported on {image.by_host}, {when}")
    for path in image.files:
        say(f"  {path}")


@app.command()
def export(
    ctx: typer.Context,
    name: Name,
    target: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, outside the pool.")],
    format_: Annotated[
        str, typer.Option("--format", metavar="qcow2|raw|vmdk", help="Of the new file.")
    ] = "qcow2",
    limit: Limit = RATE,
    pool: PoolDir = None,
) -> None:
    """Copy an image out of the pool. Further disks become FILE-2 and so on.

    \b
    Example:
      outlast image export debian-12 /mnt/usb/debian-12.vmdk --format vmdk
    """
    from outlast.cli.waiting import telling
    from outlast.images.library import Library, percent_of

    chosen = options(ctx)
    with telling(chosen.json) as tell:
        made = Library(pool_dir_of(pool)).export(
            name, target, format_, rate_bytes_s=rate_of(limit), progress=percent_of(tell)
        )
    if chosen.json:
        print_json({"name": name, "files": [str(path) for path in made]})
    else:
        say(f"{name} is in {', '.join(str(path) for path in made)}")


@app.command()
def remove(ctx: typer.Context, name: Name, pool: PoolDir = None) -> None:
    """Delete an image. Templates and VMs that were made from it keep what they need."""
    images(options(ctx), pool).remove(name)
    if options(ctx).json:
        print_json({"name": name, "changed": True})
    else:
        say(f"the image {name} is deleted")


@app.command()
def clean(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is there.")] = False,
    pool: PoolDir = None,
) -> None:
    """Delete what imports and other copies left behind when they were killed.

    Work that is under way, on this host or another one, is left alone, and so are disks of VMs.
    """
    from outlast.cli import this_host
    from outlast.cli.storage_facts import repositories
    from outlast.images.clean import clean as clean_up
    from outlast.images.clean import found

    opened, register = this_host.opened(pool, this_host.places())
    there = [Path(one.path) for one, trouble in repositories(register) if not trouble]
    lefts = found(opened.root, there) if dry_run else clean_up(opened.root, there)
    if options(ctx).json:
        plain = [{**asdict(left), "path": str(left.path)} for left in lefts]
        print_json({"leftovers": plain, "deleted": not dry_run})
        return
    for left in lefts:
        what = f"at work: {left.alive}" if left.alive else "left over" if dry_run else "deleted"
        say(f"{left.path} ({_mib(left.size_bytes)}): {what}")
    if not lefts:
        say("nothing is left over")


def _sizes(image: ImageInfo) -> str:
    return f"{plural(image.disks, 'disk')}, {_mib(image.virtual_bytes)}"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.0f} MiB"
