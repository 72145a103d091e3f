"""`outlast vm schedule set|list|remove`: backups that the pool makes by itself."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from outlast.cli import completing
from outlast.cli.context import Options, options, parse_span, print_json, say, stdout
from outlast.cli.image import PoolDir

if TYPE_CHECKING:
    from outlast.wire.backups import ScheduleInfo, ScheduleWish
    from outlast.wire.client import AgentClient

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
    from outlast.images import schedules
    from outlast.wire.backups import ScheduleWish
    from outlast.wire.shapes import make

    every_s = int(parse_span(every)) if every else 0
    wish = make(
        ScheduleWish, folder=str(folder), at=at, every_s=every_s, keep=keep, quiesce=quiesce
    )
    names = list(dict.fromkeys(vms))
    _door(options(ctx), pool).set(names, wish)
    if options(ctx).json:
        print_json({"vms": names, **wish.model_dump()})
    else:
        told = schedules.Schedule("", **wish.model_dump()).told
        say(f"{', '.join(names)}: backed up {told}")


@app.command("list")
def list_(ctx: typer.Context, pool: PoolDir = None) -> None:
    """What is backed up when, and how the last one ended."""
    from rich.table import Table

    found = _door(options(ctx), pool).all()
    if options(ctx).json:
        print_json({"schedules": [one.model_dump() for one in found]})
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
    _door(options(ctx), pool).remove(vms)
    if options(ctx).json:
        print_json({"removed": vms})
    else:
        say(f"{', '.join(vms)}: no more backups by themselves")


class _Door(Protocol):
    """Which one is taken is as in equipment_doors.py."""

    def all(self) -> list[ScheduleInfo]: ...

    def set(self, vms: list[str], wish: ScheduleWish) -> None:
        """Raises NotFound, InvalidInput."""

    def remove(self, vms: list[str]) -> None:
        """Raises NotFound."""


def _door(chosen: Options, pool: Path | None) -> _Door:
    return _Afar(chosen.client()) if chosen.afar and not pool else _Here(pool)


class _Here:
    """All VMs, or none when one of them cannot be."""

    def __init__(self, pool: Path | None) -> None:
        from outlast.cli import this_host

        self._register = this_host.opened(pool, this_host.places())[1]

    def all(self) -> list[ScheduleInfo]:
        from outlast.images import schedules
        from outlast.wire.backups import ScheduleInfo

        found = schedules.in_force(self._register)
        return [ScheduleInfo.model_validate(asdict(one)) for one in found]

    def set(self, vms: list[str], wish: ScheduleWish) -> None:
        from outlast.images import schedules

        first = schedules.Schedule("", **wish.model_dump(), since_wall_s=int(time.time()))
        schedules.begin(self._register, [replace(first, vm=vm) for vm in vms])

    def remove(self, vms: list[str]) -> None:
        from outlast.images import schedules

        schedules.remove(self._register, vms)


class _Afar:
    """One VM after the other: what was done before one cannot be stays done."""

    def __init__(self, client: AgentClient) -> None:
        from outlast.wire.backups import BackupClient

        self._client = BackupClient(client)

    def all(self) -> list[ScheduleInfo]:
        return self._client.schedules()

    def set(self, vms: list[str], wish: ScheduleWish) -> None:
        for vm in vms:
            self._client.schedule(vm, wish)

    def remove(self, vms: list[str]) -> None:
        for vm in vms:
            self._client.unschedule(vm)
