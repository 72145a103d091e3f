"""What a failure would do to a pool, in three numbers that can be watched over time (pure).

Rule: the same placement and the same drill that people are shown, so the numbers cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from outlast.placement.snapshot import read
from outlast.placement.spare import every
from outlast.readiness.drills import rehearse, start_seconds
from outlast.settings import preset
from outlast.wire.shapes import PoolStatus, TimelineEntry

EVERY_S = 60.0  # how often one is worth its CPU time
REST = 9.0  # times as long as it took: a tenth of one core at most
HISTORY_S, NOTES_MAX = 30 * 86400.0, 2000  # what measured starts are taken from


@dataclass(frozen=True, slots=True)
class Forecast:
    unsafe_hosts: int  # whose failure would leave a protected VM without a place
    homeless: int  # the most VMs that one failure would leave so
    failover_s: float  # from a host's power failure to the last VM's start, at the latest


def forecast(status: PoolStatus, picture_text: str, notes: list[TimelineEntry]) -> Forecast:
    """Raises OutlastError for a picture without hosts, or a timing that is not known."""
    picture = read(picture_text)
    failures = every(picture)
    left = [len(failure.homeless) for failure in failures.values()]
    drill = rehearse(
        status, picture, preset(status.preset), picture.hosts[0].name, "power",
        start_seconds(notes),
    )  # fmt: skip
    return Forecast(sum(n > 0 for n in left), max(left, default=0), drill.latest_s or 0.0)
