"""What the shell may complete beside commands and options: names that the agent knows.

Rule: a shell that waits is worse than no name; without an answer in time nothing is offered.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.context import Options
from outlast.errors import OutlastError

if TYPE_CHECKING:
    from outlast.wire.client import AgentClient

WAIT_S = 1.5


def vms(incomplete: str) -> list[str]:
    return _names(lambda client: [vm.name for vm in client.vms()], incomplete)


def hosts(incomplete: str) -> list[str]:
    return _names(lambda client: [host.name for host in client.status().hosts], incomplete)


def _names(ask: Callable[[AgentClient], list[str]], incomplete: str) -> list[str]:
    said = os.environ.get("OUTLAST_AGENT", ""), os.environ.get("OUTLAST_MANAGER", "")
    try:
        found = ask(Options(agent=said[0], manager=said[1]).client(WAIT_S))
    except OutlastError:
        return []
    return sorted(name for name in found if name.startswith(incomplete))


Vm = Annotated[str, typer.Argument(metavar="VM", help="The VM's name.", autocompletion=vms)]
