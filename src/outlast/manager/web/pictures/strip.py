"""The last seconds of one heartbeat as a row of ticks, the newest at the right.

One path a state: full ticks are in time, half ones late, flat ones missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

TICKS = 24
STEP, HEIGHT = 4, 14
TOPS = {"ok": 1, "late": 5, "missed": 11, "none": 13}


def strip(ticks: Sequence[str], title: str) -> str:
    """ticks: ok | late | missed | none, oldest first; at most TICKS of them are drawn."""
    shown = [*["none"] * (TICKS - len(ticks)), *ticks][-TICKS:]
    paths: dict[str, list[str]] = {}
    for n, tick in enumerate(shown):
        top = TOPS[tick]
        paths.setdefault(tick, []).append(f"M{n * STEP + 0.5:g} {top}h2.6V{HEIGHT}h-2.6z")
    drawn = "".join(f'<path class="t-{k}" d="{"".join(d)}"/>' for k, d in sorted(paths.items()))
    return (
        f'<svg class="o-strip" viewBox="0 0 {TICKS * STEP} {HEIGHT}" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>{drawn}</svg>'
    )
