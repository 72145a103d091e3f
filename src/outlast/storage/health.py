"""The register `health/N`: what a host says of its own readiness. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostLight:
    """One thing that is not as it should be there."""

    colour: str  # yellow | red
    what: str
    sentence: str
    hint: str = ""  # what to do next


@dataclass(frozen=True, slots=True)
class HostHealth:
    """Beats of a day at most: from the start of one to the confirmation of the next."""

    slot: int
    lights: tuple[HostLight, ...] = ()
    beats: int = 0  # 0: nothing is known yet
    median_ns: int = 0
    p99_ns: int = 0
    p999_ns: int = 0
    longest_ns: int = 0
    # how old the newest network beat of a link that stayed up was when the next one came
    unheard_median_ns: int = 0
    unheard_p99_ns: int = 0
    unheard_ns: int = 0  # at most
    wall_s: int = 0  # when it was said
