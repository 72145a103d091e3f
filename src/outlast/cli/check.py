"""`outlast pool check`: could the pool fail over now?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from outlast.cli.context import Options, options, print_json, say
from outlast.cli.plan import picture_now
from outlast.errors import PoolTrouble

if TYPE_CHECKING:
    from outlast.readiness.lights import Light

NOT_READY = 1


def check(ctx: typer.Context) -> None:
    """Could the pool fail over now? One light with its reasons, and what else was looked at.

    Exit code 0: yes (green or yellow); 1: it could not (red).
    """
    from outlast.readiness.lights import GREEN, RANK, pool_lights, well

    chosen = options(ctx)
    client = chosen.client()
    status = client.status()
    try:
        picture = picture_now(client)
    except PoolTrouble:
        picture = None
    lights = [one for one in pool_lights(status, picture) if one.colour != GREEN]
    lights += well(status, picture)
    lights.sort(key=lambda light: -RANK[light.colour])
    show_lights(chosen, status.name or "the pool", lights)


def show_lights(chosen: Options, what: str, lights: Sequence[Light]) -> None:
    """Print one light with its reasons; ends the program with NOT_READY when it is red."""
    from outlast.readiness.lights import worst

    light = worst(lights)
    if chosen.json:
        print_json({"light": light, "reasons": [asdict(one) for one in lights]})
    else:
        say(f"{what}: {light}")
        for one in lights:
            kind, _, name = one.what.partition(" ")
            named = kind in ("host", "vm") and one.sentence.startswith(name)
            say(f"  {one.colour:<7} {one.sentence if named else f'{one.what}: {one.sentence}'}")
            if one.hint:
                say(f"          -> {one.hint}")
    if light == "red":
        raise typer.Exit(NOT_READY)
