"""`outlast host check` and `host prepare`: what a machine lacks to be a host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from outlast.cli.context import options


def check(
    ctx: typer.Context,
    pool_dir: Annotated[
        Path | None,
        typer.Option(
            "--pool", metavar="DIR", help="The storage, mounted here. Default: this host's pool."
        ),
    ] = None,
) -> None:
    """Is this machine fit to be a host? One light, its reasons, and what to do about each.

    Changes nothing; needs root to see everything. Exit code 0: yes (green or yellow); 1: not yet
    (red).

    \b
    Examples:
      outlast host check --pool /srv/pool      before it joins
      outlast host check                       after
    """
    from outlast.cli import host_facts, this_host
    from outlast.cli.check import show_lights
    from outlast.cli.host_lights import judge
    from outlast.cli.waiting import telling
    from outlast.errors import NotFound
    from outlast.readiness.lights import RANK

    chosen = options(ctx)
    try:
        host_file = this_host.known(this_host.places())
        pool_dir = pool_dir or Path(str(host_file.get("pool_dir")))
    except NotFound:
        host_file = {}
    with telling(chosen.json) as tell:
        tell("looking at this machine")
        lights = judge(host_facts.look(host_file, pool_dir.absolute() if pool_dir else None))
    lights.sort(key=lambda light: -RANK[light.colour])
    show_lights(chosen, str(host_file.get("host") or "this machine"), lights)


def prepare(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Tell this machine's libvirt (and AppArmor) that QEMU starts through the guard.

    Shows what would change, asks, and restarts libvirtd; running VMs notice nothing.

    \b
    Example:
      outlast host prepare && outlast host check --pool /srv/pool
    """
    from outlast.cli import maintaining, preparing
    from outlast.cli.context import print_json, say, warn

    chosen = options(ctx)
    edits = preparing.plan()
    if edits:
        lines = [f"{edit.path}: {edit.why}" for edit in edits]
        maintaining.ask(chosen, lines, "Change this?", yes=yes)
    for note in preparing.carry_out(edits):
        warn(f"note: {note}")
    if chosen.json:
        print_json({"changed": [str(edit.path) for edit in edits]})
    else:
        say("this machine is prepared" if edits else "there is nothing to prepare")
