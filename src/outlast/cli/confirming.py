"""`outlast host confirm-off`: a person knows that a host is off; nobody need wait for T_dead."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from outlast.cli.completing import hosts
from outlast.cli.context import options, print_json, say
from outlast.errors import InvalidInput, NotFound


def confirm_off(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The host's name.", autocompletion=hosts)],
    why: Annotated[str, typer.Option(help="How you know; it stands in the history.")] = "",
    sure: Annotated[
        str, typer.Option("--yes", metavar="NAME", help="Its name again, instead of a question.")
    ] = "",
) -> None:
    """Say that a host is off for certain, so that its VMs start elsewhere in seconds.

    Only for a machine without power, or one you have just switched off: if it still runs, and only
    its network and storage are gone, its VMs would run twice. A host that is heard or writes is
    refused; a host that begins to write again takes your word back.

    \b
    Example:
      outlast host confirm-off b --why "pulled both power cords"
    """
    chosen = options(ctx)
    client = chosen.client()
    status = client.status()
    if all(h.name != name for h in status.hosts):
        raise NotFound(f"there is no host '{name}' in this pool", hint="see 'outlast host list'")
    here = sorted(vm.name for vm in status.vms if vm.host == name)
    if not sure:
        if not sys.stdin.isatty():
            raise InvalidInput("nobody is there to ask", hint=f"--yes {name} does it")
        say(f"{name} holds {', '.join(here) or 'no VMs'}. If it still runs, they would run twice.")
        sure = typer.prompt("Type the host's name if it is off for certain")
    if sure != name:
        raise InvalidInput(f"'{sure}' is not '{name}': nothing was changed")
    done = client.confirm_off(name, why)
    print_json(done) if chosen.json else say(done.sentence)
