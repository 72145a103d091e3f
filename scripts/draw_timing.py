#!/usr/bin/env python3
"""Draws docs/pictures/timing.svg: why T_dead is long enough, to scale, from settings.py.

    python scripts/draw_timing.py           writes it anew; tests/test_docs.py says when it is old
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from outlast.settings import DEFAULT_PRESET, S, Timing, preset

PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "timing.svg"
WIDTH, HEIGHT, LEFT, RIGHT = 920, 330, 110, 24
VICTIM_Y, OBSERVER_Y, AXIS_Y, BAR = 90, 205, 290, 26
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #1c2430 } .small { font-size: 12px }
.runs { fill: #3f8f5f } .dies { fill: #d08a2e } .settles { fill: #6f7fb5 } .waits { fill: #8fa3b8 }
.on { fill: #fff; font-weight: 600 } line { stroke: #1c2430; stroke-width: 1.2 }
.hair { stroke-dasharray: 3 4; stroke-opacity: .45 }
@media (prefers-color-scheme: dark) { text { fill: #dde5ee } line { stroke: #dde5ee } }
"""


@dataclass(frozen=True)
class Drawing:
    """Seconds become pixels; what is added becomes lines of SVG."""

    end_s: float
    lines: list[str]

    def x(self, at_s: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * at_s / self.end_s, 1)

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> None:
        place = f'x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}"'
        self.lines.append(f"<text {place}>{escape(words)}</text>")

    def bar(self, begin_s: float, end_s: float, y: float, kind: str, words: str) -> None:
        x, width = self.x(begin_s), self.x(end_s) - self.x(begin_s)
        self.lines.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{BAR}" rx="3" class="{kind}"/>'
        )
        self.text(x + width / 2, y + 18, words, "on")

    def hair(self, at_s: float, top: float, bottom: float) -> None:
        x = self.x(at_s)
        self.lines.append(
            f'<line x1="{x:g}" y1="{top:g}" x2="{x:g}" y2="{bottom:g}" class="hair"/>'
        )

    def mark(self, at_s: float, y: float, words: str, anchor: str = "middle") -> None:
        self.hair(at_s, y + 4, AXIS_Y)
        self.text(self.x(at_s), y, words, "small", anchor)


def drawn(timing: Timing) -> str:
    """The picture of one preset as SVG text."""
    fence_s, kill_s, settle_s, dead_s = (
        ns / S for ns in (timing.fence_ns, timing.kill_ns, timing.settle_ns, timing.dead_ns)
    )
    gone_s = fence_s + kill_s
    d = Drawing(dead_s * 1.04, [])
    d.text(12, VICTIM_Y + 18, "victim", anchor="start")
    d.text(12, OBSERVER_Y + 18, "observer", anchor="start")
    d.mark(0, VICTIM_Y - 40, "its last confirmed write starts", "start")
    d.mark(fence_s, VICTIM_Y - 40, "deadline D: the guard freezes and kills")
    d.mark(gone_s, VICTIM_Y - 18, "D + K: nothing runs, or the host is reset")
    d.bar(0, fence_s, VICTIM_Y, "runs", f"F {fence_s:g} s: its VMs may run")
    d.bar(fence_s, gone_s, VICTIM_Y, "dies", f"K {kill_s:g} s")
    d.bar(gone_s, gone_s + settle_s, VICTIM_Y, "settles", f"X {settle_s:g} s")
    watch_s = fence_s + kill_s - timing.watchdog_s
    d.text(d.x(watch_s), VICTIM_Y + BAR + 18, f"a watchdog of {timing.watchdog_s} s, petted last "
           "here, still fires in time", "small", "end")  # fmt: skip
    d.hair(watch_s, VICTIM_Y + BAR, VICTIM_Y + BAR + 22)
    d.bar(0, dead_s, OBSERVER_Y, "waits", f"T_dead {dead_s:g} s: the block does not change")
    d.text(
        d.x(0),
        OBSERVER_Y - 8,
        "the read that last saw it change ends, no earlier than that",
        "small",
        "start",
    )
    d.text(d.x(dead_s), OBSERVER_Y - 8, "a good read STARTS: proof", "small", "end")
    d.text(d.x(dead_s), OBSERVER_Y + BAR + 18, "lease taken, VMs start elsewhere", "small", "end")
    d.hair(dead_s, OBSERVER_Y - 4, AXIS_Y)
    d.lines.append(f'<line x1="{LEFT}" y1="{AXIS_Y}" x2="{WIDTH - RIGHT}" y2="{AXIS_Y}"/>')
    for at_s in sorted({0.0, fence_s, gone_s, gone_s + settle_s, dead_s}):
        last = at_s == dead_s
        d.text(d.x(at_s), AXIS_Y + (32 if last else 17), f"{at_s:g} s", "small")
    title = f"Timing of the preset {timing.preset}: F + K + X is less than T_dead"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n" + "\n".join(d.lines) + "\n</svg>\n"
    )


if __name__ == "__main__":
    PICTURE.write_text(drawn(preset(DEFAULT_PRESET)), encoding="utf-8")
