"""`outlast pool maintain-all`: hosts one after the other, emptied, worked on, taken back.

Rules: which step is next says readiness/rolling.py, as for the manager. The round lies in this
process only; what was wished stands in the pool, so after Ctrl-C name the hosts that are left.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.completing import hosts
from outlast.cli.context import Options, options, print_json, say
from outlast.errors import InvalidInput, PoolTrouble, Unreachable
from outlast.words import plural

if TYPE_CHECKING:
    from outlast.readiness.rolling import Foreseen, Round
    from outlast.wire.client import AgentClient

POLL_S = 1.0


def maintain_all(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HOST...]", help="All, if none is named.", autocompletion=hosts),
    ] = None,
    why: Annotated[str, typer.Option(help="Said wherever the host is shown.")] = "",
    until: Annotated[
        str, typer.Option(metavar="said|reboot", help="When the work on a host is done.")
    ] = "said",
    bring_back: Annotated[
        bool, typer.Option("--bring-back/--no-bring-back", help="Its VMs, before the next one.")
    ] = True,
    at_risk: Annotated[
        bool, typer.Option("--at-risk", help="Also when a failure meanwhile is not survived.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before it begins.")] = False,
) -> None:
    """Work on hosts one after the other: each is emptied, waited for, taken back. Master last.

    \b
    It stops, and says why, when a VM cannot move or a failure would not be survived.
    Examples:
      outlast pool maintain-all --why "new kernel" --until reboot
      outlast pool maintain-all c a --yes
    """  # fmt: skip
    from outlast.cli.maintaining import ask
    from outlast.cli.plan import picture_now
    from outlast.readiness import rolling
    from outlast.wire.shapes import make

    chosen = options(ctx)
    client = chosen.client()
    if until == "said" and not sys.stdin.isatty():
        raise InvalidInput("nobody is there to say when the work on a host is done",
                           hint="--until reboot")  # fmt: skip
    found = make(
        rolling.Round, hosts=rolling.order(client.status(), names or ()), who="",
        begun_wall_s=time.time(), since_wall_s=time.time(), why=why or "rolling maintenance",
        until=until, bring_back=bring_back, at_risk=at_risk,
    )  # fmt: skip
    plan = rolling.foreseen(picture_now(client), found.hosts)
    ask(chosen, [line for one in plan for line in _lines(one)],
        f"Begin with {found.host}?", yes=yes)  # fmt: skip
    try:
        found = _follow(chosen, client, found)
    except (KeyboardInterrupt, typer.Abort):
        left = " ".join(found.hosts[found.at :])
        say(f"what is under way goes on; for the rest: outlast pool maintain-all {left}")
        raise
    print_json(found) if chosen.json else say(found.sentence)


def _lines(one: Foreseen) -> list[str]:
    moves = plural(len(one.plan.moves), "VM moves", "VMs move")
    found = [f"{one.host}: {moves} away, {one.plan.copy_s:.0f} s of copying"]
    found += [f"  {vm} cannot leave: {why}" for vm, why in one.plan.left]
    return found + ([f"  {one.warning}"] if one.warning else [])


def _follow(chosen: Options, client: AgentClient, found: Round) -> Round:
    """Until all are done. Raises PoolTrouble when it stops."""
    from outlast.cli.plan import picture_now
    from outlast.cli.waiting import telling
    from outlast.readiness import rolling

    while found.open:
        with telling(chosen.json) as tell:
            while found.open and not _asked(found):
                try:
                    picture = picture_now(client) if found.phase == "begins" else None
                    made = rolling.step(found, client.status(), picture, time.time())
                    if made.wish == "maintain":
                        client.maintain(found.host, found.why)
                    elif made.wish == "resume":
                        client.serve(found.host, bring_back=found.bring_back)
                    found = made.round
                    tell(found.sentence)
                except Unreachable as trouble:  # perhaps this very host is rebooted
                    tell(trouble.sentence)
                if found.stopped:
                    left = " ".join(found.hosts[found.at :])
                    raise PoolTrouble(found.sentence, hint=f"{found.hint}; then: "
                                      f"outlast pool maintain-all {left}")  # fmt: skip
                time.sleep(POLL_S)
        if found.open:
            typer.confirm(f"{found.sentence}. Done?", default=True, abort=True)
            found = rolling.say_done(found, found.host)
    return found


def _asked(found: Round) -> bool:
    """Is it a person's turn?"""
    return found.phase == "work" and found.until == "said" and not found.said
