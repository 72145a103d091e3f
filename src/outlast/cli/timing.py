"""`outlast pool timing`: the pool's times, what all hosts measured, and how much room is left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from outlast.cli.context import options, print_json, say
from outlast.errors import InvalidInput
from outlast.settings import S

if TYPE_CHECKING:
    from outlast.settings import Timing
    from outlast.wire.margin import MarginInfo
    from outlast.wire.shapes import PoolStatus


def timing(ctx: typer.Context) -> None:
    """How soon VMs run again after a host's death, and how near the storage came to ending some.

    Nothing is ever changed by itself: 'outlast pool set --timing' chooses another preset.

    \b
    Example:
      outlast pool timing
    """
    from outlast.readiness.drills import HISTORY_S, NOTES_MAX, start_seconds
    from outlast.settings import preset

    chosen = options(ctx)
    client = chosen.client()
    status = client.status()
    try:
        times = preset(status.preset)
    except InvalidInput:
        times = None  # of a newer version
    margins = margins_of(status)
    starts = start_seconds(client.timeline(time.time() - HISTORY_S, NOTES_MAX))
    again_s = failover_s(status, times, starts) if times else None
    if chosen.json:
        plain = {host: margin.model_dump() for host, margin in margins.items()}
        print_json({"preset": status.preset, "failover_s": again_s, "margins": plain})
        return
    say(f"preset {status.preset}")
    if times is not None and again_s is not None:
        say(f"a beat every {times.beat_ns / S:g} s; VMs of a host end {times.fence_ns / S:g} s "
            f"after its last one")  # fmt: skip
        measured = f"{len(starts)} starts and the beats of all hosts" if starts else "no start yet"
        say(f"after a host's death they run elsewhere within {again_s[0]:.0f} to {again_s[1]:.0f} s"
            f" (measured: {measured})")  # fmt: skip
    for host, margin in margins.items():
        for line in told(host, margin):
            say(line)
    if better := worst_advice(margins):
        say(f"preset '{better}' would suit this storage better: outlast pool set --timing {better}")


def margins_of(status: PoolStatus) -> dict[str, MarginInfo]:
    """What each host measured, by name; the answering host's is the newest."""
    found = {h.name: h.margin for h in status.hosts if h.margin is not None}
    if status.margin is not None:
        found[status.answered_by] = status.margin
    return dict(sorted(found.items()))


def failover_s(status: PoolStatus, timing: Timing, starts_s: list[float]) -> tuple[float, float]:
    """From a host's death until its VMs run elsewhere, at the soonest and at the latest."""
    from outlast.readiness.drills import act_s

    acting = [act_s(status, timing, h.name, starts_s) for h in status.hosts]
    return timing.dead_ns / S, timing.dead_ns / S + max(acting, default=0.0)


def worst_advice(margins: dict[str, MarginInfo]) -> str:
    """The most patient preset that a host's beats ask for; "" when none does."""
    from outlast.settings import PRESETS

    wanted = [m.advice for m in margins.values() if m.advice in PRESETS]
    return max(wanted, key=lambda name: PRESETS[name].fence_ns, default="")


def told(host: str, margin: MarginInfo | None) -> list[str]:
    """What was measured, in sentences."""
    if margin is None or not margin.beats:
        return [f"{host} has not measured enough beats yet"]
    lines = [
        f"{host}, {margin.beats} beats: from one to the next {margin.median_ms / 1000:.2f} s in "
        f"half of them, {margin.p99_ms / 1000:.2f} s in 99 %, {margin.p999_ms / 1000:.2f} s in "
        f"99.9 %, {margin.longest_ms / 1000:.2f} s once",
        f"  the smallest margin was {max(0.0, margin.fence_ms - margin.longest_ms) / 1000:.2f} s "
        f"of {margin.fence_ms / 1000:g}",
    ]
    if margin.unheard_ms:
        lines.append(
            f"  other hosts were heard at least every {margin.unheard_median_ms / 1000:.2f} s in "
            f"half of the time, {margin.unheard_p99_ms / 1000:.2f} s in 99 %, "
            f"{margin.unheard_ms / 1000:.2f} s once; after {margin.link_lost_ms / 1000:g} s a link "
            "counts as down"
        )
    return lines
