"""`outlast pool check` and `outlast drill`: could the pool fail over, and how would it go?"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.context import Options, options, print_json, say
from outlast.cli.plan import picture_now
from outlast.errors import InvalidInput, PoolTrouble

if TYPE_CHECKING:
    from outlast.readiness import Light

HISTORY_DAYS = 30
NOTES_MAX = 5000
NOT_READY = 1
CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


def check(ctx: typer.Context) -> None:
    """Could the pool fail over now? One light with its reasons.

    Exit code 0: yes (green or yellow); 1: it could not (red).
    """
    from outlast.readiness import RANK, local_lights, pool_lights

    chosen = options(ctx)
    client = chosen.client()
    status = client.status()
    try:
        picture = picture_now(client)
    except PoolTrouble:
        picture = None
    lights = pool_lights(status, picture)
    if not chosen.agent:
        lights += local_lights(clock_source(), certificate_days())
    lights.sort(key=lambda light: -RANK[light.colour])
    show_lights(chosen, status.name or "the pool", lights)


def show_lights(chosen: Options, what: str, lights: Sequence[Light]) -> None:
    """Print one light with its reasons; ends the program with NOT_READY when it is red."""
    from outlast.readiness import worst

    light = worst(lights)
    if chosen.json:
        print_json({"light": light, "reasons": [asdict(one) for one in lights]})
    else:
        say(f"{what}: {light}")
        for one in lights:
            say(f"  {one.colour:<7} {one.what}: {one.sentence}")
            if one.hint:
                say(f"          -> {one.hint}")
    if light == "red":
        raise typer.Exit(NOT_READY)


def drill(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="The host that is to fail.")],
    kind: Annotated[str, typer.Option(help="power, network, storage or agent.")] = "power",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would happen. Needed for now.")
    ] = False,
) -> None:
    """What a failure would do now: which VMs, where they go, in which order, and when.

    \b
    Example:
      outlast drill --host b --kind power --dry-run
    """
    from outlast.readiness import KINDS, rehearse, start_seconds
    from outlast.settings import preset

    chosen = options(ctx)
    if kind not in KINDS:
        raise InvalidInput(f"there is no failure '{kind}'", hint="one of: " + ", ".join(KINDS))
    if not dry_run:
        raise InvalidInput(
            "drills are only rehearsed, not carried out", hint="say --dry-run; nothing was done"
        )
    client = chosen.client()
    status = client.status()
    picture = picture_now(client)
    entries = client.timeline(time.time() - HISTORY_DAYS * 86400, NOTES_MAX)
    timing = preset(status.preset)
    found = rehearse(status, picture, timing, host, kind, start_seconds(entries))
    if chosen.json:
        print_json(asdict(found))
        return
    say(found.sentence)
    for line in found.course:
        say(f"  {line}")
    for n, r in enumerate(found.failure.restarts if found.failure else (), 1):
        say(f"{n:4} {r.vm}: {r.source} -> {r.target}" if r.target else f"{n:4} {r.vm}: {r.why}")


def clock_source() -> str:
    """What this machine's clock runs on; "" when that is not known."""
    try:
        return CLOCK_SOURCE.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def certificate_days() -> float | None:
    """Until this host's certificate ends; None when there is none that can be read."""
    from cryptography import x509

    path = Path(os.environ.get("OUTLAST_ETC") or "/etc/outlast") / "pki/cert.pem"
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None
    return (found.not_valid_after_utc - datetime.now(UTC)).total_seconds() / 86400
