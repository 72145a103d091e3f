"""The shape of what a host measured of its own beats; a part of the pool's status (shapes.py)."""

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
    advice: str = ""  # the preset that would suit these beats; "" = the present one does
