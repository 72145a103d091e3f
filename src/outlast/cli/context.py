"""What all commands share: the global options, the agent's client, output and its two shapes."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from outlast.cli.form import whole
from outlast.errors import InvalidInput, OutlastError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

    from outlast.wire.client import AgentClient
    from outlast.wire.manager_client import ManagerPlace
    from outlast.wire.shapes import HaSwitch

PIPE_WIDTH = 200  # columns when nobody looks: nothing is cut before the sentences
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Options:
    """The global options. Where they lead is found out once."""

    json: bool = False  # answers for programs, in the form of form.py
    agent: str = ""
    manager: str = ""
    debug: bool = False

    def client(self, timeout_s: float = 12) -> AgentClient:
        """An agent's client, straight or through a manager. Raises InvalidInput, Refused."""
        from outlast.wire.client import AgentClient

        place = self._manager
        if place is None:
            return AgentClient(self.agent, timeout_s=timeout_s)
        from outlast.wire.manager_client import ManagerClient

        return ManagerClient(place, timeout_s=timeout_s)

    @property
    def afar(self) -> bool:
        """Was an agent named, or a manager?"""
        return bool(self.agent) or self._manager is not None

    @property
    def here(self) -> bool:
        """Does the agent of this very machine answer? Then folders are those of this machine."""
        from outlast.wire.target import parse_target

        return self._manager is None and bool(parse_target(self.agent).socket)

    @cached_property
    def _manager(self) -> ManagerPlace | None:
        """An option goes before a login, and that counts where no agent runs."""
        from outlast.cli import logins

        if self.agent:
            return None
        if not self.manager and _agent_here():
            return None
        return logins.place_of(self.manager)


def _agent_here() -> bool:
    """Has this machine an agent, or does the environment name one?"""
    from outlast.wire.target import parse_target

    target = parse_target()
    return not target.socket or Path(target.socket).exists()


def options(ctx: typer.Context) -> Options:
    found = ctx.find_object(Options)
    return found if found is not None else Options()


def stdout() -> Console:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


def stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """A line for people, on stdout."""
    print(text, flush=True)


def warn(text: str) -> None:
    """A line beside the answer, on stderr."""
    print(text, file=sys.stderr, flush=True)


def typed(what: str, *, hide: bool = False, twice: bool = False) -> str:
    """What somebody types, or the next line of stdin when that is no terminal."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt(what, hide_input=hide, confirmation_prompt=twice, err=True))


def print_json(value: BaseModel | Sequence[BaseModel] | dict[str, Any]) -> None:
    """The answer for programs, whole, on stdout: JSON, or YAML when that was asked for."""
    if isinstance(value, dict):
        plain: object = value
    elif isinstance(value, Sequence):
        plain = [item.model_dump(mode="json") for item in value]
    else:
        plain = value.model_dump(mode="json")
    print(whole(plain), flush=True)


def print_error(error: OutlastError, as_json: bool) -> None:
    """An error on stderr, as a sentence with a hint or as a JSON object."""
    if as_json:
        body = {"code": error.code, "sentence": error.sentence, "hint": error.hint}
        body["field"] = str(getattr(error, "field", ""))
        warn(json.dumps({"error": body}))
        return
    warn(f"outlast: {error.sentence}")
    if error.hint:
        warn(f"   hint: {error.hint}")


def ha_switch(state: str, why: str, span: str) -> HaSwitch:
    """The wish of `ha on|off`. Raises InvalidInput."""
    from outlast.wire.shapes import HaSwitch, make

    if state not in {"on", "off"}:
        raise InvalidInput(f"HA is on or off, not {state!r}", hint="outlast vm ha --help")
    if state == "on" and (why or span):
        raise InvalidInput("--why and --for are for off", hint="outlast vm ha NAME on")
    for_s = round(parse_span(span)) if span else None
    return make(HaSwitch, on=state == "on", why=why, for_s=for_s)


def parse_span(text: str) -> float:
    """Seconds of a span like 90s, 30m, 1h, 2d. Raises InvalidInput."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if match is None:
        raise InvalidInput(f"{text[:40]!r} is not a span of time", hint="like 90s, 30m, 1h or 2d")
    return int(match[1]) * _SPANS[match[2]]
