"""`outlast pool timing`: the pool's times, what this host measured, and how much room is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from outlast.cli.context import options, print_json, say
from outlast.errors import InvalidInput
from outlast.settings import S

if TYPE_CHECKING:
    from outlast.wire.margin import MarginInfo


def timing(ctx: typer.Context) -> None:
    """How soon a silent host counts as dead, and how near this host's storage came to that.

    Nothing is ever changed by itself: 'outlast pool set --timing' chooses another preset.

    \b
    Example:
      outlast pool timing
    """
    from outlast.settings import preset

    chosen = options(ctx)
    status = chosen.client().status()
    try:
        times = preset(status.preset)
    except InvalidInput:
        times = None  # of a newer version
    if chosen.json:
        margin = status.margin.model_dump() if status.margin else None
        print_json({"preset": status.preset, "host": status.answered_by, "margin": margin})
        return
    said = f"preset {status.preset}"
    if times is not None:
        said += (
            f": a beat every {times.beat_ns / S:g} s; VMs of a host end {times.fence_ns / S:g} s "
            f"after its last one, and start elsewhere after {times.dead_ns / S:g} s"
        )
    say(said)
    for line in told(status.answered_by, status.margin):
        say(line)


def told(host: str, margin: MarginInfo | None) -> list[str]:
    """What was measured, in sentences."""
    if margin is None or not margin.beats:
        return [f"{host} has not measured enough beats yet"]
    lines = [
        f"{host}, {margin.beats} beats: from one to the next {margin.median_ms / 1000:.2f} s in "
        f"half of them, {margin.p99_ms / 1000:.2f} s in 99 %, {margin.p999_ms / 1000:.2f} s in "
        f"99.9 %, {margin.longest_ms / 1000:.2f} s once",
        f"the smallest margin was {max(0.0, margin.fence_ms - margin.longest_ms) / 1000:.2f} s of "
        f"{margin.fence_ms / 1000:g}",
    ]
    if margin.advice:
        lines.append(f"preset '{margin.advice}' would suit this storage better")
    return lines
