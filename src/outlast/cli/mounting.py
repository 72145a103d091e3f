"""`outlast storage mount|unmount|add|list|remove`: shared storage of this machine and of the pool.

`mount` is for the storage a pool itself lives on: it must be there before there is a pool. `add` is
for more storage of a pool that is there: every host mounts it by itself.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.context import options, print_json, say

if TYPE_CHECKING:
    from outlast.mounts.options import Choice

Kind = Annotated[
    str,
    typer.Argument(metavar="KIND", help="nfs, nfs3, ocfs2, gfs2, glusterfs or cephfs."),
]
Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="server:/export, a,b:/volume or a device.")
]
Own = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="Instead of the one that is chosen."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show the unit of systemd, with the reasons.")
]
PoolOption = Annotated[
    Path | None,
    typer.Option("--pool", metavar="DIR", help="The pool's directory. Default: this host's pool."),
]
NameOf = Annotated[str, typer.Argument(metavar="NAME", help="The storage's name.")]


def mount(
    ctx: typer.Context,
    kind: Kind,
    source: Source,
    path: Annotated[str, typer.Argument(metavar="DIR", help="Where, the same on every host.")],
    option: Own = None,
    dry_run: DryRun = False,
) -> None:
    """Mount the storage a pool shall live on, now and at each boot. Run it on every host.

    Options that would let a write be lost, done twice or seen late are refused.

    \b
    Examples:
      outlast storage mount nfs nas:/export/pool /srv/pool --dry-run
      outlast storage mount nfs nas:/export/pool /srv/pool
      outlast storage mount glusterfs a,b,c:/pool /srv/pool
    """
    from outlast.errors import InvalidInput
    from outlast.mounts.options import choose
    from outlast.mounts.systemd import Mounts
    from outlast.mounts.unit import check_path

    if kind == "dir":
        raise InvalidInput("a plain directory needs no mount", hint="outlast pool init DIR")
    choice, place = choose(kind, source, option or ()), check_path(path)
    if dry_run:
        _show(ctx, choice, place, "the pool's storage")
        return
    done = Mounts().mount(choice, place, "the pool's storage")
    if options(ctx).json:
        print_json({"path": place, "changed": done, "options": choice.text})
        return
    say(f"{source} is mounted at {place}" if done else f"{source} was mounted at {place} already")
    for advice in choice.advice:
        say(f"  see to it: {advice}")
    say(f"may it carry a pool? outlast storage probe {place}")


def unmount(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(metavar="DIR", help="Where it is mounted.")],
) -> None:
    """Unmount what 'storage mount' mounted. What is in use stays, and says who uses it."""
    from outlast.mounts.systemd import Mounts
    from outlast.mounts.unit import check_path

    place = check_path(path)
    Mounts().unmount(place)
    if options(ctx).json:
        print_json({"path": place, "changed": True})
    else:
        say(f"{place} is not mounted any more, and will not be at the next boot")


def add(
    ctx: typer.Context,
    name: NameOf,
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help="nfs, nfs3, ocfs2, gfs2, glusterfs, cephfs or dir."),
    ],
    source: Annotated[
        str, typer.Argument(metavar="[SOURCE]", help="server:/export and the like; none of a dir.")
    ] = "",
    path: Annotated[
        str, typer.Option(metavar="DIR", help="Where, on every host. Default: /srv/NAME.")
    ] = "",
    option: Own = None,
    dry_run: DryRun = False,
    pool: PoolOption = None,
) -> None:
    """More storage for disks of VMs: every host mounts it within seconds, and watches it.

    A dir is mounted by somebody else, on every host at the same place.

    \b
    Examples:
      outlast storage add fast nfs flash:/export/vms
      outlast storage add old dir --path /mnt/san
      outlast vm create db --memory 8GiB --disk 100GiB --on fast
    """
    from outlast.cli.equipment_doors import storage
    from outlast.equipment import Repository
    from outlast.mounts import registry

    wished = Repository(name, kind, source, path, tuple(option or ()))
    if dry_run:
        checked = registry.check(wished)
        _show(ctx, registry.choice_of(checked), checked.path, name)
        return
    made = storage(options(ctx), pool).add(wished)
    if options(ctx).json:
        print_json(asdict(made))
        return
    say(f"every host shall have {name} at {made.path}; 'outlast storage list' says how it stands")
    for advice in registry.choice_of(made).advice:
        say(f"  see to it: {advice}")


def list_(ctx: typer.Context, pool: PoolOption = None) -> None:
    """The pool's storage besides its own, and how it stands on this machine, or on the agent's with
    --agent."""
    from outlast.cli.equipment_doors import storage

    found = storage(options(ctx), pool).all()
    if options(ctx).json:
        print_json({"storage": [{**asdict(one), "trouble": trouble} for one, trouble in found]})
        return
    for one, trouble in found:
        what = f"{one.kind} {one.source} at {one.path}" if one.source else one.path
        say(f"{one.name:<12} {what}: {trouble or 'there'}")
    if not found:
        say("there is no storage besides the pool's own; see 'outlast storage add --help'")


def remove(ctx: typer.Context, name: NameOf, pool: PoolOption = None) -> None:
    """Take storage from the pool; what is on it stays. One with disks of VMs is kept."""
    from outlast.cli.equipment_doors import storage

    storage(options(ctx), pool).remove(name)
    if options(ctx).json:
        print_json({"name": name, "changed": True})
    else:
        say(f"{name} is unmounted on each host as soon as nothing uses it there")


def _show(ctx: typer.Context, choice: Choice, path: str, name: str) -> None:
    from outlast.mounts.unit import unit_name, unit_text

    text = unit_text(choice, path, name) if choice.options else ""
    if options(ctx).json:
        print_json({"path": path, "unit": text, "advice": list(choice.advice)})
        return
    if text:
        say(f"# {unit_name(path)}")
        say(text)
    else:
        say(f"{path} is a directory that something else has to mount, on every host")
    for advice in choice.advice:
        say(f"see to it: {advice}")
