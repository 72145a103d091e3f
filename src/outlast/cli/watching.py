"""`--watch`: the same answer again and again, until Ctrl-C.

Rule: an agent that is away for a while is waited for, and what it said last is not shown as if it
were the present.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Never, TypeVar

import typer

from outlast.cli.context import Options, stdout
from outlast.cli.form import one_of_many
from outlast.errors import OutlastError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import RenderableType

EVERY_S = 1.0
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")]

T = TypeVar("T", bound="BaseModel")


def watching(chosen: Options, look: Callable[[], T], view: Callable[[T], RenderableType]) -> Never:
    """look: asks; view: shows it to people. For programs each answer is a document of its own."""
    if chosen.json:
        while True:
            print(one_of_many(look().model_dump(mode="json")), flush=True)
            time.sleep(EVERY_S)
    from rich.live import Live
    from rich.text import Text

    console = stdout()
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            try:
                live.update(view(look()), refresh=True)
            except OutlastError as error:
                live.update(Text(f"{error.sentence}\n{error.hint}", style="red"), refresh=True)
            time.sleep(EVERY_S)
