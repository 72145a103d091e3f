"""Shapes of what a host says of its own readiness; parts of the pool's status (shapes.py)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class MarginInfo(BaseModel):
    """From the start of one confirmed beat to the confirmation of the next, over a day at most.

    When it reaches `fence_ms` this host's VMs are ended.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    beats: int = 0  # 0: nothing is known yet
    median_ms: float = 0
    p99_ms: float = 0
    p999_ms: float = 0
    longest_ms: float = 0
    fence_ms: float = 0
    beat_ms: float = 0  # what a beat takes at best
    # how old the newest network beat of a link that stayed up was when the next one came
    unheard_median_ms: float = 0
    unheard_p99_ms: float = 0
    unheard_ms: float = 0  # at most
    link_lost_ms: float = 0  # then a link counts as down
    advice: str = ""  # the preset that would suit these beats; "" = the present one does


class LightInfo(BaseModel):
    """One thing that is not as it should be on a host, as it says itself."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    colour: str  # yellow | red
    what: str
    sentence: str
    hint: str = ""
