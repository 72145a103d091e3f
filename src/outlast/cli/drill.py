"""`outlast drill`: what a failure would do, and a failure that really takes place, on purpose.

Rules:
1. Before a real drill, what it would do is shown, and the name of its host has to be typed, or said
   with --yes HOST.
2. The agents carry it out and judge it. This program only watches: ended in the middle, it changes
   nothing, and `outlast drill --last` shows the report.
3. Exit code 0: it went as foreseen; 1: otherwise, or it was refused by its host.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.context import Options, options, print_json, say
from outlast.cli.plan import picture_now
from outlast.errors import InvalidInput, Unreachable

if TYPE_CHECKING:
    from outlast.readiness.drills import Rehearsal
    from outlast.wire.client import AgentClient
    from outlast.wire.drills import DrillInfo

LOOK_S = 1.0
SILENT_S = 90.0  # that the asked agent may be away: it may be the one that is drilled
OTHERWISE = 1


def drill(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="The host that is to fail.")] = "",
    kind: Annotated[
        str, typer.Option(help="power, network, storage or agent of a host, or one vm.")
    ] = "",
    vm: Annotated[
        str, typer.Option(help="A canary: its host fails, and only when nothing else runs there.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    yes: Annotated[
        str, typer.Option("--yes", metavar="HOST", help="Its name again: do not ask.")
    ] = "",
    every: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Regularly: 'sun 03:00', 'daily 3:00', ''.")
    ] = None,
    last: Annotated[bool, typer.Option("--last", help="Show the newest drill.")] = False,
) -> None:
    """What a failure would do now; or have it take place, and compare.

    A host acts as if its power, its network or its storage failed, its agent or one VM is really
    ended. Refused unless the pool is whole and every VM has a place. It ends by itself.

    \b
    Examples:
      outlast drill --host b --kind power --dry-run
      outlast drill --host b --kind network
      outlast drill --host b --kind power --yes b
      outlast drill --vm canary
      outlast drill --vm canary --every 'sun 03:00'
    """
    chosen = options(ctx)
    client = chosen.client()
    kind = kind or ("vm" if vm else "power")
    if last:
        _show(chosen, client.last_drill())
    elif every is not None:
        _regularly(chosen, client, every, vm, kind)
    else:
        found, hindered = _rehearsed(client, host, kind, vm)
        if dry_run:
            _told(chosen, found, hindered)
            return
        _agreed(chosen, found, hindered, yes)
        _carried_out(chosen, client, found, vm)


def _rehearsed(client: AgentClient, host: str, kind: str, vm: str) -> tuple[Rehearsal, list[str]]:
    """What would happen, and why it may not be tried now."""
    from outlast.readiness.drills import HISTORY_S, NOTES_MAX, planned
    from outlast.settings import preset

    status, picture = client.status(), picture_now(client)
    entries = client.timeline(time.time() - HISTORY_S, NOTES_MAX)
    return planned(status, picture, preset(status.preset), entries, host, kind, vm)


def _told(chosen: Options, found: Rehearsal, hindered: list[str]) -> None:
    if chosen.json:
        print_json({**asdict(found), "hindrances": hindered})
        return
    say(found.sentence)
    for line in found.course:
        say(f"  {line}")
    for n, r in enumerate(found.failure.restarts if found.failure else (), 1):
        say(f"{n:4} {r.vm}: {r.source} -> {r.target}" if r.target else f"{n:4} {r.vm}: {r.why}")
    for why in hindered:
        say(f"a real drill would be refused: {why}")


def _agreed(chosen: Options, found: Rehearsal, hindered: list[str], yes: str) -> None:
    """Rule 1. Raises InvalidInput when it is not wanted; what hinders it is the agent's to say."""
    if not chosen.json:
        _told(chosen, found, hindered)
    if not yes and not hindered:
        if not sys.stdin.isatty():
            raise InvalidInput("nobody is there to ask", hint=f"--yes {found.host} does it")
        yes = typer.prompt(f"Type the host's name if it may fail now, for {found.for_s} s")
    if yes and yes != found.host:
        raise InvalidInput(f"'{yes}' is not '{found.host}': nothing was done")


def _carried_out(chosen: Options, client: AgentClient, found: Rehearsal, vm: str) -> None:
    from outlast.wire.drills import DrillWish
    from outlast.wire.shapes import make

    begun_s = time.time()
    wished = client.drill(make(DrillWish, kind=found.kind, host=found.host, vm=vm))
    if not chosen.json:
        say(f"drill {wished.id}: if this is interrupted, it goes on; outlast drill --last")
    _show(chosen, _watched(chosen, client, wished, begun_s))


def _watched(chosen: Options, client: AgentClient, drill: DrillInfo, since_s: float) -> DrillInfo:
    """The drill when it is over; what is noted meanwhile is told."""
    from outlast.readiness.drills import LATE_S, NOTES_MAX

    told: set[str] = set()
    heard_s = time.monotonic()
    while drill.state in ("wished", "begun"):
        time.sleep(LOOK_S)
        try:
            drill = client.last_drill()
            entries = client.timeline(since_s, NOTES_MAX)
        except Unreachable:
            if time.monotonic() - heard_s > SILENT_S + drill.for_s + LATE_S:
                raise
            continue
        heard_s = time.monotonic()
        for entry in entries:
            if entry.id not in told and not chosen.json:
                at = datetime.fromtimestamp(entry.wall_s, UTC).astimezone()
                say(f"{at:%H:%M:%S}  {entry.host}: {entry.sentence}")
            told.add(entry.id)
    return drill


def _show(chosen: Options, drill: DrillInfo) -> None:
    """The report; ends the program with OTHERWISE unless all went as foreseen."""
    if chosen.json:
        print_json(drill)
    else:
        at = datetime.fromtimestamp(drill.begun_s or drill.wished_s, UTC).astimezone()
        how = {"wished": "is wished", "begun": "is under way", "refused": "did not take place"}
        matched = "went as foreseen" if drill.matched else "went otherwise than foreseen"
        say(f"{at:%Y-%m-%d %H:%M:%S}: the drill '{drill.kind}' of {drill.host}, wished by "
            f"{drill.by}, {how.get(drill.state, matched)}")  # fmt: skip
        for line in drill.report:
            say(f"  {line}")
    if drill.state == "refused" or (drill.state == "ended" and not drill.matched):
        raise typer.Exit(OTHERWISE)


def _regularly(chosen: Options, client: AgentClient, every: str, vm: str, kind: str) -> None:
    from outlast.wire.shapes import PoolChange, make

    if every and not vm:
        raise InvalidInput("regular drills need a canary VM", hint="--vm canary")
    done = client.pool_set(make(PoolChange, drill_at=every, drill_vm=vm, drill_kind=kind))
    if chosen.json:
        print_json(done)
    elif every:
        say(f"a drill '{kind}' of {vm} takes place {every}, by the clock of the pool's master")
    else:
        say("there are no regular drills any more")
