"""`outlast vm set`: where and when a VM runs, and its size. `vm create` has these options, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.completing import vms
from outlast.cli.context import options, parse_span, print_json, say
from outlast.errors import InvalidInput

if TYPE_CHECKING:
    from outlast.wire.shapes import VmChange

Priority = Annotated[
    str | None,
    typer.Option(help="high, normal, low, or best-effort: who gets a place when room is short."),
]
Order = Annotated[
    int | None, typer.Option("--start-order", help="0 starts first; the next when it runs.")
]
Delay = Annotated[
    str | None, typer.Option("--start-delay", metavar="SPAN", help="... and so long after it: 30s.")
]
Ready = Annotated[
    str | None,
    typer.Option(
        "--ready",
        metavar="agent|tcp:[ADDRESS:]PORT|delay:SPAN|runs",
        help="When those that start after it may: its agent or a port answers, or after a while.",
    ),
]
Likes = Annotated[
    list[str] | None,
    typer.Option("--like", metavar="HOST", help="Where it runs when it can. Repeat for more."),
]
Groups = Annotated[
    list[str] | None,
    typer.Option(
        "--group",
        metavar="apart:NAME|together:NAME",
        help="VMs of a group run on different hosts, or on one. A ? behind the name: if possible.",
    ),
]


def change_of(
    priority: str | None = None, order: int | None = None, delay: str | None = None,
    prefer: list[str] | None = None, likes: list[str] | None = None,
    groups: list[str] | None = None, memory: str | None = None, vcpus: int | None = None,
    ready: str | None = None,
) -> VmChange:  # fmt: skip
    """The wish. "any" as the only host, or "none" as the only group, empties a list."""
    from outlast.wire.shapes import VmChange, make

    given = {
        "priority": priority, "start_order": order, "memory": memory, "vcpus": vcpus,
        "start_delay_s": round(parse_span(delay)) if delay else None,
        "ready": None if ready is None else _ready(ready),
        "preferred": [] if prefer == ["any"] else prefer or None,
        "likes": [] if likes == ["any"] else likes or None,
        "groups": [] if groups == ["none"] else [_group(g) for g in groups or []] or None,
    }  # fmt: skip
    return make(VmChange, **{name: value for name, value in given.items() if value is not None})


def _ready(text: str) -> str:
    kind, _, span = text.partition(":")
    if kind == "delay":
        return f"delay:{round(parse_span(span))}"
    return "" if text == "runs" else text


def _group(text: str) -> dict[str, object]:
    kind, colon, name = text.partition(":")
    if not colon or kind not in {"apart", "together"}:
        raise InvalidInput(f"--group {text[:60]!r}?", hint="like apart:db or together:app?")
    return {"name": name.removesuffix("?"), "kind": kind, "hard": not name.endswith("?")}


def set_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The VM's name.", autocompletion=vms)],
    priority: Priority = None,
    start_order: Order = None,
    start_delay: Delay = None,
    ready: Ready = None,
    prefer: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Run only on these hosts; 'any' lifts that."),
    ] = None,
    like: Likes = None,
    group: Groups = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="More at once, up to --memory-max; less later."),
    ] = None,
    vcpus: Annotated[
        int | None,
        typer.Option(help="More at once, up to --vcpus-max; fewer later."),
    ] = None,
) -> None:
    """Change where and when a VM runs, and its size; what can wait, from its next start on.

    What runs stays where it is. Processors and memory (in steps of 128 MiB) are added at once to a
    VM that was created with --vcpus-max and --memory-max.

    \b
    Examples:
      outlast vm set db --priority high --like a
      outlast vm set web --start-order 1 --start-delay 20s --group apart:web
      outlast vm set web --group none --prefer any
      outlast vm set db --ready tcp:5432
      outlast vm set db --vcpus 8 --memory 16GiB
    """
    chosen = options(ctx)
    change = change_of(
        priority, start_order, start_delay, prefer, like, group, memory, vcpus, ready
    )
    if not change.model_fields_set:
        raise InvalidInput("there is nothing to change", hint="outlast vm set --help")
    done = chosen.client().place(name, change)
    print_json(done) if chosen.json else say(done.sentence)
