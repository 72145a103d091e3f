"""`outlast pool balance`: few moves that even out the pool, shown, then made, and taken back.

Rules:
1. Nothing moves before the plan was shown and somebody said yes.
2. Moves are made wave by wave, so that each finds the room the plan counted on. The first that
   fails ends it: the pool is no longer the one the plan was made for.
3. What was made is kept in a file of the person, so that --undo can take it back: each VM that is
   still where it was moved goes back, in the opposite order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.context import options, print_json, say
from outlast.errors import InvalidInput, NotFound, OutlastError, PoolTrouble

if TYPE_CHECKING:
    from outlast.placement.plan import Move
    from outlast.wire.client import AgentClient

MOVE_S = 3600.0


def balance(
    ctx: typer.Context,
    apply: Annotated[bool, typer.Option("--apply", help="Make the moves, after a yes.")] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take back what the last --apply here moved.")
    ] = False,
    spread: Annotated[
        bool, typer.Option("--spread", help="Also pull VMs of soft groups apart.")
    ] = False,
    consolidate: Annotated[
        bool, typer.Option("--consolidate", help="The opposite: empty hosts, for power-off.")
    ] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Search for minutes where the pool stays uneven.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for each wave.")] = MOVE_S,
) -> None:
    """Even out memory and CPU by few live migrations; without --apply only show them.

    No move makes the fullest host fuller, breaks a rule, or takes the place from a VM at which it
    would restart when its host dies.

    \b
    Examples:
      outlast pool balance
      outlast pool balance --apply
      outlast pool balance --undo
    """
    from outlast.cli.maintaining import ask
    from outlast.cli.plan import picture_now
    from outlast.placement import balance as balancing
    from outlast.placement import evacuate, plan

    chosen = options(ctx)
    client = chosen.client()
    if thorough and (undo or spread or consolidate):
        raise InvalidInput(
            "--thorough belongs to evening out only", hint="without the other options"
        )
    if undo:
        moves = _to_undo(client)
        lines = [f"  {move}" for move in moves]
        ask(chosen, [*lines, f"{len(moves)} VMs go back"], "Move them back?", yes=yes)
        made = _make(client, [[move] for move in moves], timeout, quiet=chosen.json)
        _file().unlink(missing_ok=True)
        print_json({"made": [asdict(m) for m in made]}) if chosen.json else say("they are back")
        return
    picture = picture_now(client)
    if consolidate:
        found = evacuate.consolidate(picture)
    else:
        dice = Random(1) if thorough else None  # noqa: S311 - the same answer each time
        found = balancing.spread(picture) if spread else balancing.balance(picture, dice)
    grouped = plan.waves(picture, found.moves, client.status().settings.moves_at_once)
    lines = [f"{n:4} {move}" for n, wave in enumerate(grouped, 1) for move in wave]
    if not apply or not found.moves:
        if chosen.json:
            print_json({**asdict(found), "sentence": found.sentence})
            return
        for line in [*lines, found.sentence]:
            say(line)
        if found.moves:
            say("nothing was moved; --apply makes these moves")
        return
    ask(chosen, [*lines, found.sentence], f"Move {len(found.moves)} VMs?", yes=yes)
    made = _make(client, grouped, timeout, quiet=chosen.json, keep=True)
    if chosen.json:
        print_json({"made": [asdict(m) for m in made]})
    else:
        say(f"{len(made)} VMs have moved; 'outlast pool balance --undo' takes it back")


def _make(
    client: AgentClient, waves: Sequence[Sequence[Move]], timeout_s: float, *, quiet: bool,
    keep: bool = False,
) -> list[Move]:  # fmt: skip
    """Rules 2 and 3. Raises PoolTrouble naming what moved before it stopped."""
    from outlast.cli.moving import wait_for_moves, wished

    made: list[Move] = []
    for wave in waves:
        try:
            there: dict[str, tuple[str, int]] = {}
            for move in wave:
                one, _ = wished(client, [move.vm], move.target)
                there |= one
            wait_for_moves(client, there, timeout_s, quiet=quiet)
        except OutlastError as trouble:
            raise PoolTrouble(
                f"stopped after {len(made)} moves: {trouble.sentence}",
                hint="what moved stays; 'outlast pool balance' plans anew from there",
            ) from trouble
        made += wave
        if keep:
            _keep(made)
    return made


def _file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(state) / "outlast/last-balance.json"


def _keep(moves: Sequence[Move]) -> None:
    path = _file()
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps([asdict(move) for move in moves]))
    fresh.replace(path)


def _to_undo(client: AgentClient) -> list[Move]:
    """The moves that lead back, for VMs that are still there. Raises NotFound."""
    from outlast.placement.plan import Move, undo

    try:
        made = [Move(**known) for known in json.loads(_file().read_text())]
    except (OSError, ValueError, TypeError):
        raise NotFound("there is nothing to take back", hint="--undo follows an --apply") from None
    where = {vm.name: vm.host for vm in client.vms()}
    return [move for move in undo(made) if where.get(move.vm) == move.source]
