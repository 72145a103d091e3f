"""`outlast plan` and the two questions of `outlast pool`: placement, with or without a service.

Rules:
1. A plan is advice: nothing here changes a pool.
2. With --from nothing but the file is read; no agent is asked.
3. What an agent does not know (measured load) is not made up: it is left at the picture's defaults,
   and docs/operating/placement.md says which.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.context import Options, options, print_json, say, warn
from outlast.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from outlast.placement.picture import Picture, Vm
    from outlast.placement.plan import Plan
    from outlast.wire.client import AgentClient

SIZE_MAX_BYTES = 256 << 20
HOSTS = typer.Option(metavar="HOST[,HOST]", help="What if these die at once?")


def plan(
    ctx: typer.Context,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="A snapshot; - = standard input.")
    ] = None,
    fail: Annotated[str, HOSTS] = "",
    evacuate: Annotated[str, typer.Option(metavar="HOST", help="Moves that empty it.")] = "",
    balance: Annotated[bool, typer.Option("--balance", help="Few moves, worth it.")] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Search for minutes where --balance stays uneven.")
    ] = False,
    spread: Annotated[
        bool, typer.Option("--spread", help="The same, and soft groups are pulled apart.")
    ] = False,
    consolidate: Annotated[
        bool, typer.Option("--consolidate", help="Empty hosts, for power-off.")
    ] = False,
    place: Annotated[
        str, typer.Option(metavar="SPEC", help="Where a new VM goes: memory=8GiB,vcpus=4.")
    ] = "",
    at_once: Annotated[int, typer.Option(help="Moves that may run at the same time.")] = 1,
) -> None:
    """What the pool would do, without doing it; from a snapshot, or from the agent here.

    With none of the questions: which failures of one host the pool survives.

    \b
    Examples:
      outlast plan --from p.json --fail b,c
      outlast plan --from p.json --balance --at-once 4
      outlast plan --place memory=8GiB,vcpus=4,networks=br0+br1
    """
    chosen = options(ctx)
    asked = [bool(fail), bool(evacuate), balance, spread, consolidate, bool(place)]
    if sum(asked) > 1:
        raise InvalidInput("one question at a time", hint="--fail, --evacuate, --balance or ...")
    if thorough and not balance:
        raise InvalidInput(
            "--thorough belongs to --balance", hint="outlast plan --balance --thorough"
        )
    if at_once < 1:
        raise InvalidInput(f"--at-once {at_once} moves nothing", hint="at least 1")
    picture = _read(source) if source else picture_now(chosen.client())
    if fail:
        _print_failure(chosen, picture, fail)
    elif evacuate or balance or spread or consolidate:
        from outlast.placement import balance as balancing
        from outlast.placement import evacuate as emptying

        if evacuate:
            found = emptying.evacuate(picture, evacuate)
        elif consolidate:
            found = emptying.consolidate(picture)
        else:
            dice = Random(1) if thorough else None  # noqa: S311 - the same answer each time
            found = balancing.spread(picture) if spread else balancing.balance(picture, dice)
        _print_plan(chosen, picture, found, at_once)
    elif place:
        _print_place(chosen, picture, place)
    else:
        _print_every(chosen, picture)


def snapshot(
    ctx: typer.Context,
    mask: Annotated[bool, typer.Option(help="Numbers instead of names, for bug reports.")] = False,
) -> None:
    """The pool as placement sees it, as JSON: for `outlast plan --from`, and bug reports.

    \b
    Examples:
      outlast pool snapshot > p.json
      outlast pool snapshot --mask > report.json
    """
    from outlast.placement.masking import masked
    from outlast.placement.snapshot import write

    picture = picture_now(options(ctx).client())
    print(write(masked(picture) if mask else picture), end="")


def what_if(
    ctx: typer.Context,
    fail: Annotated[str, HOSTS] = "",
    any_: Annotated[
        int, typer.Option("--any", metavar="N", help="Any N hosts: which choices are not survived.")
    ] = 0,
) -> None:
    """Who restarts where, and who does not, should these hosts die now.

    \b
    Examples:
      outlast pool what-if --fail b,c
      outlast pool what-if --any 2
    """
    chosen = options(ctx)
    if bool(fail) == bool(any_):
        raise InvalidInput("say which hosts fail, or how many", hint="--fail b,c or --any 2")
    picture = picture_now(chosen.client())
    if fail:
        _print_failure(chosen, picture, fail)
    else:
        _print_any(chosen, picture, any_)


def picture_now(client: AgentClient) -> Picture:
    """The pool as the agent's placement sees it. Raises PoolTrouble while it knows too little."""
    from outlast.placement.snapshot import read

    return read(client.picture())


def vm_of(spec: str) -> Vm:
    """`memory=8GiB,vcpus=4,networks=br0+br1` as a VM. InvalidInput names the part."""
    from outlast.placement.snapshot import read_vm
    from outlast.wire.sizes import MIB, parse_size

    found: dict[str, object] = {"name": "new", "vcpus": 1}
    for part in spec.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or not value:
            raise InvalidInput(f"--place: '{part}' is not NAME=VALUE",
                               hint="memory=8GiB,vcpus=4,networks=br0+br1")  # fmt: skip
        if name == "memory":
            found["memory_mib"] = -(-parse_size(value) // MIB)
        elif name in {"networks", "storage", "preferred"}:
            found[name] = value.split("+")
        elif name in {"vcpus", "start_order"} and value.lstrip("-").isdecimal():
            found[name] = int(value)
        elif name == "strict":
            found[name] = value in {"yes", "true"}
        else:
            found[name] = value
    return read_vm(found, "--place")


def _read(source: Path) -> Picture:
    from outlast.placement.snapshot import read

    try:
        if str(source) == "-":
            return read(sys.stdin.read(SIZE_MAX_BYTES))
        if source.stat().st_size > SIZE_MAX_BYTES:
            raise InvalidInput(f"{source} is too large for a snapshot", hint="is it the file?")
        return read(source.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InvalidInput(f"{source} is not text", hint="is it a snapshot?") from None
    except OSError as error:
        raise NotFound(f"{source} cannot be read: {error.strerror}",
                       hint="outlast pool snapshot > p.json makes one") from None  # fmt: skip


def _print_failure(chosen: Options, picture: Picture, hosts: str) -> None:
    from outlast.placement.spare import what_if

    found = what_if(picture, [h.strip() for h in hosts.split(",") if h.strip()])
    if chosen.json:
        print_json({**asdict(found), "survived": found.survived, "sentence": found.sentence})
        return
    say(found.sentence)
    for n, r in enumerate(found.restarts, 1):
        say(f"{n:4} {r.vm}: {r.source} -> {r.target}" if r.target else f"{n:4} {r.vm}: stays off")


def _print_any(chosen: Options, picture: Picture, count: int) -> None:
    from outlast.placement.spare import any_of, any_sentence

    found = any_of(picture, count)
    lost = [one for one in found if not one.survived]
    if chosen.json:
        told = [{"hosts": one.hosts, "homeless": one.homeless, "sentence": one.sentence}
                for one in lost]  # fmt: skip
        print_json({"choices": len(found), "lost": told, "survived": not lost})
        return
    say(any_sentence(found, count))
    for one in lost:
        say(f"  {one.sentence}")


def _print_every(chosen: Options, picture: Picture) -> None:
    from outlast.placement.spare import every

    found = every(picture)
    lost = [f for f in found.values() if not f.survived]
    if chosen.json:
        print_json({"survives_one": not lost, "hosts": {
            name: {"survived": f.survived, "sentence": f.sentence} for name, f in found.items()
        }})  # fmt: skip
        return
    said = f"the pool survives the failure of {len(found) - len(lost)} of its {len(found)} hosts"
    say(said + (" alone" if len(found) > 1 else ""))
    for f in lost:
        warn(f.sentence)


def _print_plan(chosen: Options, picture: Picture, found: Plan, at_once: int) -> None:
    from outlast.placement.plan import waves

    grouped = waves(picture, found.moves, at_once)
    if chosen.json:
        print_json({**asdict(found), "sentence": found.sentence,
                    "waves": [[m.vm for m in w] for w in grouped]})  # fmt: skip
        return
    for n, wave in enumerate(grouped, 1):
        for move in wave:
            say(f"{n:4} {move}")
    say(found.sentence)


def _print_place(chosen: Options, picture: Picture, spec: str) -> None:
    from outlast.errors import PoolTrouble
    from outlast.placement.choose import best

    vm = vm_of(spec)
    if any(v.name == vm.name for v in picture.vms):
        raise InvalidInput(f"--place: there is a VM {vm.name} already", hint="add name=OTHER")
    found = best(picture, vm)
    if chosen.json:
        print_json({**asdict(found), "why": found.why})
    elif found.host:
        say(f"{vm.name} goes to {found.host}: {found.why}")
    if not found.host:
        raise PoolTrouble(f"{vm.name} fits nowhere: {found.why}", hint="free memory or add a host")
