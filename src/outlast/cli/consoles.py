"""`outlast vm console|screen`: a VM's serial line in this terminal, its screen for a VNC viewer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.completing import Vm
from outlast.cli.context import options
from outlast.errors import InvalidInput

if TYPE_CHECKING:
    from outlast.model import Line
    from outlast.wire.client import AgentClient
    from outlast.wire.target import Target


def console(ctx: typer.Context, name: Vm) -> None:
    """The VM's serial console, from whatever host it runs on. Ctrl-] leaves."""
    from outlast.cli.terminal import run_console

    run_console(_line_to(options(ctx).client(), name, "console"), name)


def screen(
    ctx: typer.Context,
    name: Vm,
    socket: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where the viewer finds it.")
    ] = None,
) -> None:
    """The VM's screen for a VNC viewer on this machine: a unix socket that only you can open."""
    from tempfile import TemporaryDirectory

    from outlast.cli.screen import run_screen

    target = _line_to(options(ctx).client(), name, "screen")
    with TemporaryDirectory(prefix="outlast-") as private:
        run_screen(target, name, socket or Path(private) / "screen")


def _line_to(client: AgentClient, vm: str, what: Line) -> Target:
    """The agent to be dialled. Raises InvalidInput for a manager, which has it in the browser."""
    from outlast.wire.manager_client import ManagerClient

    if isinstance(client, ManagerClient):
        hint = f"{client.page(vm, what)}, or --agent https://HOST:7791"
        raise InvalidInput(f"through a manager, the {what} of {vm} is in the browser", hint=hint)
    return client.target
