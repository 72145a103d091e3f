"""Shapes of fire drills; a part of the agent's API (shapes.py has the rules)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

DrillKind = Literal["power", "network", "storage", "agent", "vm"]
WHO_MAX = 100


class DrillWish(BaseModel):
    """Have a failure take place. `vm`: a canary; with it the host need not be named.

    `who`: for whom a manager asks; the drill is noted as theirs, through the caller.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: DrillKind
    host: str = ""
    vm: str = ""
    who: str = Field(default="", max_length=WHO_MAX, pattern=r"^[^\x00-\x1f]*$")


class ForeseenInfo(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    vm: str
    host: str


class DrillInfo(BaseModel):
    """The pool's newest drill: wished, begun, ended with its report, or refused with the reason."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    host: str
    kind: str
    vm: str = ""
    by: str = ""
    state: str  # wished | begun | ended | refused
    for_s: int = 0
    foreseen: list[ForeseenInfo] = []  # in the order of the starts
    earliest_s: float = 0
    latest_s: float = 0
    wished_s: float = 0  # wall clock
    begun_s: float = 0
    matched: bool = False
    report: list[str] = []
