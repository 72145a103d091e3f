"""`outlast vm schedule set|list|remove`: backups that the pool makes by itself."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli import completing
from outlast.cli.context import options, parse_span, print_json, say, stdout
from outlast.cli.image import PoolDir

if TYPE_CHECKING:
    from outlast.model import VmSpec
    from outlast.storage.register import Register

Vms = Annotated[
    list[str],
    typer.Argument(metavar="VM...", help="One or more VMs.", autocompletion=completing.vms),
]
app = typer.Typer(no_args_is_help=True, help="Backups that the pool makes by itself.")


@app.command("set")
def set_(
    ctx: typer.Context,
    vms: Vms,
    folder: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="The same on every host, not the pool's.")
    ],
    at: Annotated[str, typer.Option(metavar="HH:MM", help="Every day at that time.")] = "",
    every: Annotated[str, typer.Option(metavar="SPAN", help="Or so often: 6h, 1d.")] = "",
    keep: Annotated[int, typer.Option(metavar="N", help="The newest N stay.")] = 7,
    quiesce: Annotated[
        str, typer.Option(metavar="auto|yes|no", help="As for 'vm snapshot create'.")
    ] = "auto",
    pool: PoolDir = None,
) -> None:
    """Have VMs backed up regularly, by whatever host they are on.

    \b
    One that is made late, or fails, is told in the timeline. Examples:
      outlast vm schedule set db web --to /mnt/backup --at 03:00 --keep 7
      outlast vm schedule set db --to /mnt/backup --every 6h --quiesce yes
    """
    from outlast.errors import NotFound
    from outlast.images import schedules
    from outlast.wire.disks import BackupWish
    from outlast.wire.shapes import make

    make(BackupWish, folder=str(folder), quiesce=quiesce, keep=keep)  # refuses what cannot be
    pause_s = int(parse_span(every)) if every else 0
    register = _register(pool)
    first = schedules.Schedule("", str(folder), at, pause_s, keep, quiesce, int(time.time()))
    made = []
    for vm in dict.fromkeys(vms):
        schedules.check(replace(first, vm=vm))
        if (spec := _spec(register, vm)) is None:
            raise NotFound(f"there is no VM '{vm}'", hint="outlast vm list")
        made.append(replace(first, vm=vm, uuid=spec.uuid))
    for one in made:
        schedules.write(register, schedules.read(register, one.vm)[0], one)
    if options(ctx).json:
        print_json({"schedules": [asdict(one) for one in made]})
        return
    when = f"every day at {at}" if at else f"every {every}"
    say(f"{', '.join(one.vm for one in made)}: backed up {when} to {folder}, {keep} are kept")


@app.command("list")
def list_(ctx: typer.Context, pool: PoolDir = None) -> None:
    """What is backed up when, and how the last one ended."""
    from rich.table import Table

    from outlast.images import schedules

    register = _register(pool)
    found = [
        one for one in schedules.schedules(register)
        if (spec := _spec(register, one.vm)) and one.of(spec)
    ]  # fmt: skip
    if options(ctx).json:
        print_json({"schedules": [asdict(one) for one in found]})
        return
    if not found:
        say("nothing is backed up by itself; see 'outlast vm schedule set --help'")
        return
    table = Table("VM", "WHEN", "TO", "KEEP", "LAST GOOD", "LAST", box=None)
    for one in found:
        when = f"at {one.at}" if one.at else f"every {one.every_s // 60} min"
        good = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.good_wall_s))
        table.add_row(
            one.vm, when, one.folder, str(one.keep), good if one.good_wall_s else "-",
            one.said or "-",
        )  # fmt: skip
    stdout().print(table)


@app.command()
def remove(
    ctx: typer.Context,
    vms: Vms,
    pool: PoolDir = None,
) -> None:
    """Back them up no more; backups that were made stay."""
    from outlast.images import schedules

    schedules.remove(_register(pool), vms)
    if options(ctx).json:
        print_json({"removed": vms})
    else:
        say(f"{', '.join(vms)}: no more backups by themselves")


def _register(pool: Path | None) -> Register:
    from outlast.cli import this_host

    return this_host.opened(pool, this_host.places())[1]


def _spec(register: Register, vm: str) -> VmSpec | None:
    """None: there is no such VM."""
    from outlast.storage.records import vm_from

    value = register.read(f"vm/{vm}")[1]
    record = None if value is None else vm_from(value)
    return None if record is None or record.deleted else record.spec
